"""A damped Newton method for many small robust fits at once, in NumPy.

One problem is: minimise sum_i weight_i * huber(residual_i) over nonnegative amplitudes and bounded nonlinear
parameters of a `Form`. Resamples of a bootstrap, simulated data sets and starting points are all rows of one
batch.

The Hessian of a Huber loss is often indefinite (points outside delta have no curvature of their own), so the
step solves (H + damping * M) step = gradient, where M is the matrix of iteratively reweighted least squares:
it is positive definite, and a step with large damping is a short step of that safe method (Huber and
Ronchetti 2009, section 7.8; damping as in Levenberg-Marquardt). Bounds are kept by projection (Bertsekas
1982): coordinates held at a bound by the gradient leave the linear system.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scaling.laws.forms import Form

CHUNK = 1 << 16  # numbers in an array [rows, n] of one chunk: keeps the working set in cache


class Result(NamedTuple):
    vectors: np.ndarray     # [batch, P]
    objective: np.ndarray   # [batch]
    converged: np.ndarray   # [batch] bool
    iterations: int         # of the slowest row

    def better(self, other: Result) -> Result:
        """Row by row, the one with the lower objective."""
        take = other.objective < self.objective
        return Result(np.where(take[:, None], other.vectors, self.vectors),
                      np.where(take, other.objective, self.objective),
                      np.where(take, other.converged, self.converged), max(self.iterations, other.iterations))


class Point(NamedTuple):
    """Value and derivatives of the objective of every row; `safe` is the reweighted least-squares matrix."""
    objective: np.ndarray   # [batch]
    gradient: np.ndarray    # [batch, P]
    hessian: np.ndarray     # [batch, P, P]
    safe: np.ndarray        # [batch, P, P]

    def where(self, mask: np.ndarray, other: Point) -> Point:
        return Point(*(np.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(self, other)))

    def rows(self, keep: np.ndarray) -> Point:
        return Point(*(a[keep] for a in self))


def huber(residual: np.ndarray, delta: float) -> np.ndarray:
    """r^2/2 within delta, delta (|r| - delta/2) beyond (Huber 1964); delta = inf is least squares."""
    size = np.abs(residual)
    return np.where(size <= delta, 0.5 * size * size, delta * (size - 0.5 * delta))


def _dot(values: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Sum over points of values [batch, n] times features [n] (shared by the batch) or [batch, n]."""
    return values @ features if features.ndim == 1 else (values * features).sum(-1)


def evaluate(form: Form, vectors, logs, target, weights, delta: float, space: str) -> Point:
    """Objective and derivatives at vectors [batch, P]. target: the loss, in space "log" its logarithm."""
    count, size = len(form.amplitudes), vectors.shape[1]
    g, dg = form.log_terms(vectors[:, count:], logs)
    slope = np.exp(g, out=g)                                    # d loss / d amplitude, [batch, J, n]
    part = vectors[:, :count, None] * slope
    total = part.sum(1)
    if space == "log":
        residual = np.log(total) - target
        inverse = (1.0 / total)[:, None]
        slope *= inverse
        part *= inverse
    else:
        residual = total - target
    distance = np.abs(residual)
    inside = weights * (distance <= delta)
    pull = weights * np.clip(residual, -delta, delta)           # derivative of the loss by the residual
    reweighted = weights * np.minimum(1.0, delta / np.maximum(distance, 1e-300))
    objective = (weights * huber(residual, delta)).sum(-1)

    jacobian = np.zeros((len(vectors), size, total.shape[1]))
    jacobian[:, :count] = slope
    used = [(j, k) for k in range(size - count) for j in range(count) if np.any(dg[..., j, k, :])]
    for j, k in used:
        jacobian[:, count + k] += part[:, j] * dg[..., j, k, :]
    transposed = jacobian.transpose(0, 2, 1)
    gradient = (jacobian @ pull[:, :, None])[:, :, 0]
    safe = (jacobian * reweighted[:, None]) @ transposed
    hessian = (jacobian * (inside - pull if space == "log" else inside)[:, None]) @ transposed
    for j, k in used:                                           # what the curvature of the law itself adds
        mixed = _dot(pull * slope[:, j], dg[..., j, k, :])
        hessian[:, j, count + k] += mixed
        hessian[:, count + k, j] += mixed
        for i, m in used:
            if i == j:
                bend = dg[..., j, k, :] * dg[..., j, m, :]
                hessian[:, count + k, count + m] += _dot(pull * part[:, j], bend)
    return Point(objective, gradient, hessian, safe)


def solve(matrix: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solve [batch, P, P] x = right [batch, P] by LDL^T; also says which rows are positive definite (others
    give 0).

    LAPACK's batched routines call out once a matrix, and raise if one is indefinite; P is at most a handful,
    so loops over its entries, each step a vector over the batch, are many times faster.
    """
    size = matrix.shape[1]
    factor = np.ascontiguousarray(matrix.transpose(1, 2, 0))
    x = np.ascontiguousarray(right.T)
    scale = np.abs(np.einsum("iib->ib", factor))
    definite = np.ones(factor.shape[2], bool)
    for i in range(size):
        definite &= factor[i, i] > 1e-14 * scale[i]
        pivot = np.where(definite, factor[i, i], 1.0)
        for j in range(i + 1, size):
            ratio = np.where(definite, factor[j, i], 0.0) / pivot
            factor[j, i + 1:] -= ratio * factor[i, i + 1:]
            x[j] -= ratio * x[i]
        factor[i, i] = pivot
    for i in reversed(range(size)):
        x[i] = (x[i] - (factor[i, i + 1:] * x[i + 1:]).sum(0)) / factor[i, i]
    return np.where(definite, x, 0.0).T, definite


def minimise(form: Form, start, logs, loss, weights=1.0, *, delta: float = 1e-3, space: str = "log",
             iterations: int = 300, tolerance: float = 1e-14) -> Result:
    """Minimise from every row of start [batch, P] to convergence; rows are independent problems.

    logs [I, n] are shared; loss (positive) and weights (nonnegative) are [n], or [batch, n] where each row
    has its own. A row has converged when a full Newton step would lower its objective by less than
    `tolerance` of it.
    """
    start = np.atleast_2d(np.asarray(start, float))
    batch, n = len(start), logs.shape[1]
    target = np.broadcast_to(np.log(loss) if space == "log" else np.asarray(loss, float), (batch, n))
    weights = np.broadcast_to(np.asarray(weights, float), (batch, n))
    rows = max(1, CHUNK // n)
    pieces = [_minimise(form, start[i:i + rows], logs, target[i:i + rows], weights[i:i + rows], delta, space,
                        iterations, tolerance) for i in range(0, batch, rows)]
    vectors, objective, converged, used = zip(*pieces)
    return Result(np.concatenate(vectors), np.concatenate(objective), np.concatenate(converged), max(used))


def _minimise(form, start, logs, target, weights, delta, space, iterations, tolerance) -> Result:
    low, high = form.low, form.high
    count, size = len(form.amplitudes), start.shape[1]
    reach = np.array([np.inf] * count + [1.0] * (size - count))  # longest step in an exponent
    floor = 1e-28 * target.shape[1]                              # the objective of rounding errors alone
    identity = np.eye(size)
    final, best = np.clip(start, low, high), np.full(len(start), np.inf)
    converged, live = np.zeros(len(start), bool), np.arange(len(start))
    vectors = final.copy()
    damping = np.ones(len(start))
    with np.errstate(all="ignore"):                              # a step too far gives inf or nan: refused
        point = evaluate(form, vectors, logs, target, weights, delta, space)
        for used in range(1, iterations + 1):
            held = ((vectors <= low) & (point.gradient > 0)) | ((vectors >= high) & (point.gradient < 0))
            gradient = np.where(held, 0.0, point.gradient)
            ridge = 1e-12 * np.trace(point.safe, axis1=1, axis2=2)[:, None, None] * identity
            matrix = point.hessian + damping[:, None, None] * (point.safe + ridge)
            matrix = np.where(held[:, :, None] | held[:, None, :], identity, matrix)
            step, definite = solve(matrix, gradient)
            decrement = (gradient * step).sum(1)
            trial = np.clip(vectors - np.clip(step, -reach, reach), low, high)
            new = evaluate(form, trial, logs, target, weights, delta, space)
            better = definite & (new.objective < point.objective)
            small = definite & (damping <= 1.0) & (decrement <= tolerance * point.objective)
            finished = small | (point.objective <= floor) | (damping > 1e10)
            vectors = np.where(better[:, None], trial, vectors)
            point = new.where(better, point)
            damping = np.where(better, np.maximum(damping * 0.2, 1e-10), np.maximum(damping, 1e-6) * 8.0)
            final[live], best[live], converged[live] = vectors, point.objective, finished
            if finished.any():
                keep = ~finished
                if not keep.any():
                    break
                live, vectors, damping, point = live[keep], vectors[keep], damping[keep], point.rows(keep)
                target, weights = target[keep], weights[keep]
    return Result(final, best, converged, used)
