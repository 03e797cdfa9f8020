"""How well the data determine each parameter, judged by the Jacobian of the predictions."""
from __future__ import annotations

import numpy as np

from scaling.laws.fitting.fit import Fit
from scaling.laws.fitting.problem import basis_of
from scaling.laws.forms.form import Amplitude, Form, Parameter


def centred_jacobian(form: Form, vector: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """d log loss / d free parameter, [n, free], at a parameter vector [P] in the units of logs [I, n].

    When a nonlinear parameter moves, a free amplitude keeps the geometric mean of its term over the points. This removes
    correlations that only the choice of units makes (A and alpha of A N^-alpha, far from N = 1). Rows are not finite where
    the law predicts 0.
    """
    count = len(form.amplitudes)
    jets = form.jets(vector[None, count:], logs)
    features = form.features(vector[None, count:], logs)[0]
    out = np.zeros((len(form.names), logs.shape[1]))
    out[:count] = features
    for amplitude, value, feature, jet in zip(form.amplitudes, vector, features, jets):
        for k, slope in jet.first.items():
            slope = np.broadcast_to(slope, (1, logs.shape[1]))[0]
            mean = slope.mean() if amplitude.name in form.free else 0.0
            out[count + k] += value * feature * (slope - mean)
    basis, _ = basis_of(form)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (out / (vector[:count] @ features)).T @ basis


def condition_number(form: Form, vector: np.ndarray, logs: np.ndarray) -> float:
    """The condition number of the Jacobian, with columns of unit length and inputs in units of their mean.

    It is inf if a column is zero, such as that of the exponent of a zero amplitude, and if the law predicts 0 somewhere.
    """
    centre = form.centre(logs)
    columns = centred_jacobian(form, form.rescale(vector[None], centre)[0], logs - centre[:, None])
    size = np.linalg.norm(columns, axis=0)
    return float(np.linalg.cond(columns / size)) if np.all((size > 0) & np.isfinite(size)) else float("inf")


def is_at_bound(p: Amplitude | Parameter, value: float) -> bool:
    """True if a parameter's value is one of its finite bounds, to rounding."""
    return any(np.isfinite(end) and abs(value - end) <= 1e-9 * max(abs(end), abs(value)) or value == end
               for end in (p.low, p.high))


def relative_errors(fit: Fit) -> dict[str, float]:
    """{free parameter that is not at a bound: its standard error over its value}, or {} if the data give none.

    The standard errors follow from the Jacobian and the noise of the fit. An amplitude is judged by its term at the
    geometric mean of the inputs, which does not depend on units.
    """
    form, noise = fit.form, fit.noise
    names = [name for name in form.free if not is_at_bound(form.parameter(name), fit.params[name])]
    rows = centred_jacobian(form, fit.vector, fit.logs) * np.sqrt(fit.weights / fit.weights.mean())[:, None]
    rows = rows[:, [form.free.index(name) for name in names]]
    size = np.linalg.norm(rows, axis=0)
    if not np.all((size > 0) & np.isfinite(size)) or fit.degrees_of_freedom < 1:
        return {}
    if fit.spec.space != "log":  # the Jacobian is of the log loss, so the noise must be too
        noise /= float(np.median(np.abs(fit.y) + fit.spec.shift))
    errors = noise * np.sqrt(np.diag(np.linalg.pinv((rows / size).T @ (rows / size)))) / size
    return {name: float(error / max(abs(fit.params[name]), 1e-300)) for name, error in zip(names, errors)}


def relative_spread(fit: Fit, logs: np.ndarray) -> np.ndarray:
    """The law's standard error at logs [I, m] over its largest standard error at a fitted run, [m].

    NaN if the law predicts 0 at a run.
    """
    count = fit.logs.shape[1]
    rows = centred_jacobian(fit.form, fit.vector, np.hstack([fit.logs, logs]))
    if not np.all(np.isfinite(rows)):
        return np.full(logs.shape[1], np.nan)
    rows = rows / np.maximum(np.linalg.norm(rows[:count], axis=0), 1e-300)
    inverse = np.linalg.pinv(rows[:count].T @ rows[:count])
    spread = np.sqrt(np.einsum("nk,kl,nl->n", rows, inverse, rows))
    return spread[count:] / spread[:count].max()
