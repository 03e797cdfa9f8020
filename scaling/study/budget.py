"""What tuning compares and may cost: runs that differ in their rate alone, FLOPs from the start, what a budget pays for."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from scaling import fields
from scaling.experiment import Experiment
from scaling.sweeps.plan import Pack, Run, Trunk
from scaling.training.step import run_span

RATE = "optim.learning_rate"

A = TypeVar("A")


def flops_of(sweep: Iterable[Experiment]) -> float:
    """FLOPs of the models in training some runs from their start, trunks shared: the same whatever is done already."""
    trunks: dict[Experiment, list[Run]] = {}
    for e in dict.fromkeys(sweep):
        shared = fields.replace(e, {e.data.length_knob: 1}) if run_span(e).cooldown else e
        trunks.setdefault(shared, []).append(Run(e, ""))
    by_length = [Trunk(tuple(sorted(runs, key=lambda run: run.experiment.steps))) for runs in trunks.values()]
    return float(sum(Pack((trunk,)).flops() for trunk in by_length))


def grant(asks: Mapping[A, Sequence[Experiment]], left: float) -> list[A]:
    """The asks, {ask: its runs}, that `left` FLOPs pay for together, the cheapest first."""
    granted: list[A] = []
    together: list[Experiment] = []
    for ask in sorted(asks, key=lambda ask: (flops_of(asks[ask]), ask)):
        if flops_of([*together, *asks[ask]]) <= left:
            granted.append(ask)
            together += asks[ask]
    return granted


def any_rate(run: Experiment) -> Experiment:
    """What runs share that differ in their learning rate and seed alone."""
    return fields.replace(run, {RATE: 1.0, "seed": 0})
