"""What runs of a size cost, and how their parameters are counted: functions of N and D for `frontier`."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from scaling.laws.checks.diagnose import count_levels
from scaling.laws.forms.form import LawError
from scaling.laws.runs import as_runs


def six_n_d(N, D):
    """Training FLOPs of a dense model by the usual count, 6 N D (Kaplan et al. 2020, arXiv:2001.08361,
    section 2.1)."""
    return 6.0 * N * D


def counted(runs, **columns: str) -> Callable:
    """cost(N, D) in FLOPs as runs counted them: the column C over D of each size, as a parabola in the
    logarithms of N.

    Beyond the sizes of the runs the curve goes straight on, since a parabola would turn around. runs,
    columns: as `fit` takes them. With fewer than three sizes the parabola is a line, or 6 N D scaled to the
    one size.
    """
    runs = as_runs(runs, **columns)
    x = np.log(runs.positive("N"))
    each = np.log(runs.positive("C")) - np.log(runs.positive("D"))
    degree = min(2, count_levels(x) - 1)
    curve = np.polyfit(x, each, degree) if degree else np.array([1.0, np.mean(each - x)])
    low, high = x.min(), x.max()

    def cost(N, D):
        log_size = np.log(N)
        inside = np.clip(log_size, low, high)
        slope = np.polyval(np.polyder(curve), inside)
        return D * np.exp(np.polyval(curve, inside) + slope * (log_size - inside))
    return cost


def recount(runs, column: str, **columns: str) -> Callable:
    """N of the law -> another count of the same models, such as params_total, as the runs have both.

    The logarithm of their ratio is interpolated between sizes by cubics with continuous slopes (exact at the
    sizes; several runs of one are averaged) and beyond them goes straight on, towards a ratio of 1 at most.
    """
    runs = as_runs(runs, **columns)
    if column not in runs.frame:
        raise LawError(f"no column {column!r} to count N by; the columns are "
                       f"{', '.join(map(str, runs.frame))}")
    x = np.log(runs.positive("N"))
    other = runs.frame[column].to_numpy(float)
    if not np.all(np.isfinite(other) & (other > 0)):
        raise LawError(f"column {column!r} must be positive and finite in every run to count N by")
    mean = pd.Series(np.log(other) - x).groupby(x).mean()
    sizes, ratio = mean.index.to_numpy(), mean.to_numpy()
    slope = np.gradient(ratio, sizes) if len(sizes) > 1 else np.zeros(1)

    def count(N):
        at = np.log(N)
        inside = np.clip(at, sizes[0], sizes[-1])
        i = np.clip(np.searchsorted(sizes, inside) - 1, 0, max(len(sizes) - 2, 0))
        j = np.minimum(i + 1, len(sizes) - 1)
        width = np.where(i < j, sizes[j] - sizes[i], 1.0)
        t = (inside - sizes[i]) / width
        value = (ratio[i] + t * t * (3 - 2 * t) * (ratio[j] - ratio[i])
                 + width * t * (1 - t) * ((1 - t) * slope[i] - t * slope[j]))
        line = value + np.where(at < inside, slope[0], slope[-1]) * (at - inside)
        same = np.sign(line) == np.sign(value)  # beyond the runs' sizes neither count overtakes the other
        return np.exp(at + np.where((at == inside) | same, line, 0.0))
    return count
