"""The learning rate of a run larger than those that were tuned, and the critical batch size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from scaling.results.tuned import PARAMS

if TYPE_CHECKING:
    import pandas as pd

# Exponents of the best rate before any run, as (mean, standard deviation). Under muP it does not depend on the width, and
# with CompleteP not on the depth. It falls with the amount of data: -0.32 in Bjorck et al. 2409.19913, -0.28 elsewhere.
PRIORS = {"N": (0.0, 0.15), "D": (-0.3, 0.1)}
LEAST_ERROR = np.log(1.6) / np.sqrt(12)  # of the logarithm of a best rate, however fine its grid: seeds move it as much
LEVEL, Z = 0.9, 1.645


class TargetRate(NamedTuple):
    """The rate that the rule gives a larger run, with the interval of the law's mean there."""
    rate: float
    low: float
    high: float
    exponents: dict[str, tuple[float, float]]  # {"N", "D": (mean, standard deviation)} after the runs
    cells: int  # the cells whose tuned rates were used
    nearest: float  # the tuned rate of the cell nearest to the run
    sentence: str  # what was chosen and why


def target_rate(cells: pd.DataFrame, params: float, seen: float, data: str = "tokens_seen") -> TargetRate:
    """The learning rate for a run of `params` non-embedding parameters on `seen` units of data.

    `cells` are the tuned runs of a sweep, one per (N, D), with columns params_non_embedding, learning_rate and `data`, the
    column of D. log lr is a plane in log N and log D (the form of Bjorck et al. 2409.19913), whose exponents have the
    normal priors `PRIORS`: Bayesian linear regression, with a flat prior for the level. A best rate has an error: half a
    step of its grid either way, or more if the cells scatter more about the plane.
    """
    n, d, rates = (np.log(cells[c].to_numpy(float)) for c in (PARAMS, data, "learning_rate"))
    design = np.stack([np.ones_like(n), n - n.mean(), d - d.mean()], axis=1)
    mean, spread = (np.array([0.0, *(PRIORS[name][i] for name in "ND")]) for i in range(2))
    precision = np.diag([0.0, *spread[1:] ** -2])
    error = _grid_error(rates)
    for _ in range(2):  # the second time with the scatter about the first plane
        covariance = np.linalg.inv(design.T @ design / error**2 + precision)
        plane = covariance @ (design.T @ rates / error**2 + precision @ mean)
        free = max(1, len(rates) - 3)
        error = max(error, float(np.sqrt(np.square(rates - design @ plane).sum() / free)))
    at = np.array([1.0, np.log(params) - n.mean(), np.log(seen) - d.mean()])
    found, margin = float(at @ plane), Z * float(np.sqrt(at @ covariance @ at))
    exponents = {name: (float(plane[i]), float(np.sqrt(covariance[i, i]))) for i, name in ((1, "N"), (2, "D"))}
    near = int(np.argmin(np.square(n - np.log(params)) + np.square(d - np.log(seen))))
    rate, low, high, nearest = (float(np.exp(x)) for x in (found, found - margin, found + margin, rates[near]))
    sentence = _sentence(rate, low, high, exponents, len(cells), nearest)
    return TargetRate(rate, low, high, exponents, len(cells), nearest, sentence)


def _grid_error(rates) -> float:
    """The standard error of the logarithm of a best rate: that of a uniform error of half a step of its grid either way."""
    steps = np.diff(np.unique(rates.round(6)))
    return max(LEAST_ERROR, float(np.median(steps)) / np.sqrt(12) if len(steps) else 0.0)


def _sentence(rate, low, high, exponents, cells, nearest) -> str:
    said = [f"{name}^({mean:.2f} ± {Z * error:.2f}), where {PRIORS[name][0]:.2f} ± {Z * PRIORS[name][1]:.2f} was expected"
            for name, (mean, error) in exponents.items()]
    runs = "rate of 1 tuned cell goes" if cells == 1 else f"rates of {cells} tuned cells go"
    return (f"The learning rate of the target is {rate:.3g} ({LEVEL:.0%} interval {low:.3g} to {high:.3g}): the best "
            f"{runs} as {' and as '.join(said)}. The best rate of the nearest cell is {nearest:.3g}.")


def vertex(curve: Mapping[float, float]) -> tuple[float, float, bool]:
    """(best learning rate, its loss, whether it is at an edge) of {rate: loss}.

    The best rate is the vertex of the parabola in log rate through the lowest point and its neighbours. At an edge it is
    the rate that was tried, and a better one may lie beyond.
    """
    tried = np.array(sorted(curve), float)
    losses = np.array([curve[rate] for rate in sorted(curve)], float)
    low = int(losses.argmin())
    if not 0 < low < len(tried) - 1:
        return float(tried[low]), float(losses[low]), True
    near, at = slice(low - 1, low + 2), np.log(tried[low])
    a, b, c = np.polyfit(np.log(tried[near]) - at, losses[near], 2)
    return float(np.exp(at - b / (2 * a))), float(c - b**2 / (4 * a)), False


def critical_batch(squares: Mapping[float, float]) -> float:
    """The critical batch size in examples, beyond which larger batches save few steps: the simple noise scale tr(S)/|G|^2.

    squares: {batch size: mean square norm of the gradient of such batches}, for two sizes or more at the same parameters.
    The mean is |G|^2 + tr(S) / batch, with G the true gradient and S the covariance of one example's (McCandlish et al.
    1812.06162, appendix A.1), and the line is fitted with weights for relative errors. Infinite where noise hides G. The
    critical batch size grows with the amount of data and hardly with the size (Zhang et al. 2410.21676).
    """
    if len(squares) < 2:
        raise ValueError(f"the critical batch size needs gradients of two batch sizes, not of {sorted(squares)}")
    batch, square = (np.array(values, float) for values in zip(*sorted(squares.items())))
    design = np.stack([np.ones_like(batch), 1 / batch], 1) / square[:, None]
    (signal, noise), *_ = np.linalg.lstsq(design, np.ones_like(batch), rcond=None)
    return float(noise / signal) if signal > 0 else float("inf")
