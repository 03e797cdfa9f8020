"""Starting points by variable projection over the nonlinear parameters.

Golub and Pereyra 1973: a sum of amplitudes times features is, for given nonlinear parameters, a linear least-squares
problem, so a search is needed over the nonlinear parameters alone: a grid for one or two of them, a low-discrepancy
sequence for more.
"""
from __future__ import annotations

import itertools

import numpy as np

from scaling.laws.fitting import newton
from scaling.laws.fitting.objectives import Objective
from scaling.laws.forms.form import Form

GRID = {1: 81, 2: 21}     # points an axis
SEQUENCE = 4096           # points for three parameters and more
ENOUGH = 100              # runs that rank the points of a long search
APART = 0.08              # of the search box: starts closer than this are one


def search_points(form: Form, count: int | None = None) -> np.ndarray:
    """Nonlinear parameters [G, K] that cover the bounds of those that are searched, evenly in their own coordinates.

    Exponents, whose lower bound is positive, are covered evenly in their logarithm.
    """
    full = form.names[len(form.amplitudes):]
    searched = [p for p in form.nonlinear if p.name in form.free]
    size = len(searched)
    if size in GRID and count is None:
        axes = [np.linspace(0.0, 1.0, GRID[size])] * size
        unit = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)
    else:  # Roberts' sequence: multiples of powers of the generalised golden ratio, modulo 1
        golden = 2.0
        for _ in range(60):
            golden = (1.0 + golden) ** (1.0 / (size + 1))
        steps = golden ** -np.arange(1.0, size + 1)
        unit = (0.5 + np.arange(1, (count or SEQUENCE) + 1)[:, None] * steps) % 1.0
    found = {}
    for k, p in enumerate(searched):
        if p.low > 0:
            found[p.name] = np.clip(p.low * (p.high / p.low) ** unit[:, k], p.low, p.high)
        else:
            found[p.name] = p.low + (p.high - p.low) * unit[:, k]
    rows = max(len(unit), 1)

    def column(name):
        source = form.tied.get(name, name)
        return np.full(rows, form.fixed[source]) if source in form.fixed else found[source]
    return np.stack([column(name) for name in full], axis=1) if full else np.zeros((1, 0))


def amplitudes(form: Form, features: np.ndarray, weights: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Least squares of loss [n] on features [G, J, n] (with their signs) within the amplitudes' bounds, and with those
    that are fixed or tied: [G, J]. The best feasible of all sets of terms."""
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
    """theta [G, K] with those parameters solved for in which the logarithm of the law's one term is linear, such as
    exponents: for a guess of the constant E, log |loss - E| is a linear regression on them.

    Only for laws of a constant and one term, A exp(g), whose exponents are free; others come back as they are.
    """
    first = form.jets(theta[:1], logs)
    changing = [j for j, jet in enumerate(first) if np.ndim(jet.value)]
    if len(changing) != 1 or len(form.amplitudes) > 2:
        return theta
    jet = first[changing[0]]
    linear = [k for k, p in enumerate(form.nonlinear)
              if k in jet.first and p.name in form.free and p.name not in form.tied.values()]
    for pair in jet.second:                                      # of two that multiply each other, one at a time
        if set(pair) <= set(linear):
            linear.remove(pair[0])
    if not linear:
        return theta
    jet = form.jets(theta, logs)[changing[0]]
    amplitude = form.amplitudes[changing[0]]
    share = (0.5 + np.arange(len(theta)) * np.sqrt(2.0)) % 1.0   # another irrational: its own low-discrepancy sequence
    if len(form.amplitudes) == 1:
        gap = np.broadcast_to(loss, (len(theta), len(loss)))
    else:
        span = np.ptp(loss) * 10.0 ** (4.0 * share - 3.0)        # from the edge of the data: E's distance beyond it
        gap = loss - (loss.min() - span)[:, None] if amplitude.sign > 0 else (loss.max() + span)[:, None] - loss
    slopes = np.stack([np.broadcast_to(jet.first[k], gap.shape) for k in linear], axis=1)   # [G, L, n]
    known = jet.value - np.einsum("gl,gln->gn", theta[:, linear], slopes)
    columns = np.concatenate([np.ones((len(theta), 1, gap.shape[1])), slopes], axis=1)
    relative = weights * (gap / loss) ** 2                       # an error of log(gap) is loss / gap that of log(loss)
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
    """Starting vectors [s, P]: amplitudes solved at every point of the search, ranked by the objective itself, the
    best first and no two of them close. With a seed, `wanted` random ones instead."""
    theta = search_points(form)
    if seed is not None:
        rng = np.random.default_rng(seed)
        theta = search_points(form, 64 * wanted)[rng.permutation(64 * wanted)[:wanted]]
    elif theta.shape[1] > 2 and (counted := np.flatnonzero(weights)).size > ENOUGH:
        some = np.random.default_rng(0).permutation(counted)[:ENOUGH]
        logs, loss, weights = logs[:, some], loss[some], weights[some]
    if seed is None:
        with np.errstate(all="ignore"):  # a guess of E may lie where there is no logarithm: those starts are dropped
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
    close = [i for i in order[:wanted // 2] if i not in kept]  # narrow valleys: several along their floor
    return vectors[[*kept, *close]]


def _in_box(form: Form, theta: np.ndarray) -> np.ndarray:
    """theta [G, K] with the search box as the unit cube."""
    out = np.empty_like(theta)
    for k, p in enumerate(form.nonlinear):
        ends = np.log([p.low, p.high]) if p.low > 0 else np.array([p.low, p.high])
        values = np.log(np.maximum(theta[:, k], 1e-300)) if p.low > 0 else theta[:, k]
        out[:, k] = (values - ends[0]) / (ends[1] - ends[0])
    return out
