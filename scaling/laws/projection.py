"""Starting points by variable projection over a grid of exponents.

Golub and Pereyra 1973: a sum of amplitudes times features is, for given nonlinear parameters, a linear
least-squares problem, so a search is needed over the nonlinear parameters alone.
"""
from __future__ import annotations

import itertools

import numpy as np

from scaling.laws import newton
from scaling.laws.forms import Form


def _grid(form: Form) -> np.ndarray:
    """Points [G, K] over the nonlinear parameters, evenly spaced in the logarithm where bounds allow it."""
    count = {1: 41, 2: 21, 3: 9}.get(len(form.nonlinear), 5)
    axes = [np.geomspace(p.low, p.high, count) if p.low > 0 else np.linspace(p.low, p.high, count)
            for p in form.nonlinear]
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)


def _amplitudes(features: np.ndarray, weights: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Nonnegative least squares of loss [n] on features [G, J, n]: the best feasible of all sets of terms."""
    grid, count, _ = features.shape
    size = np.sqrt((features ** 2 * weights).sum(2))
    scaled = features / size[:, :, None]
    gram = np.einsum("gjn,gkn,n->gjk", scaled, scaled, weights) + 1e-13 * np.eye(count)
    right = np.einsum("gjn,n->gj", scaled, weights * loss)
    best, found = np.full(grid, -np.inf), np.zeros((grid, count))
    for members in itertools.product((False, True), repeat=count):
        take = np.flatnonzero(members)
        part = np.linalg.solve(gram[:, take][:, :, take], right[:, take, None])[:, :, 0]
        explained = np.where((part >= 0).all(1), (part * right[:, take]).sum(1), -np.inf)
        better = explained > best
        best = np.where(better, explained, best)
        found[better] = 0.0
        found[np.ix_(better, take)] = part[better]
    return found / size


def grid_starts(form: Form, logs, loss, weights, delta: float, space: str, starts: int) -> np.ndarray:
    """Starting vectors [s, P]: amplitudes solved at every grid point, ranked by the objective itself."""
    theta = _grid(form)
    g, _ = form.log_terms(theta, logs)
    features = np.exp(g)
    relative = weights / loss ** 2 if space == "log" else weights
    amplitudes = _amplitudes(features, relative, loss)
    predicted = np.maximum(np.einsum("gj,gjn->gn", amplitudes, features), 1e-300)
    residual = np.log(predicted / loss) if space == "log" else predicted - loss
    score = (weights * newton.huber(residual, delta)).sum(1)
    sides = [np.unique(theta[:, k]).size for k in range(theta.shape[1])]
    cube = np.pad(score.reshape(sides), 1, constant_values=np.inf)
    inner = tuple(slice(1, -1) for _ in sides)
    local = np.ones(sides, bool)
    for k in range(len(sides)):
        for shift in (-1, 1):
            local &= cube[inner] <= np.roll(cube, shift, axis=k)[inner]
    order = np.lexsort((score, ~local.ravel()))[:starts]
    order = np.unique(np.concatenate([order, np.argsort(score)[:starts // 2]]))
    return np.concatenate([amplitudes[order], theta[order]], axis=1)
