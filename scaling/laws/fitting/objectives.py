"""What a fit minimises: the sum over runs of a loss of the residual, observed minus predicted, in some space.

It is the sum, not the mean, because quasi-Newton codes stop early with a mean (Besiroglu et al. 2024, arXiv:2404.10102).
"""
from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np

from scaling.laws.forms.form import LawError

SHIFTS = {"log": 0.0, "log1p": 1.0}   # residuals are of log(loss + shift), or in space "linear" of the loss itself
KINDS = {"huber": "sum of Huber", "mse": "sum of squares", "absolute": "sum of absolute values"}
NAMES = tuple(kind + space for kind in KINDS for space in ("_log", "", "_log1p"))


@dataclass(frozen=True)
class Objective:
    """A kind, "huber", "mse" or "absolute", of residuals in a space, "log", "linear" or "log1p".

    delta: Huber's, in the unit of the residual; infinite for mse, 0 for absolute. quantile: the share of runs that should
    lie below the law. 0.5 treats both sides alike. 0.1 fits a lower envelope (Koenker and Bassett 1978, with Huber's
    rounding at zero), for runs whose bad hyperparameters can only raise the loss.
    """
    kind: str = "huber"
    space: str = "log"
    delta: float = 1e-3
    quantile: float = 0.5

    @property
    def name(self) -> str:
        return self.kind + ("" if self.space == "linear" else f"_{self.space}")

    @property
    def shift(self) -> float:
        return SHIFTS.get(self.space, 0.0)

    @property
    def is_likelihood(self) -> bool:
        """True if the minimum is the maximum likelihood under normal errors, so that AICc and chi-square hold."""
        return self.kind == "mse" and self.quantile == 0.5

    def __str__(self) -> str:
        what = f"{KINDS[self.kind]}({self.delta:.3g})" if self.kind == "huber" else KINDS[self.kind]
        side = "" if self.quantile == 0.5 else f", quantile {self.quantile:g}"
        return f"{what} of {self.space} residuals{side}"

    def transform(self, y):
        """The loss in the space of the residuals."""
        y = np.asarray(y, float)
        return y if self.space == "linear" else np.log(y + self.shift)

    def residuals(self, observed, predicted):
        return self.transform(observed) - self.transform(predicted)

    def sides(self, residuals):
        """The factor of each weight by the side its residual is on. It is 1 for the median."""
        if self.quantile == 0.5:
            return 1.0
        return np.where(residuals < 0, 2.0 * (1.0 - self.quantile), 2.0 * self.quantile)

    def each(self, residuals):
        """The loss of every residual r, times its side's factor.

        Huber's is r^2/2 within delta and delta (|r| - delta/2) beyond (Huber 1964); the others are r^2 and |r|.
        """
        size = np.abs(residuals)
        if self.kind == "huber":
            near = np.minimum(size, self.delta)
            loss = near * (size - 0.5 * near)
        else:
            loss = size * size if self.kind == "mse" else size
        return loss * self.sides(residuals)

    def value(self, residuals, weights=1.0):
        """The objective, summed over the last axis."""
        return (weights * self.each(residuals)).sum(-1)

    def with_delta(self, delta: float) -> Objective:
        return replace(self, delta=float(delta))


DEFAULT = Objective()  # Hoffmann et al. 2022, appendix D.3


def parse_objective(name: str | Objective, delta: float | str = 1e-3, quantile: float = 0.5) -> tuple[Objective, bool]:
    """(objective, whether the noise decides its delta) of what a user wrote. Raises LawError for unknown names."""
    if isinstance(name, Objective):
        return name, False
    if name not in NAMES:
        near = difflib.get_close_matches(str(name), NAMES, n=1, cutoff=0.4)
        raise LawError(f"unknown loss {name!r}" + (f", did you mean {near[0]!r}?" if near else "")
                       + f" The losses are {', '.join(NAMES)}")
    if not 0 < quantile < 1:
        raise LawError(f"quantile must lie between 0 and 1, got {quantile}")
    kind, _, space = name.partition("_")
    fixed = {"mse": np.inf, "absolute": 0.0}.get(kind)
    measured = fixed is None and delta == "noise"
    if fixed is None and not measured and not (isinstance(delta, Real) and 0 < delta < np.inf):
        raise LawError(f"delta must be a positive number or 'noise', got {delta!r}")
    if fixed is None:
        fixed = 1e-3 if measured else float(delta)
    return Objective(kind, space or "linear", fixed, float(quantile)), measured
