"""The plan of a study as text, and the estimate of its cost."""

import jax

from scaling import families
from scaling.figures import words
from scaling.training.counts import counts

EXPECTED_UTILISATION = 0.22  # share of the peak that training executes, for the estimate before anything has run


def estimate(plans, rate: float) -> dict:
    """Runs, programs, FLOPs and seconds of some plans, where matrix products reach `rate` FLOP/s."""
    executed = sum(plan.flops_executed() for plan in plans)
    return {"runs": sum(len(plan.runs) for plan in plans), "programs": sum(plan.programs for plan in plans),
            "flops": sum(plan.flops() for plan in plans), "flops_executed": executed,
            "seconds": executed / rate / EXPECTED_UTILISATION}


def describe(title: str, plan, goal, rate: float) -> str:
    """The plan of a sweep as text, and that of its target (`goal`, or None): models, data, programs and cost."""
    unit = plan.packs[0].experiment.data.unit
    lines = [title, "", "{:>18} {:>8} {:>14} {:>6} {:>5} {:>10}".format("size", "N", unit, "rates", "runs", "FLOPs")]
    by_family: dict = {}
    for pack in plan.packs:
        by_family.setdefault(pack.experiment.family, []).append(pack)
    lines += [_row(packs) for packs in by_family.values()]
    if goal is not None:
        largest = max(counts(run.experiment, 0)["flops"] for run in plan.runs)
        lines.append(f"{_row(goal.packs)}  target, {goal.flops() / largest:.1f} times the largest run's")
    cost = estimate([plan] if goal is None else [plan, goal], rate)
    lines += ["", f"{cost['runs']} runs in {cost['programs']} compiled programs, {cost['flops']:.3g} FLOPs of the models "
              f"({cost['flops_executed']:.3g} executed), about {cost['seconds'] / 60:.1f} minutes at "
              f"{EXPECTED_UTILISATION:.0%} of the {rate / 1e9:.0f} GFLOP/s that matrix products reach here on "
              f"{jax.device_count()} {jax.devices()[0].platform} device(s)"]
    return "\n".join(lines)


def _row(packs) -> str:
    """One line of the table: the packs of one size."""
    runs = [run for pack in packs for run in pack.runs]
    family = packs[0].experiment.family
    params = counts(packs[0].experiment, 0)["params_non_embedding"]
    seen = sorted({run.experiment.data.seen for run in runs})
    amounts = words.count(seen[0]) if len(seen) == 1 else f"{words.count(seen[0])} - {words.count(seen[-1])}"
    rates = {run.experiment.optim.learning_rate for run in runs}
    return (f"{_shape(family):>18} {words.count(params):>8} {amounts:>14} {len(rates):>6} {len(runs):>5} "
            f"{sum(pack.flops() for pack in packs):>10.2e}")


def _shape(family) -> str:
    width, layers = getattr(family, "width", None), getattr(family, "layers", None)
    return f"{families.name(family)} {width}x{layers}" if width and layers else families.name(family)
