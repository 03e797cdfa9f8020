"""Many fits of one form side by side: their objectives, gradients and Hessians, and the optimiser's coordinates."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scaling.laws.fitting.objectives import Objective
from scaling.laws.forms.form import Form


class Point(NamedTuple):
    """The objective of every row with its derivatives. `safe` is the matrix of reweighted least squares."""
    objective: np.ndarray   # [batch]
    gradient: np.ndarray    # [batch, P]
    hessian: np.ndarray     # [batch, P, P]
    safe: np.ndarray        # [batch, P, P]

    def where(self, mask: np.ndarray, other: Point) -> Point:
        """This point in the rows of the mask [batch], and the other point elsewhere."""
        return Point(*(np.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(self, other)))

    def rows(self, keep: np.ndarray) -> Point:
        return Point(*(a[keep] for a in self))


class Problem(NamedTuple):
    """Rows that are fitted side by side.

    target: the loss in the objective's space, [batch, n]. basis [P, F] and offset [P]: all parameters are
    basis @ free + offset, which is how parameters are tied and fixed.
    """
    form: Form
    logs: np.ndarray
    target: np.ndarray
    weights: np.ndarray
    objective: Objective
    delta: float
    basis: np.ndarray
    offset: np.ndarray

    def rows(self, keep: np.ndarray) -> Problem:
        return self._replace(target=self.target[keep], weights=self.weights[keep])


def basis_of(form: Form) -> tuple[np.ndarray, np.ndarray]:
    """(basis, offset) of a form's fixed and tied parameters, in the optimiser's coordinates."""
    names, free = form.names, form.free
    basis, offset = np.zeros((len(names), len(free))), np.zeros(len(names))
    for i, name in enumerate(names):
        source = form.tied.get(name, name)
        if source in form.fixed:
            p = form.parameter(source)
            offset[i] = p.coordinate(form.fixed[source]) if i >= len(form.amplitudes) else form.fixed[source]
        else:
            basis[i, free.index(source)] = 1.0
    return basis, offset


def coordinates(form: Form, vectors: np.ndarray) -> np.ndarray:
    """The optimiser's coordinates of parameter vectors [batch, P]."""
    out = np.array(vectors, float)
    for k, p in enumerate(form.nonlinear, len(form.amplitudes)):
        out[:, k] = p.coordinate(out[:, k])
    return out


def parameters(form: Form, points: np.ndarray) -> np.ndarray:
    """The inverse of `coordinates`."""
    out = np.array(points, float)
    for k, p in enumerate(form.nonlinear, len(form.amplitudes)):
        out[:, k] = p.value(out[:, k])
    return out


def _dot(values: np.ndarray, features: np.ndarray) -> np.ndarray:
    """The sum over points of values [batch, n] times features: a number, [n] (for all rows) or [batch, n or 1]."""
    features = np.asarray(features)
    if features.ndim == 0:
        return values.sum(-1) * features
    if features.ndim == 1:
        return values @ features if len(features) == values.shape[1] else values.sum(-1) * features[0]
    return np.einsum("bn,bn->b", *np.broadcast_arrays(values, features))


def evaluate(problem: Problem, free: np.ndarray) -> Point:
    """The objective and its derivatives at free coordinates [batch, F]. For squares it is half their sum."""
    form, objective, delta = problem.form, problem.objective, problem.delta
    full = free @ problem.basis.T + problem.offset
    count, size, n = len(form.amplitudes), full.shape[1], problem.logs.shape[1]
    jets = form.jets(full[:, count:], problem.logs, coordinates=True)
    slope = np.empty((len(full), count, n))                     # d loss / d amplitude
    for j, (jet, amplitude) in enumerate(zip(jets, form.amplitudes)):
        slope[:, j] = np.exp(jet.value) if amplitude.sign > 0 else -np.exp(jet.value)
    part = full[:, :count, None] * slope
    total = part.sum(1)
    if objective.space == "linear":
        residual = total - problem.target
    else:
        residual = np.log(total + objective.shift) - problem.target
        inverse = (1.0 / (total + objective.shift))[:, None]
        slope *= inverse
        part *= inverse
    weights = problem.weights if objective.quantile == 0.5 else problem.weights * objective.sides(-residual)
    distance = np.abs(residual)
    near = np.minimum(distance, delta)
    inside = weights * (distance <= delta)
    pull = weights * np.clip(residual, -delta, delta)           # the derivative of the loss by the residual
    reweighted = weights * np.minimum(1.0, delta / np.maximum(distance, 1e-300))
    value = (weights * near * (distance - 0.5 * near)).sum(-1)

    jacobian = np.zeros((len(full), size, n))
    jacobian[:, :count] = slope
    for j, jet in enumerate(jets):
        for k, d in jet.first.items():
            jacobian[:, count + k] += part[:, j] * d
    hessian = np.zeros((len(full), size, size))                 # starts with what the curvature of the law adds
    pulled = pull[:, None] * part if jets else part
    for j, jet in enumerate(jets):
        bent = dict(jet.second)
        for k, d in jet.first.items():
            hessian[:, j, count + k] += _dot(pull * slope[:, j], d)
            for m, e in jet.first.items():
                if k <= m:
                    bent[k, m] = d * e + bent.get((k, m), 0.0)
        for (k, m), d in bent.items():
            hessian[:, count + k, count + m] += _dot(pulled[:, j], d)
    upper = np.triu(hessian, 1)
    hessian += upper.transpose(0, 2, 1)
    if len(problem.basis) != free.shape[1] or problem.offset.any():
        jacobian = np.einsum("pf,bpn->bfn", problem.basis, jacobian)
        hessian = problem.basis.T @ hessian @ problem.basis
    transposed = jacobian.transpose(0, 2, 1)
    gradient = (jacobian @ pull[:, :, None])[:, :, 0]
    safe = (jacobian * reweighted[:, None]) @ transposed
    hessian += (jacobian * (inside if objective.space == "linear" else inside - pull)[:, None]) @ transposed
    return Point(value, gradient, hessian, safe)
