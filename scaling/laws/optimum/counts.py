"""The training cost of a run as a function of N and D, for `frontier`."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaling.laws.checks.diagnose import level_of
from scaling.laws.checks.diagnostic import Diagnostic
from scaling.laws.forms.form import LawError
from scaling.laws.runs import as_runs

NOTICED, REFUSED = 0.02, 0.2          # relative error of a run's FLOPs from which there is a warning, and no cost
POWERS = np.array([0, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 1, 5 / 4])  # of N that a sum of powers may have
LEFT_OUT, REFUSED_LEFT_OUT = 0.1, 0.5  # the same for sizes that the curve was drawn without, which overstates it


def six_n_d(N, D):
    """Training FLOPs of a dense model by the usual count, 6 N D (Kaplan et al. 2020, arXiv:2001.08361,
    section 2.1)."""
    return 6.0 * N * D


@dataclass(frozen=True)
class Counted:
    """cost(N, D) in FLOPs. curve: log (C / D) and its slope at log N, between low and high; straight lines beyond.

    error: the largest relative error of the FLOPs of a run. left_out: the same where the curve is drawn without the runs
    of that size, for sizes between others; 0 if there are none.
    """
    curve: Callable
    slope: Callable
    low: float
    high: float
    error: float
    left_out: float

    def __call__(self, N, D):
        log_size = np.log(N)
        inside = np.clip(log_size, self.low, self.high)
        return D * np.exp(self.curve(inside) + self.slope(inside) * (log_size - inside))

    @property
    def diagnostics(self) -> list[Diagnostic]:
        worst = max(self.error, self.left_out if self.left_out > LEFT_OUT else 0.0)
        if worst <= NOTICED:
            return []
        return [Diagnostic(f"The FLOPs that the runs counted are no smooth function of N times D: this one misses them by "
                           f"up to {worst:.1%}, and N* and D* err by at least as much.", "counted-flops", ("C",))]


def counted(runs, **columns: str) -> Counted:
    """cost(N, D) in FLOPs, as the runs counted them: C / D of the runs as a smooth function of N.

    It is a sum of powers of N (matrices cost N, embeddings and attention less), a parabola in logarithms, or the monotone
    cubics through the mean of every size (PCHIP; Fritsch and Butland 1984), whichever best predicts sizes that are left
    out. Beyond the sizes of the runs the latter two are straight lines. With two sizes it is a line; with one it is 6 N D,
    scaled to the runs. runs, columns: as `fit` takes them.

    Raises LawError if it misses the FLOPs of some run by more than 20%, or that of a size left out by more than half.
    """
    runs = as_runs(runs, **columns)
    x = np.log(runs.positive("N"))
    each = np.log(runs.positive("C")) - np.log(runs.positive("D"))
    level = level_of(x)
    count = level.max() + 1
    size = np.bincount(level, x) / np.bincount(level)
    mean = np.bincount(level, each) / np.bincount(level)
    missed: list[float] = []
    if count < 3:
        line = np.polyfit(size, mean, 1) if count == 2 else np.array([1.0, np.mean(each - x)])
        best, left_out = _polynomial(line), 0.0
    else:
        kinds = [_powers, lambda a, b: _polynomial(np.polyfit(a, b, min(2, len(a) - 1))), _smooth]
        missed = [_left_out(kind, size, mean) for kind in kinds]
        best, left_out = kinds[int(np.argmin(missed))](size, mean), min(missed)
    error = float(np.expm1(np.abs(each - best[0](x)).max()))
    if error > REFUSED or left_out > REFUSED_LEFT_OUT:
        raise LawError(f"the FLOPs that the runs counted are no function of N times D: the smooth function through them "
                       f"misses them by up to {max(error, left_out):.0%}, and a frontier would err by more; use 6 N D, or "
                       "runs whose FLOPs follow from N and D")
    low, high = (-np.inf, np.inf) if missed and missed[0] == left_out else (float(x.min()), float(x.max()))
    return Counted(*best, low=low, high=high, error=error, left_out=left_out)


def _polynomial(coefficients) -> tuple[Callable, Callable]:
    slope = np.polyder(coefficients)
    return lambda at: np.polyval(coefficients, at), lambda at: np.polyval(slope, at)


def _powers(size, mean) -> tuple[Callable, Callable]:
    """The log of a sum of powers of N with coefficients above 0 that has the least relative errors, and its slope."""
    from scipy.optimize import nnls  # here, since importing the laws should not wait for it
    centre = size.mean()
    found, _ = nnls(np.exp(np.outer(size - centre, POWERS) - mean[:, None]), np.ones(len(size)))

    def parts(at):
        return found * np.exp(np.multiply.outer(np.asarray(at) - centre, POWERS))
    return lambda at: np.log(parts(at).sum(-1)), lambda at: parts(at) @ POWERS / parts(at).sum(-1)


def _smooth(size, mean) -> tuple[Callable, Callable]:
    from scipy.interpolate import PchipInterpolator  # here, since importing the laws should not wait for it
    curve = PchipInterpolator(size, mean)
    return curve, curve.derivative()


def _left_out(kind, size, mean) -> float:
    """The largest relative error of the curve at a size between others that it was drawn without."""
    gaps = [0.0]
    for place in range(1, len(size) - 1):
        kept = np.arange(len(size)) != place
        gaps.append(abs(float(kind(size[kept], mean[kept])[0](size[place])) - mean[place]))
    return float(np.expm1(max(gaps)))
