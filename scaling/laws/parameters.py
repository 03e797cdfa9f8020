"""The parameters of a law, linear and not, and the error that everything about laws raises."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.laws.jets import Jet


class LawError(ValueError):
    """Data or a request that no law can be fitted to; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Amplitude:
    """A linear parameter in [low, high], low 0 or -inf; its term is subtracted where sign is -1."""
    name: str
    low: float = 0.0
    high: float = np.inf
    sign: float = 1.0


@dataclass(frozen=True)
class Parameter:
    """A nonlinear parameter and the closed interval it is searched in.

    scale: the coordinate that the optimiser moves along: "linear", "log" (of what is positive) or "symlog" (of what
    spans orders of magnitude in either sign: asinh of 10 times the value). unit: the input in whose unit it is
    measured, if any. relative: its bounds are multiples of the smallest and of the largest value of that input, until
    `Form.placed` makes them numbers.
    """
    name: str
    low: float
    high: float
    scale: str = "linear"
    unit: str = ""
    relative: bool = False

    @property
    def log(self) -> bool:
        return self.scale == "log"

    def coordinate(self, value):
        """The optimiser's coordinate of a value."""
        return {"linear": np.asarray, "log": np.log, "symlog": lambda v: np.arcsinh(10.0 * v)}[self.scale](value)

    def value(self, coordinate):
        """The inverse of `coordinate`."""
        return {"linear": np.asarray, "log": np.exp, "symlog": lambda z: 0.1 * np.sinh(z)}[self.scale](coordinate)

    def jet(self, coordinate, k: int) -> Jet:
        """The value at a coordinate, with derivatives by it as parameter k."""
        value = self.value(coordinate)
        if self.scale == "linear":
            return Jet(value, {k: np.ones(())})
        return Jet(value, {k: value if self.log else 0.1 * np.cosh(coordinate)}, {(k, k): value})
