"""A study as a config file defines it."""

import dataclasses
from collections.abc import Callable

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
    beside: tuple[str, ...] = ()  # other metrics that the law is fitted to
    stop_early: str = ""  # the rule by which learning rates are given up; see scaling.sweeps.stopping
    tune: float = 0.0  # share of the sweep's FLOPs for which cells ask for more rates; see scaling.study.bracketing
    fit_edges: bool = False  # whether cells whose best learning rate is at the edge are fitted
    config: dict = dataclasses.field(default_factory=dict)
