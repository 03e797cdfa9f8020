"""Scaling-law forms: a law's inputs, its linear and nonlinear parameters, and how its terms are computed.

Every form here is a sum of terms, each a nonnegative amplitude times a feature that depends on the inputs and
on the nonlinear parameters:

    loss = sum_j amplitude_j * exp(g_j(theta, log inputs))

Amplitudes are linear, so given theta they have an exact solution (variable projection, `projection`), and
the derivatives the optimiser needs all follow from g and dg/dtheta (`newton`). A new law is a new `Form`:
name its inputs, amplitudes and nonlinear parameters with their bounds, and write `log_terms`.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np


class LawError(ValueError):
    """Data or a request that no law can be fitted to; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Parameter:
    """A nonlinear parameter and the closed interval it is searched in."""
    name: str
    low: float
    high: float


@dataclass(frozen=True)
class Form:
    """A law as a sum of amplitudes times features.

    log_terms(theta, logs) takes theta [batch, K] and logs [I, n] (natural logarithms of the inputs, in the
    order of `inputs`) and returns (g, dg): g [batch, J, n], the logarithm of each amplitude's feature, and
    its derivative dg [J, K, n] (when g is linear in theta) or [batch, J, K, n]. Second derivatives of
    g are left out of the Newton step (powers have none): other forms take more steps to the same optimum.

    scale_free says that changing an input's unit only rescales amplitudes, as it does for powers; the
    optimiser then works with centred logarithms, which makes fits independent of units and well conditioned.
    """
    name: str
    formula: str
    source: str
    inputs: tuple[str, ...]
    amplitudes: tuple[str, ...]
    nonlinear: tuple[Parameter, ...]
    log_terms: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    scale_free: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names in the order of the optimiser's vector: amplitudes, then nonlinear parameters."""
        return self.amplitudes + tuple(p.name for p in self.nonlinear)

    @property
    def low(self) -> np.ndarray:
        return np.array([0.0] * len(self.amplitudes) + [p.low for p in self.nonlinear])

    @property
    def high(self) -> np.ndarray:
        return np.array([np.inf] * len(self.amplitudes) + [p.high for p in self.nonlinear])

    def bounded(self, bounds: Mapping[str, tuple[float, float]]) -> Form:
        """The same form with other bounds on some nonlinear parameters."""
        own = [p.name for p in self.nonlinear]
        for name in bounds:
            if name not in own:
                raise LawError(f"cannot bound {name!r}: the nonlinear parameters of {self.name} are "
                               f"{', '.join(own)}")
        for name, (low, high) in bounds.items():
            if not low < high:
                raise LawError(f"bounds of {name!r} must be (low, high) with low < high, got ({low}, {high})")
        ends = {p.name: bounds.get(p.name, (p.low, p.high)) for p in self.nonlinear}
        return replace(self, nonlinear=tuple(Parameter(name, float(low), float(high))
                                             for name, (low, high) in ends.items()))

    def predict(self, vectors: np.ndarray, logs: np.ndarray) -> np.ndarray:
        """Loss [batch, n] of parameter vectors [batch, J + K] at logs [I, n]."""
        count = len(self.amplitudes)
        g, _ = self.log_terms(vectors[:, count:], logs)
        return np.einsum("bj,bjn->bn", vectors[:, :count], np.exp(g))

    def rescale(self, vectors: np.ndarray, centre: np.ndarray) -> np.ndarray:
        """Amplitudes fitted to logs - centre [I], expressed for logs. vectors [batch, J + K]."""
        if not np.any(centre):
            return vectors
        count = len(self.amplitudes)
        g, _ = self.log_terms(vectors[:, count:], -np.asarray(centre, float)[:, None])
        return np.concatenate([vectors[:, :count] * np.exp(g[:, :, 0]), vectors[:, count:]], axis=1)


def power_terms(inputs: tuple[str, ...], nonlinear: tuple[str, ...], terms: Mapping[str, Mapping[str, str]]):
    """log_terms of a sum of products of powers. terms: {amplitude: {input: exponent}}, each a factor
    input^-exponent."""
    pattern = np.zeros((len(terms), len(nonlinear), len(inputs)))
    for j, factors in enumerate(terms.values()):
        for name, exponent in factors.items():
            pattern[j, nonlinear.index(exponent), inputs.index(name)] = -1.0

    def log_terms(theta: np.ndarray, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        dg = pattern @ logs
        return np.tensordot(theta, dg, axes=(1, 1)), dg

    return log_terms


EXPONENT = (0.01, 4.0)  # below 0.01 a power over any measurable range is a constant; above 4 it is a step

CHINCHILLA = Form(
    name="chinchilla",
    formula="E + A N^-alpha + B D^-beta",
    source="Hoffmann et al. 2022 (arXiv:2203.15556), equation 2",
    inputs=("N", "D"),
    amplitudes=("E", "A", "B"),
    nonlinear=(Parameter("alpha", *EXPONENT), Parameter("beta", *EXPONENT)),
    log_terms=power_terms(("N", "D"), ("alpha", "beta"), {"E": {}, "A": {"N": "alpha"}, "B": {"D": "beta"}}),
)

SATURATING_POWER = Form(
    name="saturating_power",
    formula="E + A x^-alpha",
    source="Henighan et al. 2020 (arXiv:2010.14701), equation 1.1",
    inputs=("x",),
    amplitudes=("E", "A"),
    nonlinear=(Parameter("alpha", *EXPONENT),),
    log_terms=power_terms(("x",), ("alpha",), {"E": {}, "A": {"x": "alpha"}}),
)

FORMS = {form.name: form for form in (CHINCHILLA, SATURATING_POWER)}


def get(form: str | Form) -> Form:
    """A form by name; a Form is returned as it is, so that a user's own need not be registered."""
    if isinstance(form, Form):
        return form
    if form not in FORMS:
        raise LawError(f"unknown form {form!r}; the forms are {', '.join(FORMS)}")
    return FORMS[form]
