"""Standard errors without resampling at random: leaving out each run or cluster, and the sandwich.

Both are cheap and repeatable, and both trust that estimates move in proportion to the data: a law near a
bound, or with several optima, is better served by `bootstrap` and `profile`.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling.laws.fitting import newton
from scaling.laws.fitting.fit import Fit, jacobian, refit
from scaling.laws.forms.form import LawError
from scaling.laws.intervals import resample

INSIDE = 4  # residuals a parameter that the curvature of an objective with a corner is measured from


@dataclass(frozen=True, eq=False)
class Jackknife:
    fit: Fit
    values: pd.DataFrame         # parameters without each run or cluster, one a row
    labels: tuple                # which run (its row in the source) or cluster was left out
    cluster: str | None = None

    def standard_errors(self) -> dict[str, float]:
        """sqrt((G - 1) / G sum (value - mean)^2) over the G runs or clusters (Tukey 1958; Miller 1974)."""
        square = (len(self.values) - 1) * self.values.var(ddof=0)
        return {name: float(np.sqrt(value)) for name, value in square.items()}

    def influence(self) -> pd.DataFrame:
        """By how many standard errors each run or cluster moves each parameter: fitted minus without it."""
        error = pd.Series(self.standard_errors())
        moved = pd.Series(self.fit.params)[list(self.values)] - self.values
        return moved.div(error.where(error > 0, 1.0), axis=1).set_axis(list(self.labels), axis=0)

    def to_json(self) -> dict:
        return {"standard_errors": self.standard_errors(), "cluster": self.cluster,
                "left_out": len(self.values)}


def jackknife(fit: Fit, cluster=None) -> Jackknife:
    """Refit without each run, or without each cluster (a column of the runs, or one label a run).

    Raises LawError if what is left without one of them has no degrees of freedom.
    """
    numbers, name = resample.groups(fit, cluster)
    used = fit.weights > 0
    count = int(numbers.max()) + 1
    largest = int(np.bincount(numbers[used]).max())
    if used.sum() - largest < len(fit.form.free):
        what = "one run" if cluster is None else f"the largest cluster of {name}"
        raise LawError(f"without {what} there are {used.sum() - largest} points left for "
                       f"{len(fit.form.free)} parameters")
    kept = fit.weights * (numbers[None] != np.arange(count)[:, None])
    found = refit(fit, fit.y, kept)
    first = np.array([np.flatnonzero(numbers == g)[0] for g in range(count)])
    source = fit.runs.frame[cluster].to_numpy() if isinstance(cluster, str) else fit.runs.rows
    values = pd.DataFrame(found.vectors, columns=list(fit.form.names))
    return Jackknife(fit, values, tuple(source[first].tolist()), name or None)


def sandwich(fit: Fit, cluster=None) -> pd.DataFrame:
    """Covariance of the free parameters, H^-1 B H^-1: H the Hessian of the objective, B the sum over runs (or
    clusters) of the squares of their gradients (Huber 1967; White 1980; Liang and Zeger 1986), without
    corrections for small samples.

    It assumes neither equal noise nor, with clusters, independence within them. Parameters at a bound are
    taken as known: their rows are NaN. The square roots of the diagonal are standard errors
    (`sandwich_errors`).
    """
    numbers, _ = resample.groups(fit, cluster)
    names, hessian, scores = curvature(fit, numbers)
    inverse = np.linalg.pinv(hessian, hermitian=True)
    covariance = inverse @ (scores.T @ scores) @ inverse
    return pd.DataFrame(covariance, names, names).reindex(index=fit.form.free, columns=fit.form.free)


def sandwich_errors(fit: Fit, cluster=None) -> dict[str, float]:
    """Standard errors of the free parameters: the roots of the diagonal of `sandwich`."""
    errors = np.sqrt(np.diag(sandwich(fit, cluster)))
    return {name: float(error) for name, error in zip(fit.form.free, errors)}


def curvature(fit: Fit, numbers: np.ndarray) -> tuple[list[str], np.ndarray, np.ndarray]:
    """(names [m] of the free parameters inside their bounds, Hessian of the objective [m, m], its gradient by
    cluster [G, m]), all by the parameters themselves; numbers as from `resample.groups`.

    A Huber loss curves only where |residual| < delta, and absolute values nowhere. Where fewer than four
    residuals a parameter (or half of them all) are that small, the curvature is that of a Huber loss wide
    enough to hold them, scaled to the same slopes: a kernel estimate of the density of errors at zero (Powell
    1991; Koenker 2005, section 3.4.2).
    """
    form, spec = fit.form, fit.spec
    inside = [k for k, name in enumerate(form.free)
              if form.parameter(name).low < fit.params[name] < form.parameter(name).high]
    size = np.sort(np.abs(fit.residuals))
    few = min(INSIDE * len(form.free), (len(size) + 1) // 2)
    width = spec.delta if spec.kind == "mse" else max(spec.delta, float(size[few - 1]), 1e-300)
    steep = 2.0 if spec.kind == "mse" else (1.0 if spec.kind == "absolute" else spec.delta) / width
    basis, offset = newton.basis_of(form)
    target = spec.transform(fit.y)[None]
    problem = newton.Problem(form, fit.logs, target, fit.weights[None], spec, width, basis, offset)
    place = newton.coordinates(form, fit.vector[None])[0]
    columns = [form.names.index(name) for name in form.free]
    hessian = steep * newton.evaluate(problem, place[None, columns]).hessian[0]
    step = 1e-6 * np.maximum(np.abs(place), 1.0)
    ahead, behind = newton.parameters(form, np.stack([place + step, place - step]))
    unit = ((ahead - behind) / (2 * step))[columns]                          # d parameter / d coordinate
    hessian = hessian / np.outer(unit, unit)
    gradient = -(fit.weights * slope(spec, fit.residuals))[:, None] * jacobian(fit)
    scores = np.zeros((int(numbers.max()) + 1, gradient.shape[1]))
    np.add.at(scores, numbers, gradient)
    return [form.free[k] for k in inside], hessian[np.ix_(inside, inside)], scores[:, inside]


def slope(spec, residuals: np.ndarray) -> np.ndarray:
    """Derivative of the objective's loss by the residual."""
    if spec.kind == "mse":
        return 2.0 * residuals * spec.sides(residuals)
    steps = np.sign(residuals) if spec.kind == "absolute" else np.clip(residuals, -spec.delta, spec.delta)
    return steps * spec.sides(residuals)
