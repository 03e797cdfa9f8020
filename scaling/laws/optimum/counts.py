"""The training cost of a run as a function of N and D, for `frontier`."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scaling.laws.checks.diagnose import count_levels
from scaling.laws.runs import as_runs


def six_n_d(N, D):
    """Training FLOPs of a dense model by the usual count, 6 N D (Kaplan et al. 2020, arXiv:2001.08361,
    section 2.1)."""
    return 6.0 * N * D


def counted(runs, **columns: str) -> Callable:
    """cost(N, D) in FLOPs, as the runs counted them: log (C / D) of the runs, fitted by a parabola in log N.

    Beyond the sizes of the runs the curve is a straight line, since a parabola would turn around. With two
    sizes the parabola is a line; with one it is 6 N D, scaled to the runs. runs, columns: as `fit` takes them.
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
