"""The plan of a study as text, and the estimate of its cost."""

import os
from collections.abc import Iterable

import jax

from scaling import families
from scaling.figures import words
from scaling.results import planned, records
from scaling.study import belonging, durations, fork
from scaling.training.counts import counts

ENDLESS = 2**31 - 1  # unique images of an endless stream


def estimate(plans, rate: float) -> dict:
    """Runs, programs, FLOPs and seconds of some plans before any run has finished; matrix products reach `rate` FLOP/s."""
    return {"runs": sum(len(plan.all_runs) for plan in plans), "programs": sum(plan.programs for plan in plans),
            "flops": sum(plan.flops() for plan in plans),
            "flops_executed": sum(plan.flops_executed() for plan in plans),
            "seconds": durations.expected_seconds(plans, rate, None)[0]}


def describe_data(plans, runner) -> list[str]:
    """What was found in each data set of some plans, and how often their runs repeat it."""
    by_source: dict = {}
    for run in (run for plan in plans for run in plan.all_runs):
        by_source.setdefault(runner.source(run.experiment).fingerprint, []).append(run.experiment)
    said: dict = {}
    for experiments in by_source.values():
        source = runner.source(experiments[0])
        for line in source.summary() if hasattr(source, "summary") else [f"data: {source.name}"]:
            said[line] = None
        if source.splits:  # an imported model was trained elsewhere
            said[f"  {repeats(experiments, runner)}"] = None
    return list(said)


def repeats(experiments: Iterable, runner) -> str:
    """A sentence about D, the unique data, and how often the largest runs repeat them."""
    experiments = list(experiments)
    unit, seen = experiments[0].data.unit, sorted({e.data.seen for e in experiments})
    unique = sorted({e.data.available(runner.source(e)) for e in experiments})
    most = max(e.data.seen / e.data.available(runner.source(e)) for e in experiments)
    amounts = words.count(seen[0]) if len(seen) == 1 else f"from {words.count(seen[0])} to {words.count(seen[-1])}"
    counted = ["endlessly many" if n >= ENDLESS else words.count(n) for n in (unique[0], unique[-1])]
    of = " to ".join(dict.fromkeys(counted))
    often = "no repeats" if most <= 1 else f"each of them is seen up to {most:.3g} times"
    return f"D {amounts} {unit} of {of} unique ones: {often}"


def describe(title: str, plan, goal, rate: float, runner) -> str:
    """The plan of a sweep as text, and that of its target (`goal`, or None): data, models, programs and cost."""
    unit, plans = plan.packs[0].experiment.data.unit, [plan] if goal is None else [plan, goal]
    lines = [title, "", *describe_data(plans, runner), "",
              "{:>18} {:>8} {:>14} {:>6} {:>5} {:>10}".format("size", "N", unit, "rates", "runs", "FLOPs")]
    by_family: dict = {}
    for pack in plan.packs:
        for_others = all(run.role == "start" for run in pack.runs)
        by_family.setdefault((pack.experiment.family, for_others), []).append(pack)
    lines += [_row(packs) + "  others begin with them" * for_others for (_, for_others), packs in by_family.items()]
    if goal is not None:
        largest, target = (max(counts(run.experiment, 0)["flops"] for run in planned.runs) for planned in (plan, goal))
        seeds = f"{len(goal.runs)} seeds, each " if goal.runs[1:] else ""
        lines.append(f"{_row(goal.packs)}  target, {seeds}{target / largest:.1f} times the largest run's")
    lines += ["", describe_packs(plan)]
    finished = records.load_records(runner.workdir) if runner.records.fingerprints() else None
    cost, (seconds, basis) = estimate(plans, rate), durations.expected_seconds(plans, rate, finished)
    lines += [f"{cost['runs']} runs in {cost['programs']} compiled programs, {cost['flops']:.3g} FLOPs of the models "
              f"({cost['flops_executed']:.3g} executed), about {words.duration(seconds)} on {jax.device_count()} "
              f"{jax.devices()[0].platform} device(s), {basis}"]
    return "\n".join(lines)


def describe_packs(plan) -> str:
    """A sentence about how many runs train side by side in one program."""
    widths = sorted({pack.width for pack in plan.packs})
    side_by_side = "one run after another" if widths == [1] else (
        f"{widths[0] if len(widths) == 1 else f'{widths[0]} to {widths[-1]}'} runs side by side")
    return f"one program trains {side_by_side}; --pack=n sets another number, --measure=always measures it"


def describe_done(plan, runner, older=None) -> list[str]:
    """What the workdir of `runner` holds of the sweep already, and what a fork would copy from the workdir of `older`."""
    held = runner.records.fingerprints()
    done = {run.fingerprint for run in plan.runs if run.fingerprint in held and runner.records.done(run.fingerprint)}
    begun = set(runner.under_way())
    busy = {run for pack in plan.packs if pack.name in begun for run in pack.runs}
    under_way = {run.fingerprint for run in plan.runs if run in busy} - done
    said = []
    if held or under_way:
        left = len(plan.runs) - len(done) - len(under_way)
        said.append(f"in {os.fspath(runner.workdir)}: {len(done)} of the sweep's {len(plan.runs)} runs are done, "
                    f"{len(under_way)} are under way, {left} are left")
    asked = belonging.asked_runs(belonging.read_study_file(runner.records.workdir) or {})
    mine = {run.fingerprint for run in plan.all_runs} | {*planned.forecast_targets(runner.workdir)} | asked
    if others := len(set(held) - mine):
        said.append(f"it also holds {others} records that are not in this plan, which nothing here reads")
    if older is not None:
        shared, own = set(fork.shared_runs(older, plan)), {run.fingerprint for run in plan.runs}
        others = f", and {words.plural(len(shared - own), 'run')} that they begin with," if shared - own else ""
        said.append(f"{len(shared & own)} of the sweep's {len(plan.runs)} runs{others} are copied from "
                    f"{os.fspath(older.workdir)}")
    return said


def describe_time(shares: dict[str, float]) -> str:
    """A sentence about what the time of the devices went to (see `scaling.sweeps.clock`), or "" where none was spent."""
    if not shares:
        return ""
    return (f"evaluation took {shares['evaluation_share']:.0%} of the devices' time, and waiting for programs to compile "
            f"{shares['compilation_share']:.0%}; between groups of runs they waited "
            f"{shares['waiting_seconds_per_group']:.2f} s each")


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
