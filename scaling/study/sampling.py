"""Learning rates that a sampler of optuna (Akiba et al. 1907.10902) proposes for a cell whose best rate is bracketed.

A proposal lies between the neighbours of the best rate, or a little beyond where these are close. It is a function of the
name of the sampler, of the cell, and of the losses at the rates that it has tried, in order: a study of optuna is made from
these in memory, asked again for all that it proposed before, and told what became of it. So there is no storage beside the
records. After a kill, in another process and in a later command the same rates are proposed. Another version of optuna may
propose others, so study.json names the version.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scaling.fields import ConfigError

GRID = "grid"
SAMPLERS = (GRID, "optuna", "optuna:tpe", "optuna:cmaes")  # optuna alone is optuna:tpe
NEEDS = {"optuna:tpe": ("optuna",), "optuna:cmaes": ("optuna", "cmaes")}
CLOSE = 1.05  # a cell is done where the neighbours of its best rate are within this factor of it
APART = 1.1  # neighbours of the best rate that are nearer than this factor do not bound the next proposal
DIGITS = 4  # of a proposed rate, so that rounding elsewhere changes no name
WORST = 1e30  # the loss of a rate that diverged, since samplers want finite ones


class Sampler(NamedTuple):
    """A sampler by its name in `SAMPLERS`, and how many rates a cell may ask of it."""
    name: str
    trials: int

    @property
    def full_name(self) -> str:
        return "optuna:tpe" if self.name == "optuna" else self.name

    def about(self) -> dict[str, str | int]:
        """What study.json says of it."""
        return {"name": self.full_name, "version": importlib.metadata.version("optuna"), "trials": self.trials}

    def propose(self, cell: str, grid: Mapping[float, float], asked: Sequence[tuple[float, float]]) -> float | None:
        """The next learning rate of a cell, or None where it has had its trials, or its best rate has close neighbours.

        grid: {rate: loss} of its own rates, at least three, with the best between two others. asked: (rate, loss) of what
        was proposed before, in order. Losses are better where they are less, and infinite where a run diverged.
        """
        if len(asked) >= self.trials:
            return None
        import optuna  # an extra, which takes most of a second to import

        losses = {rate: min(loss, WORST) for rate, loss in grid.items()}
        with warnings.catch_warnings(), _quietly(optuna):
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            space = _space(losses)
            study = optuna.create_study(sampler=self._build(optuna, cell))
            for rate in sorted(rate for rate in losses if space[0] <= rate <= space[1]):
                study.add_trial(optuna.trial.create_trial(
                    params={"rate": rate}, distributions={"rate": _between(optuna, space)}, value=losses[rate]))
            for rate, loss in asked:
                study.tell(study.ask({"rate": _between(optuna, space)}), min(loss, WORST))
                losses[rate] = min(loss, WORST)
                space = _space(losses) if self._narrows else space
            if _is_close(losses):
                return None
            found = study.ask({"rate": _between(optuna, space)}).params["rate"]
        rate = float(f"{found:.{DIGITS}g}")
        return None if rate in losses else rate

    @property
    def _narrows(self) -> bool:
        """Whether the space shrinks to the neighbours of the best rate; CMA-ES keeps its covariance in one space."""
        return self.full_name == "optuna:tpe"

    def _build(self, optuna, cell: str):
        seed = int.from_bytes(hashlib.sha256(f"{self.full_name} {cell}".encode()).digest()[:4], "big")
        if self.full_name == "optuna:cmaes":
            return optuna.samplers.CmaEsSampler(seed=seed)  # it begins in the middle of the space
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=3)


def sampler(name: str, trials: int) -> Sampler | None:
    """The Sampler of this name; None for the grid."""
    return None if name == GRID else Sampler(name, trials)


def check_sampler(name: str, trials: int, share: float) -> None:
    """Raises a ConfigError for a sampler that cannot be used."""
    if name not in SAMPLERS:
        raise ConfigError(f"tune_sampler={name!r} is no sampler; write one of {', '.join(SAMPLERS)}")
    if isinstance(trials, bool) or not isinstance(trials, int) or not 1 <= trials <= 100:
        raise ConfigError(f"tune_trials={trials!r} must be a number from 1 to 100, of rates that a cell may ask for")
    if name == GRID:
        return
    if not share:
        raise ConfigError(f"tune_sampler={name!r} proposes rates within the budget of tune, which is 0; write tune=0.5, or "
                          "tune_sampler=grid")
    missing = [package for package in NEEDS[Sampler(name, trials).full_name] if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigError(f"tune_sampler={name!r} needs {' and '.join(missing)}: pip install 'scaling[tune]', or write "
                          "tune_sampler=grid")


def _space(losses: Mapping[float, float]) -> tuple[float, float]:
    """The neighbours of the best rate that are `APART` from it: noise between close ones may not shut out a better one."""
    best = min(losses, key=lambda rate: (losses[rate], rate))
    below, above = [r for r in losses if r <= best / APART], [r for r in losses if r >= best * APART]
    return max(below, default=min(losses)), min(above, default=max(losses))


def _is_close(losses: Mapping[float, float]) -> bool:
    """Whether the best rate has two neighbours within `CLOSE`."""
    best = min(losses, key=lambda rate: (losses[rate], rate))
    return (any(best / CLOSE <= rate < best for rate in losses) and any(best < rate <= best * CLOSE for rate in losses))


def _between(optuna, space: tuple[float, float]):
    return optuna.distributions.FloatDistribution(*space, log=True)


@contextlib.contextmanager
def _quietly(optuna):
    """Within it, optuna logs no trial."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
