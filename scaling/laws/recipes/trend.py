"""The line of log speed-up against log compute, whether it fits, and what it says at a target.

The line is fitted by weighted least squares, where a rung counts by its pairs and by the square of the base's steepness:
the steeper the base falls, the better a loss difference tells a speed-up. Lack of fit is tested against the scatter between
seeds, by the F statistic of pure error (Draper and Smith 1998, "Applied Regression Analysis", section 2.1).
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from scaling.laws.recipes.speedup import Noise

MISFIT = 0.05  # a lack of fit as large as the one seen has this chance, or less, if the line is right: it is refused


class TrendLine(NamedTuple):
    """value [...] at the weighted mean of log compute `middle`, and slope [...] by log compute."""
    value: np.ndarray
    slope: np.ndarray
    middle: float

    def at(self, flops) -> np.ndarray:
        """Log speed-ups at FLOPs, a number: [...]."""
        return self.value + self.slope * (np.log(flops) - self.middle)


class Misfit(NamedTuple):
    """The test of the line: p, NaN where nothing can test it, and the mean square about the line."""
    p: float
    square: float     # in units of the noise of one pair, a variance
    freedom: int

    @property
    def refused(self) -> bool:
        return self.p < MISFIT


def line(flops: np.ndarray, logs: np.ndarray, weights: np.ndarray) -> TrendLine:
    """The line through log speed-ups [..., R] at FLOPs [R] by weighted least squares with weights [R]."""
    x = np.log(flops)
    middle = float(np.average(x, weights=weights))
    value = np.average(logs, weights=weights, axis=-1)
    slope = (logs * weights * (x - middle)).sum(-1) / (weights * (x - middle) ** 2).sum()
    return TrendLine(value, slope, middle)


def judge_line(flops: np.ndarray, logs: np.ndarray, weights: np.ndarray, noise: Noise) -> Misfit:
    """Whether log speed-ups [R] lie on a line, given `noise`: the variance of a log speed-up is noise.size^2 / weight."""
    freedom = len(flops) - 2
    found = line(flops, logs, weights)
    square = float((weights * (logs - (found.value + found.slope * (np.log(flops) - found.middle))) ** 2).sum())
    if freedom < 1:
        return Misfit(np.nan, np.nan, 0)
    if noise.source not in ("seeds", "assumed") or not noise.size > 0:
        return Misfit(np.nan, square / freedom, freedom)
    ratio = square / noise.size ** 2
    p = stats.f.sf(ratio / freedom, freedom, noise.freedom) if np.isfinite(noise.freedom) else stats.chi2.sf(ratio, freedom)
    return Misfit(float(p), square / freedom, freedom)


def pooled(noise: Noise, misfit: Misfit) -> Noise:
    """The noise of seeds with that about the line, unless the line is refused or the noise is assumed."""
    if noise.source == "assumed" or misfit.refused or misfit.freedom < 1:
        return noise
    if not noise.freedom:
        return Noise(float(np.sqrt(misfit.square)), misfit.freedom, "line")
    freedom = noise.freedom + misfit.freedom
    square = (noise.freedom * noise.size ** 2 + misfit.freedom * misfit.square) / freedom
    return Noise(float(np.sqrt(square)), freedom, "both")
