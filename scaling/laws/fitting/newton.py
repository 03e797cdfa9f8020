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

from scaling.laws.fitting.objectives import Objective
from scaling.laws.forms.form import Form

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


def _dot(values: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Sum over points of values [batch, n] times features: a number, [n] (shared by the batch) or [batch, n or 1]."""
    features = np.asarray(features)
    if features.ndim == 0:
        return values.sum(-1) * features
    if features.ndim == 1:
        return values @ features if len(features) == values.shape[1] else values.sum(-1) * features[0]
    return np.einsum("bn,bn->b", *np.broadcast_arrays(values, features))


class Problem(NamedTuple):
    """Rows that are fitted side by side: `target` is the loss in the objective's space, [batch, n]; `basis` [P, F] and
    `offset` [P] make all parameters out of the free ones, which is how they are tied and fixed."""
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
    """Parameters [batch, P] as the optimiser sees them."""
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


def evaluate(problem: Problem, free: np.ndarray) -> Point:
    """Objective and derivatives at free coordinates [batch, F]; of squares, half their sum."""
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
    pull = weights * np.clip(residual, -delta, delta)           # derivative of the loss by the residual
    reweighted = weights * np.minimum(1.0, delta / np.maximum(distance, 1e-300))
    value = (weights * near * (distance - 0.5 * near)).sum(-1)

    jacobian = np.zeros((len(full), size, n))
    jacobian[:, :count] = slope
    for j, jet in enumerate(jets):
        for k, d in jet.first.items():
            jacobian[:, count + k] += part[:, j] * d
    hessian = np.zeros((len(full), size, size))                 # first what the curvature of the law itself adds
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


def minimise(form: Form, start, logs, loss, weights=1.0, *, objective: Objective = Objective(),
             iterations: int = 300, tolerance: float = 1e-12) -> Result:
    """Minimise from every row of start [batch, P] to convergence; rows are independent problems.

    logs [I, n] are shared; loss (positive) and weights (nonnegative) are [n], or [batch, n] where each row has its own.
    A row has converged when a full Newton step would lower its objective by less than `tolerance` of it.
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
    """Least absolute values as the limit of Huber losses, each from the optimum of the one before."""
    with np.errstate(all="ignore"):
        scale = max(float(np.median(np.abs(_gap(problem, free)))), 1e-12)
    for delta in scale * 10.0 ** -np.arange(8):
        found = _minimise(problem._replace(delta=delta), free, low, high, iterations, tolerance)
        free = found.vectors
    return found._replace(objective=problem.objective.value(_gap(problem, free), problem.weights))


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
    with np.errstate(all="ignore"):                              # a step too far gives inf or nan: refused
        point = evaluate(problem, vectors)
        for used in range(1, iterations + 1):
            held = ((vectors <= low) & (point.gradient > 0)) | ((vectors >= high) & (point.gradient < 0))
            # columns of unit length, so that no unit of a parameter can hide another one in rounding errors
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
