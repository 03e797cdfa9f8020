"""What a fit cannot know, said in words."""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scaling.laws.fitting import Fit

NOTHING = 1e-6         # of the loss: a term that is nowhere larger is absent
LEVELS_APART = 0.01    # inputs closer than 1% are one level
CONFOUNDED = 0.95      # |correlation| of two inputs' logarithms
ILL_CONDITIONED = 1e3  # of the Jacobian with unit columns: effects of parameters agree to three digits


class Diagnostic(str):
    """One warning: a sentence, with what it is about for programs.

    code: what is wrong, a word or two joined by hyphens. about: the parameters or inputs
    concerned, by name.
    """
    code: str
    about: tuple[str, ...]

    def __new__(cls, message: str, code: str, about=()):
        made = super().__new__(cls, message)
        made.code, made.about = code, (about,) if isinstance(about, str) else tuple(about)
        return made

    def __getnewargs__(self):  # copies and pickles keep all three
        return str(self), self.code, self.about

    def to_json(self) -> dict:
        return {"code": self.code, "about": list(self.about), "message": str(self)}

    @classmethod
    def from_json(cls, content: dict) -> Diagnostic:
        return cls(content["message"], content["code"], content["about"])


def levels(logs: np.ndarray) -> int:
    """Distinct values of an input, given its logarithms: sorted values closer than 1% to the last are one
    level."""
    return int((np.diff(np.sort(logs)) > LEVELS_APART).sum()) + 1


def jacobian(form, vector: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """d log loss / d parameter, [n, P], at a parameter vector in the units of logs [I, n]."""
    count = len(form.amplitudes)
    g, dg = form.log_terms(vector[None, count:], logs)
    feature = np.exp(g[0])
    part = vector[:count, None] * feature
    slope = np.einsum("jn,jkn->kn", part, dg if dg.ndim == 3 else dg[0])
    return (np.concatenate([feature, slope]) / part.sum(0)).T


def condition_number(form, vector: np.ndarray, logs: np.ndarray) -> float:
    """Condition number of the Jacobian with columns of unit length and centred logarithms; inf if a column is
    zero.

    Parameters at zero amplitude take their exponents with them (their columns vanish), hence inf.
    """
    columns = jacobian(form, vector, logs)
    size = np.linalg.norm(columns, axis=0)
    return float(np.linalg.cond(columns / size)) if np.all(size > 0) else float("inf")


def diagnose(fit: Fit) -> list[Diagnostic]:
    """Warnings about a fit, one sentence each, worst first; empty when there is nothing to say."""
    form, n, logs = fit.form, len(fit.points), fit.logs
    said = []
    share = jacobian(form, fit.vector, logs)[:, :len(form.amplitudes)] * fit.vector[:len(form.amplitudes)]
    for name, largest in zip(form.amplitudes, share.max(0)):
        if largest < NOTHING:
            said.append(Diagnostic(f"{name} is at its bound 0: the data do not show this term, nor an "
                                   "exponent that only it has.", "vanishes", name))
    for p in form.nonlinear:
        value = fit.params[p.name]
        if value <= p.low or value >= p.high:
            said.append(Diagnostic(f"{p.name} = {value:.4g} is at a bound of [{p.low:g}, {p.high:g}]: not "
                                   "identified by these data.", "at-bound", p.name))
    for name, values in zip(form.inputs, logs):
        if (count := levels(values)) < 4:
            said.append(Diagnostic(f"{name} has {count} distinct levels: a constant and a power of {name} "
                                   "need at least 3, and 4 to show misfit.", "few-levels", name))
    for i, first in enumerate(form.inputs):
        for j in range(i + 1, len(form.inputs)):
            r = np.corrcoef(logs[i], logs[j])[0, 1]
            if abs(r) > CONFOUNDED:
                said.append(Diagnostic(
                    f"{first} and {form.inputs[j]} are confounded (correlation of logarithms {r:.3f}): "
                    "their terms cannot be told apart; vary one at a fixed value of the other.",
                    "confounded", (first, form.inputs[j])))
    if (spare := fit.degrees_of_freedom) < len(form.names):
        said.append(Diagnostic(f"{spare} degrees of freedom ({n} points, {len(form.names)} parameters): "
                               "intervals rest on very little.", "degrees-of-freedom"))
    centre = logs.mean(1) if form.scale_free else np.zeros(len(logs))
    condition = condition_number(form, form.rescale(fit.vector[None], -centre)[0], logs - centre[:, None])
    if condition > ILL_CONDITIONED:
        said.append(Diagnostic(
            f"The parameters are poorly determined together (condition number {condition:.2g}): predictions "
            "inside the data may be good, single parameters and far extrapolation are not.",
            "ill-conditioned", form.names))
    said.extend(_rivals(fit))
    size = np.abs(fit.residuals)
    if fit.noise > 1e-12 and (count := int((size > 6 * fit.noise).sum())):
        worst = int(np.argmax(size))
        said.append(Diagnostic(
            f"{count} of {n} points lie more than 6 noise standard deviations off; the farthest is row {worst} "
            f"(residual {fit.residuals[worst]:+.2%}).", "outliers"))
    return said


def _rivals(fit: Fit) -> list[Diagnostic]:
    """Other optima whose objective is within the noise of the best: an F-like ratio below 3 on the
    objective."""
    best = fit.optima["objective"].iloc[0]
    margin = 3.0 * best / max(fit.degrees_of_freedom, 1)
    near = fit.optima.iloc[1:][fit.optima["objective"].iloc[1:] - best < margin]
    if near.empty:
        return []
    other = near.iloc[0]
    values = ", ".join(f"{p.name} = {other[p.name]:.3g}" for p in fit.form.nonlinear)
    return [Diagnostic(
        f"{len(near)} other optima found are as good within noise (the nearest at {values}, objective "
        f"{other['objective']:.6g} against {best:.6g}): the parameters are not identified by these data.",
        "rival-optima", [p.name for p in fit.form.nonlinear])]
