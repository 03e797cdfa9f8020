"""Targets of a design: the number that it makes more certain, computed from a law's parameters."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling.laws.fitting.fit import Fit
from scaling.laws.forms.form import LawError
from scaling.laws.optimum import allocation


@dataclass(frozen=True)
class Target:
    """A number computed from a law.

    values(fit, vectors [batch, P]) -> [batch], for parameter vectors of the fit's form. log: the values are
    natural logarithms, so their standard error is a relative one.
    """
    name: str
    values: Callable[[Fit, np.ndarray], np.ndarray]
    log: bool = False

    def shown(self, value: float) -> float:
        """A value in its own unit, without the logarithm."""
        return float(np.exp(value)) if self.log else float(value)


def loss_at(**inputs: float) -> Target:
    """The loss of one run, at the law's inputs: loss_at(N=7e10, D=1.4e12)."""
    if not inputs or not all(np.isscalar(x) and np.isfinite(x) and x > 0 for x in inputs.values()):
        raise LawError(f"a target is a point with positive inputs, such as N=7e10, D=1.4e12, not {inputs}")

    def values(law: Fit, vectors: np.ndarray) -> np.ndarray:
        form = law.form
        if set(inputs) != set(form.inputs):
            raise LawError(f"the target needs {', '.join(form.inputs)}, the inputs of {form.name}; "
                           f"it has {', '.join(inputs)}")
        return np.log(form.predict(vectors, np.log([[inputs[name]] for name in form.inputs]))[:, 0])

    return Target("loss at " + ", ".join(f"{name} = {x:.4g}" for name, x in inputs.items()), values, log=True)


def best_loss(compute: float, cost: Callable | None = None, **given: float) -> Target:
    """The loss of the best model that `compute` FLOPs can train. cost, given: as in `frontier`."""
    return Target(f"lowest loss at C = {compute:.4g}",
                  lambda law, vectors: np.log(_along(law, vectors, compute, cost, given).loss), log=True)


def best_size(compute: float, cost: Callable | None = None, **given: float) -> Target:
    """N*(C): the parameters of the best model that `compute` FLOPs can train. cost, given: as in
    `frontier`."""
    return Target(f"N* at C = {compute:.4g}",
                  lambda law, vectors: _along(law, vectors, compute, cost, given).log_params, log=True)


def quantity(of: str | Callable[[pd.DataFrame], object]) -> Target:
    """A parameter by its name, or any function of a DataFrame of parameters, one vector a row."""
    def values(law: Fit, vectors: np.ndarray) -> np.ndarray:
        form = law.form
        if callable(of):
            return np.asarray(of(pd.DataFrame(vectors, columns=list(form.names))), float)
        if of not in form.free:
            raise LawError(f"no parameter {of!r} is fitted; {form.name} fits {', '.join(form.free)}")
        return vectors[:, form.names.index(of)]

    return Target(of if isinstance(of, str) else getattr(of, "__name__", "quantity"), values)


def target_of(given) -> Target:
    """A Target from the argument of `suggest`: a Target, {input: value} of a run, a parameter's name, or a
    function."""
    if isinstance(given, Target):
        return given
    if isinstance(given, Mapping):
        return loss_at(**given)
    if isinstance(given, str) or callable(given):
        return quantity(given)
    raise LawError("a target is {'N': ..., 'D': ...}, a parameter's name, a function of the parameters, or "
                   f"one of laws.loss_at, best_loss, best_size and quantity; got {given!r}")


def _along(law: Fit, vectors: np.ndarray, compute: float, cost: Callable | None, given: dict) -> allocation.Optimum:
    """The optimum of each vector, NaN where there is no trade-off of N against D."""
    found = allocation.optima(law, compute, vectors, cost, **given)
    log_params, log_data, loss = (np.where(found.inside, values, np.nan)[:, 0] for values in found[:3])
    return allocation.Optimum(log_params, log_data, loss, found.inside[:, 0])
