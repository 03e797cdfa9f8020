"""Starting points by variable projection over the nonlinear parameters.

For given nonlinear parameters, a sum of amplitudes times features is a linear least-squares problem (Golub and Pereyra
1973). So only the nonlinear parameters are searched: on a grid for one or two of them, along a Halton sequence for more.
SciPy is imported where it is used, since importing the laws should not wait for it.
"""
from __future__ import annotations

import itertools

import numpy as np

from scaling.laws.fitting import newton
from scaling.laws.fitting.objectives import Objective
from scaling.laws.forms.form import Form

GRID = {0: 1, 1: 81, 2: 21}  # points an axis, by the number of parameters that are searched
POINTS = 4096                # for three parameters and more
ENOUGH = 100                 # runs that rank the points of a long search
APART = 0.08                 # of a side of the search box: starts closer than this are one


def search_points(form: Form) -> np.ndarray:
    """Points [G, K] of the nonlinear parameters that cover the box of those that are searched."""
    size = sum(p.name in form.free for p in form.nonlinear)
    if size in GRID:
        axis = np.linspace(0.0, 1.0, GRID[size])
        return _in_bounds(form, np.array(list(itertools.product(axis, repeat=size))))
    from scipy.stats import qmc
    return _in_bounds(form, qmc.Halton(size, scramble=False).random(POINTS + 1)[1:])


def random_points(form: Form, count: int, seed: int) -> np.ndarray:
    """`count` random points [count, K] of the nonlinear parameters."""
    size = sum(p.name in form.free for p in form.nonlinear)
    return _in_bounds(form, np.random.default_rng(seed).random((count, size)))


def _in_bounds(form: Form, unit: np.ndarray) -> np.ndarray:
    """Nonlinear parameters [G, K] at points of the unit cube [G, searched]; the others as they are fixed or tied.

    Parameters whose lower bound is positive, such as exponents, are spaced evenly in their logarithm.
    """
    found = dict(form.fixed)
    for p, place in zip((p for p in form.nonlinear if p.name in form.free), unit.T):
        if p.low > 0:
            found[p.name] = np.clip(p.low * (p.high / p.low) ** place, p.low, p.high)
        else:
            found[p.name] = p.low + (p.high - p.low) * place
    out = np.empty((len(unit), len(form.nonlinear)))
    for k, p in enumerate(form.nonlinear):
        out[:, k] = found[form.tied.get(p.name, p.name)]
    return out


def amplitudes(form: Form, features: np.ndarray, weights: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Amplitudes [G, J] that fit loss [n] by signed features [G, J, n] in least squares, within their bounds.

    Fixed and tied amplitudes stay so. Every subset of the terms is solved, and the best feasible one wins:
    scipy.optimize.nnls solves one problem at a time and knows no amplitudes of either sign.
    """
    names = [a.name for a in form.amplitudes]
    free = [name for name in names if name in form.free]
    mixed = np.array([[1.0 if form.tied.get(name, name) == other else 0.0 for other in free] for name in names])
    held = np.array([form.fixed.get(form.tied.get(name, name), 0.0) for name in names])
    target = loss - np.einsum("j,gjn->gn", held, features)
    if not free:
        return np.broadcast_to(held, features.shape[:2])
    own = np.einsum("jf,gjn->gfn", mixed.reshape(len(names), len(free)), features)
    grid, count, _ = own.shape
    size = np.sqrt((own ** 2 * weights).sum(2))
    size = np.where((size > 0) & np.isfinite(size), size, 1.0)
    scaled = np.nan_to_num(own / size[:, :, None], posinf=0.0, neginf=0.0)
    gram = np.einsum("gjn,gkn,n->gjk", scaled, scaled, weights) + 1e-13 * np.eye(count)
    right = np.einsum("gjn,gn->gj", scaled, weights * target)
    signed = np.array([form.parameter(name).low < 0 for name in free])
    best, found = np.full(grid, -np.inf), np.zeros((grid, count))
    for members in itertools.product((False, True), repeat=count):
        take = np.flatnonzero(members)
        part = np.linalg.solve(gram[:, take][:, :, take], right[:, take, None])[:, :, 0]
        feasible = ((part >= 0) | signed[take]).all(1)
        explained = np.where(feasible, (part * right[:, take]).sum(1), -np.inf)
        better = explained > best
        best = np.where(better, explained, best)
        found[better] = 0.0
        found[np.ix_(better, take)] = part[better]
    ends = np.array([[form.parameter(name).low, form.parameter(name).high] for name in free])
    return held + np.clip(found / size, ends[:, 0], ends[:, 1]) @ mixed.T


def solve_exponents(form: Form, theta: np.ndarray, logs, loss, weights) -> np.ndarray:
    """theta [G, K] with the parameters solved for that the logarithm of the law's one term is linear in.

    Exponents are such parameters: for a guess of the constant E, log |loss - E| is a linear regression on them. This is
    only for laws of a constant and one term, A exp(g), with free exponents. Otherwise theta is returned as it is.
    """
    first = form.jets(theta[:1], logs)
    changing = [j for j, jet in enumerate(first) if np.ndim(jet.value)]
    if len(changing) != 1 or len(form.amplitudes) > 2:
        return theta
    jet = first[changing[0]]
    linear = [k for k, p in enumerate(form.nonlinear)
              if k in jet.first and p.name in form.free and p.name not in form.tied.values()]
    for pair in jet.second:                                      # of two that multiply each other, only one is linear
        if set(pair) <= set(linear):
            linear.remove(pair[0])
    if not linear:
        return theta
    jet = form.jets(theta, logs)[changing[0]]
    amplitude = form.amplitudes[changing[0]]
    if len(form.amplitudes) == 1:
        gap = np.broadcast_to(loss, (len(theta), len(loss)))
    else:
        from scipy.stats import qmc
        share = qmc.Halton(len(form.nonlinear) + 1, scramble=False).random(len(theta))[:, -1]  # the coordinate after theirs
        span = np.ptp(loss) * 10.0 ** (4.0 * share - 3.0)        # how far E lies beyond the edge of the losses
        gap = loss - (loss.min() - span)[:, None] if amplitude.sign > 0 else (loss.max() + span)[:, None] - loss
    slopes = np.stack([np.broadcast_to(jet.first[k], gap.shape) for k in linear], axis=1)   # [G, L, n]
    known = jet.value - np.einsum("gl,gln->gn", theta[:, linear], slopes)
    columns = np.concatenate([np.ones((len(theta), 1, gap.shape[1])), slopes], axis=1)
    relative = weights * (gap / loss) ** 2  # an error of log(gap) is loss / gap times that of log(loss)
    size = np.sqrt((columns ** 2 * relative[:, None]).sum(2))
    scaled = columns / np.where(size > 0, size, 1.0)[:, :, None]
    gram = np.einsum("gan,gbn,gn->gab", scaled, scaled, relative) + 1e-12 * np.eye(len(linear) + 1)
    right = np.einsum("gan,gn->ga", scaled, relative * (np.log(gap) - known))
    solved = np.linalg.solve(gram, right[:, :, None])[:, 1:, 0] / np.where(size > 0, size, 1.0)[:, 1:]
    out = theta.copy()
    low, high = form.low[-theta.shape[1]:], form.high[-theta.shape[1]:]
    out[:, linear] = np.clip(solved, low[linear], high[linear])
    return np.where(np.isfinite(out), out, theta)


def starts(form: Form, logs, loss, weights, objective: Objective, wanted: int, seed: int | None = None) -> np.ndarray:
    """Starting vectors [s, P], best first: amplitudes are solved at every point of the search, the objective ranks the
    points, and no two starts are close. With a seed they are `wanted` random ones."""
    if seed is not None:
        theta = random_points(form, wanted, seed)
    else:
        theta = search_points(form)
        if theta.shape[1] > 2 and (counted := np.flatnonzero(weights)).size > ENOUGH:
            some = np.random.default_rng(0).permutation(counted)[:ENOUGH]
            logs, loss, weights = logs[:, some], loss[some], weights[some]
        with np.errstate(all="ignore"):  # a guess of E may leave no logarithm; that start is dropped
            theta = np.concatenate([theta, solve_exponents(form, theta, logs, loss, weights)])
    relative = weights if objective.space == "linear" else weights / (loss + objective.shift) ** 2
    solved, score = [], []
    rows = max(1, 64 * newton.CHUNK // (logs.shape[1] * len(form.amplitudes)))
    with np.errstate(all="ignore"):
        for i in range(0, len(theta), rows):
            g = form.features(theta[i:i + rows], logs)
            found = amplitudes(form, g, relative, loss)
            predicted = np.einsum("gj,gjn->gn", found, g)
            value = objective.value(objective.residuals(loss, predicted), weights)
            solved.append(found)
            score.append(np.where(np.isfinite(value), value, np.inf))
    vectors, score = np.concatenate([np.concatenate(solved), theta], axis=1), np.concatenate(score)
    if seed is not None:
        return vectors[np.isfinite(score)]
    order = np.argsort(score, kind="stable")
    order = order[np.isfinite(score[order])]
    place = _in_box(form, theta)
    kept: list[int] = []
    for i in order[:2000]:
        if all(np.abs(place[i] - place[j]).max(initial=0.0) > APART for j in kept):
            kept.append(i)
        if len(kept) == wanted:
            break
    close = [i for i in order[:wanted // 2] if i not in kept]  # several starts along the floor of a narrow valley
    return vectors[[*kept, *close]]


def _in_box(form: Form, theta: np.ndarray) -> np.ndarray:
    """theta [G, K] scaled so that the search box is the unit cube."""
    out = np.empty_like(theta)
    for k, p in enumerate(form.nonlinear):
        ends = np.log([p.low, p.high]) if p.low > 0 else np.array([p.low, p.high])
        values = np.log(np.maximum(theta[:, k], 1e-300)) if p.low > 0 else theta[:, k]
        out[:, k] = (values - ends[0]) / (ends[1] - ends[0])
    return out
