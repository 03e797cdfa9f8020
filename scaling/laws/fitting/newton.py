"""A damped Newton method for many small robust fits at once, in NumPy.

One problem is: minimise sum_i weight_i * huber(residual_i) over nonnegative amplitudes and bounded nonlinear
parameters of a `Form`. Resamples of a bootstrap, simulated data sets and starting points are rows of one batch.
SciPy's optimisers solve one problem at a time, which is far too slow for a bootstrap, so this one is by hand.

The Hessian of a Huber loss is often indefinite, because points outside delta have no curvature of their own. So the
step solves (H + damping * M) step = gradient, where M is the positive definite matrix of iteratively reweighted least
squares: a step with large damping is a short step of that safe method (Huber and Ronchetti 2009, section 7.8; damping
as in Levenberg-Marquardt). Bounds are kept by projection (Bertsekas 1982): coordinates that the gradient holds at a
bound leave the linear system.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scaling.laws.fitting.objectives import DEFAULT, Objective
from scaling.laws.fitting.problem import Problem, basis_of, coordinates, evaluate, parameters
from scaling.laws.forms.form import Form

CHUNK = 1 << 16  # elements of an array [rows, n] of one chunk, so that the working set stays in the cache


class Result(NamedTuple):
    vectors: np.ndarray     # [batch, P]
    objective: np.ndarray   # [batch]
    converged: np.ndarray   # [batch] bool
    iterations: int         # of the slowest row

    def better(self, other: Result) -> Result:
        """Row by row, the result with the lower objective."""
        take = other.objective < self.objective
        return Result(np.where(take[:, None], other.vectors, self.vectors),
                      np.where(take, other.objective, self.objective),
                      np.where(take, other.converged, self.converged), max(self.iterations, other.iterations))


def solve(matrix: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(x, definite): solve matrix [batch, P, P] x = right [batch, P] by LDL^T; x is 0 in rows that are not definite.

    By hand because NumPy's batched routines call LAPACK once a matrix and raise if one is singular. P is at most a
    handful, so loops over its entries, each a vector operation over the batch, are many times faster.
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


def minimise(form: Form, start, logs, loss, weights=1.0, *, objective: Objective = DEFAULT,
             iterations: int = 300, tolerance: float = 1e-12) -> Result:
    """Minimise from every row of start [batch, P] to convergence. Rows are independent problems.

    All rows share logs [I, n]. loss (positive) and weights (nonnegative) are [n], or [batch, n] if each row has its own.
    A row has converged when a full Newton step would lower its objective by less than `tolerance` times itself.
    """
    start = np.atleast_2d(np.asarray(start, float))
    batch, n = len(start), logs.shape[1]
    basis, offset = basis_of(form)
    target = np.broadcast_to(objective.transform(loss), (batch, n))
    weights = np.broadcast_to(np.asarray(weights, float), (batch, n))
    with np.errstate(all="ignore"):
        ends = [coordinates(form, end[None])[0] for end in (form.low, form.high)]
    first = [form.names.index(name) for name in form.free]
    low, high = ends[0][first], ends[1][first]
    free = np.clip(coordinates(form, start)[:, first], low, high)
    rows = max(1, CHUNK // n)
    pieces = []
    for i in range(0, batch, rows):
        cut = slice(i, i + rows)
        problem = Problem(form, logs, target[cut], weights[cut], objective, objective.delta, basis, offset)
        if objective.kind == "absolute":
            pieces.append(_absolute(problem, free[cut], low, high, iterations, tolerance))
        else:
            pieces.append(_minimise(problem, free[cut], low, high, iterations, tolerance))
    points, values, converged, used = zip(*pieces)
    values = np.concatenate(values) * (2.0 if objective.kind == "mse" else 1.0)
    full = np.concatenate(points) @ basis.T + offset
    return Result(parameters(form, full), values, np.concatenate(converged), max(used))


def _absolute(problem: Problem, free, low, high, iterations, tolerance) -> Result:
    """Least absolute values as the limit of Huber losses, each started from the optimum of the one before."""
    with np.errstate(all="ignore"):
        delta = max(float(np.median(np.abs(_gap(problem, free)))), 1e-12)
    found = _minimise(problem._replace(delta=delta), free, low, high, iterations, tolerance)
    for smaller in delta * 10.0 ** -np.arange(1, 8):
        found = _minimise(problem._replace(delta=smaller), found.vectors, low, high, iterations, tolerance)
    return found._replace(objective=problem.objective.value(_gap(problem, found.vectors), problem.weights))


def _gap(problem: Problem, free):
    """Residuals, observed minus predicted, [batch, n]."""
    vectors = parameters(problem.form, free @ problem.basis.T + problem.offset)
    return problem.target - problem.objective.transform(problem.form.predict(vectors, problem.logs))


def _minimise(problem: Problem, start, low, high, iterations, tolerance) -> Result:
    amplitude = problem.basis[:len(problem.form.amplitudes)].any(0)
    reach = np.where(amplitude, np.inf, 1.0)                     # longest step in a nonlinear coordinate
    floor = 1e-28 * problem.logs.shape[1]                        # the objective of rounding errors alone
    identity = np.eye(start.shape[1])
    final, best = start.copy(), np.full(len(start), np.inf)
    converged, live = np.zeros(len(start), bool), np.arange(len(start))
    vectors, damping, used = start.copy(), np.full(len(start), 1e-3), 0
    with np.errstate(all="ignore"):                              # too long a step gives inf or nan and is refused
        point = evaluate(problem, vectors)
        while used < iterations:
            used += 1
            held = ((vectors <= low) & (point.gradient > 0)) | ((vectors >= high) & (point.gradient < 0))
            # columns get unit length, so that no parameter's unit can hide another parameter in rounding errors
            size = np.sqrt(np.einsum("bii->bi", point.safe))
            size = np.where(size > 0, size, 1.0)
            gradient = np.where(held, 0.0, point.gradient / size)
            matrix = (point.hessian + damping[:, None, None] * point.safe) / (size[:, :, None] * size[:, None, :])
            matrix += (damping[:, None, None] + 1e-12) * identity
            matrix = np.where(held[:, :, None] | held[:, None, :], identity, matrix)
            step, definite = solve(matrix, gradient)
            decrement = (gradient * step).sum(1)
            trial = np.clip(vectors - np.clip(step / size, -reach, reach), low, high)
            new = evaluate(problem, trial)
            better = definite & (new.objective < point.objective)
            small = definite & (damping <= 1.0) & (decrement <= tolerance * point.objective)
            finished = small | (point.objective <= floor) | (damping > 1e10)
            vectors = np.where(better[:, None], trial, vectors)
            point = new.where(better, point)
            damping = np.where(better, np.maximum(damping * 0.1, 1e-10), np.maximum(damping, 1e-6) * 8.0)
            final[live], best[live], converged[live] = vectors, point.objective, finished
            if finished.any():
                keep = ~finished
                if not keep.any():
                    break
                live, vectors, damping, point = live[keep], vectors[keep], damping[keep], point.rows(keep)
                problem = problem.rows(keep)
    return Result(final, best, converged, used)
