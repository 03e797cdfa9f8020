"""A study as a config file defines it."""

import dataclasses
from collections.abc import Callable, Mapping

from scaling import experiment as experiments


@dataclasses.dataclass(frozen=True)
class Definition:
    """A study as a config file defines it: the config, `sweep(config)` and `target(config, learning_rate)`."""

    title: str
    metric: str  # the metric of the records that is fitted and forecast
    sweep: list[experiments.Experiment]
    target: Callable[[float], experiments.Experiment] | None  # from a learning rate, or None for no forecast
    prompts: tuple[str, ...] = ()
    law: str = "chinchilla"  # a form of scaling.laws in N and D, or a rule of `laws.RULES` that chooses one
    fix: Mapping[str, float] = dataclasses.field(default_factory=dict)  # parameters that every law holds at a value
    beside: tuple[str, ...] = ()  # other metrics that the law is fitted to
    stop_early: str = ""  # the rule by which learning rates are given up; see scaling.sweeps.stopping
    tune: float = 0.0  # share of the sweep's FLOPs for which cells ask for more rates; see scaling.study.bracketing
    tune_sampler: str = "grid"  # what bracketed cells ask for rates within that share; see scaling.study.sampling
    tune_trials: int = 8  # the most rates that a cell asks of a sampler
    fits: bool = True  # whether a law is fitted; what trains for another purpose is told nothing of laws
    fit_edges: bool = False  # whether cells whose best learning rate is at the edge are fitted
    target_seeds: int = 1  # of the target, whose mean the forecast is compared with
    config: dict = dataclasses.field(default_factory=dict)

    def targets(self, learning_rate: float) -> list[experiments.Experiment]:
        """The target with each of its seeds; [] without a target."""
        return [] if self.target is None else with_seeds(self.target(learning_rate), self.target_seeds)


def with_seeds(target: experiments.Experiment, count: int) -> list[experiments.Experiment]:
    """An experiment and `count` - 1 others, with the seeds that follow its own."""
    return [target.replace({"seed": target.seed + i}) for i in range(count)]
