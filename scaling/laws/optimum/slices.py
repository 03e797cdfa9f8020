"""Slices of equal compute for `isoflop`: which runs belong together, and the curve through them with its minimum.

Minima are found by hand, since they are batched over resamples. SciPy is imported inside the functions that need
it, which keeps `import scaling.laws` fast.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from scaling.laws.checks.diagnose import LEVELS_APART, count_levels
from scaling.laws.forms.form import LawError
from scaling.laws.runs import Runs

# The degree of the polynomial that a method fits. Akima's method interpolates: the residuals of this polynomial
# then stand for the noise.
DEGREE = {"parabola": 2, "cubic": 3, "akima": 3}
FATAL = ("few", "not convex", "edge")
FLAGS = {"few": "too few sizes for a curve", "not convex": "no minimum but a maximum or a slope",
         "edge": "the minimum at or beyond the smallest or largest size",
         "one-sided": "only one size on one side of the minimum",
         "uncertain": "no minimum inside in over 5% of resamples", "outliers": "runs far off the curve",
         "budget spread": "compute that varies by over 20%"}
ROLES = {"params": "N", "data": "D"}
DOUBTFUL = 0.05    # a slice is uncertain if a larger share of resamples has no minimum inside it
ALONE = 3          # fewer runs of about equal compute make no slice
OUTLYING = 0.01    # chance that the farthest of a slice's normal residuals is called an outlier


class Slice(NamedTuple):
    """Runs of one budget: flops, row numbers in the source [n], logs {"N": [n], "D": [n]}, loss [n], and the
    range of log compute."""
    flops: float
    rows: np.ndarray
    logs: dict[str, np.ndarray]
    loss: np.ndarray
    spread: float

    def without(self, mask: np.ndarray) -> Slice:
        return self._replace(rows=self.rows[~mask], loss=self.loss[~mask],
                             logs={role: x[~mask] for role, x in self.logs.items()})

    def curve(self, method: str, role: str, at: np.ndarray) -> np.ndarray:
        """The fitted loss at logarithms of N or D; NaN where there are too few sizes."""
        x = self.logs[role]
        if count_levels(x) <= DEGREE[method]:
            return np.full(len(at), np.nan)
        if method == "akima":
            return _akima(x, self.loss[:, None])(at)[:, 0]
        centre = x.mean()
        return np.polyval(np.polyfit(x - centre, self.loss, DEGREE[method]), at - centre)


def group_slices(runs: Runs, budgets, tolerance: float) -> list[Slice]:
    """Slices in ascending order of compute. budgets and tolerance are those of `isoflop`."""
    if not tolerance > 0:
        raise LawError(f"tolerance must be positive, such as 0.1, not {tolerance}")
    loss, logs = runs.values("y"), {}
    bad = np.flatnonzero(~np.isfinite(loss))
    if bad.size:
        column = runs.columns["y"]
        raise LawError(f"column {column!r} is not finite in row {runs.rows[bad[0]]} (and {bad.size - 1} others); "
                       f"drop diverged runs before an isoFLOP analysis, for instance where='{column} > 0'")
    if {"C", "N"} <= set(runs.columns) or {"C", "D"} <= set(runs.columns):
        x = np.log(runs.positive("C"))
    else:
        x = np.log(runs.positive("N")) + np.log(runs.positive("D")) + np.log(6.0)
    for role, other in (("N", "D"), ("D", "N")):
        logs[role] = np.log(runs.positive(role)) if role in runs.columns else \
            x - np.log(6.0) - np.log(runs.positive(other))
    label = _labels(runs, x, budgets, np.log1p(tolerance))
    slices = []
    for value in np.unique(label[label >= 0]):
        here = np.flatnonzero(label == value)
        here = here[np.lexsort([loss[here], logs["N"][here]])]  # makes the result independent of the runs' order
        flops = float(np.exp(x[here].mean()))
        slices.append(Slice(flops, runs.rows[here], {role: v[here] for role, v in logs.items()}, loss[here],
                            float(np.ptp(x[here]))))
    if not slices:
        raise LawError(f"no {ALONE} of the {len(runs)} runs have about equal compute (within {tolerance:.0%}); an "
                       "isoFLOP analysis needs several sizes at each budget: set tolerance= or budgets=, or fit "
                       "a law instead")
    return sorted(slices, key=lambda part: part.flops)


def _labels(runs: Runs, x: np.ndarray, budgets, apart: float) -> np.ndarray:
    """The slice of every run [n], given log compute x [n]; -1 for a run of no slice."""
    if isinstance(budgets, str):
        if budgets not in runs.frame:
            raise LawError(f"no column {budgets!r} of budgets; the columns are "
                           f"{', '.join(map(str, runs.frame))}")
        return pd.factorize(runs.frame[budgets])[0]
    if budgets is None:
        label, order = np.full(len(x), -1), np.argsort(x, kind="stable")
        while len(order):  # the fullest window of compute becomes a slice, then the fullest of the rest
            last = np.searchsorted(x[order], x[order] + apart, side="right")
            first = int(np.argmax(last - np.arange(len(order))))
            here = slice(first, last[first])
            if len(order[here]) < ALONE:
                break
            label[order[here]] = label.max() + 1
            order = np.delete(order, here)
        return label
    given = np.atleast_1d(np.asarray(budgets, float))
    if not np.all(np.isfinite(given) & (given > 0)):
        raise LawError("budgets must be positive FLOPs, or the name of a column")
    distance = np.abs(x[:, None] - np.log(given))
    return np.where(distance.min(1) <= apart, distance.argmin(1), -1)


def slice_optimum(part: Slice, method: str, draws: int, rng) -> dict:
    """The optimum of one slice: params, data and loss are log N*, log D* and the log of the loss there, and
    params_draws, data_draws and loss_draws [draws] their resamples. inside: whether the minimum lies inside the
    slice; share: the share of draws in which it does; convex: whether the slice is convex."""
    out = {"convex": True, "inside": True, "share": 1.0}
    noise = curve_residuals(part.logs["N"], part.loss, DEGREE[method])
    drawn = part.loss[:, None] + rng.choice(noise, (len(noise), draws))
    for name, role in ROLES.items():
        x = part.logs[role]
        here = lowest_points(method, x, part.loss[:, None])
        many = lowest_points(method, x, drawn)
        within = many.convex & (many.where > x.min()) & (many.where < x.max())
        good = many.where[within] if within.any() else np.full(1, here.where[0])
        out |= {name: here.where[0], f"{name}_draws": np.where(within, many.where, rng.choice(good, draws)),
                "convex": out["convex"] and bool(here.convex[0]),
                "share": min(out["share"], float(within.mean())),
                "inside": out["inside"] and bool(x.min() < here.where[0] < x.max())}
        if role == "N":
            with np.errstate(invalid="ignore"):
                value, values = np.log(here.value[0]), np.log(many.value)
            within &= np.isfinite(values)
            good = values[within] if within.any() else np.full(1, value)
            out |= {"loss": value, "loss_draws": np.where(within, values, rng.choice(good, draws))}
    return out


def find_flaws(one: dict, part: Slice, method: str) -> list[str]:
    """The flags of a slice: one FATAL flag, or all warnings that apply."""
    x, said = part.logs["N"], []
    if count_levels(x) < DEGREE[method] + 2:  # the curve has DEGREE + 1 coefficients, and one size must be left over
        return ["few"]
    if not one["convex"]:
        return ["not convex"]
    if not one["inside"]:
        return ["edge"]
    if min(count_levels(x[x < one["params"]]), count_levels(x[x > one["params"]])) < 2:
        said.append("one-sided")   # the minimum rests on a single size beyond it
    if one["share"] < 1 - DOUBTFUL:
        said.append("uncertain")
    if one["odd"]:
        said.append("outliers")
    if part.spread > LEVELS_APART * 20:
        said.append("budget spread")
    return said


class Lowest(NamedTuple):
    where: np.ndarray    # [batch] log of the input at the minimum; NaN where a curve has none
    value: np.ndarray    # [batch] the loss there
    convex: np.ndarray   # [batch] whether the slice is convex on the whole, so that this is a minimum


def lowest_points(method: str, x: np.ndarray, y: np.ndarray) -> Lowest:
    """The minima of curves through y [n, batch] at x [n].

    The vertex of a parabola may be a maximum or lie outside the runs, and the minimum of a cubic may lie outside
    them. That of Akima's curve lies inside or at an end.
    """
    nothing = np.full(y.shape[1], np.nan)
    if count_levels(x) <= DEGREE[method]:
        return Lowest(nothing, nothing, np.zeros(len(nothing), bool))
    centre, scale = x.mean(), np.ptp(x)
    c = np.polyfit((x - centre) / scale, y, 2 if method != "cubic" else 3)
    if method == "akima":
        return Lowest(*_lowest_of_pieces(_akima(x, y), x), c[0] > 0)
    t, convex = _stationary(*c[:3]) if method == "cubic" else (-c[1] / (2 * c[0]), c[0] > 0)
    value = np.zeros_like(t)
    for one in c:
        value = value * t + one
    return Lowest(centre + scale * t, value, convex)


def _stationary(c0, c1, c2):
    """(t of the local minimum of c0 t^3 + c1 t^2 + c2 t, whether it has one)."""
    with np.errstate(all="ignore"):
        root = np.sqrt(c1 * c1 - 3 * c0 * c2)
        t = -c2 / (c1 + root)       # the root with a positive second derivative, 2 root
    return np.where(root > 0, t, np.nan), root > 0


def _akima(x: np.ndarray, y: np.ndarray):
    """Akima's interpolant of y [n, batch]. Sizes closer than 1% are merged, and their losses averaged."""
    from scipy.interpolate import Akima1DInterpolator
    order = np.argsort(x, kind="stable")
    first = np.flatnonzero(np.concatenate([[True], np.diff(x[order]) > LEVELS_APART]))
    count = np.diff(np.append(first, len(x)))
    return Akima1DInterpolator(np.add.reduceat(x[order], first) / count,
                               np.add.reduceat(y[order], first, axis=0) / count[:, None])


def _lowest_of_pieces(curve, x):
    """(where, value) of the lowest point of a piecewise cubic, [batch] each. Its ends are the smallest and the
    largest x."""
    start, width = curve.x[:-1, None], np.diff(curve.x)[:, None]
    t, has = _stationary(*curve.c[:3])
    has &= (t >= 0) & (t <= width)
    t = np.where(has, t, 0.0)
    c0, c1, c2, c3 = curve.c
    value = np.where(has, ((c0 * t + c1) * t + c2) * t + c3, np.inf)
    value = np.concatenate([value, curve(curve.x[[0, -1]])])
    where = np.concatenate([start + t, np.broadcast_to([[x.min()], [x.max()]], (2, t.shape[1]))])
    best = value.argmin(0)[None]
    return np.take_along_axis(where, best, 0)[0], np.take_along_axis(value, best, 0)[0]


def curve_residuals(x: np.ndarray, y: np.ndarray, degree: int) -> np.ndarray:
    """Residuals [n] of a polynomial in x, centred, and divided by sqrt(1 - leverage) to have the size of the
    noise. Zeros where no degrees of freedom are left."""
    if count_levels(x) <= degree + 1:
        return np.zeros(len(x))
    rest, room = _least_squares(x, y, degree)
    rest = rest / np.sqrt(room)
    return rest - rest.mean()


def slice_outliers(x: np.ndarray, y: np.ndarray, degree: int) -> np.ndarray:
    """[n] whether a run lies farther off the polynomial through the others than the farthest of as many normal
    ones would in 1% of slices. The worst run is taken away, and the rest is tested again."""
    from scipy.special import stdtrit
    out = np.zeros(len(x), bool)
    while count_levels(x[~out]) > degree + 3:
        rest, room = _least_squares(x[~out], y[~out], degree)
        count, spare = len(rest), len(rest) - degree - 2
        variance = (rest @ rest - rest ** 2 / room) / spare      # of the other runs' residuals
        if rest @ rest < 1e-24 * (y @ y):
            break
        t = np.abs(rest) / np.sqrt(np.maximum(variance, 1e-300) * room)
        if t.max() < stdtrit(spare, 1 - OUTLYING / (2 * count)):
            break
        out[np.flatnonzero(~out)[t.argmax()]] = True
    return out


def _least_squares(x, y, degree):
    """(residuals, 1 - leverage) of a polynomial."""
    q, _ = np.linalg.qr(np.vander((x - x.mean()) / np.ptp(x), degree + 1))
    return y - q @ (q.T @ y), np.maximum(1 - (q ** 2).sum(1), 1e-6)
