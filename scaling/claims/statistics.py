"""Numbers with intervals from tables of runs, for the analyses of claims. Intervals have the level of `claim.LEVEL`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from scaling.claims.claim import LEVEL, Estimate
from scaling.evaluate.thresholds import wilson_share


def mean(values: Sequence[float], note: str = "") -> Estimate:
    """The mean of independent values with Student's interval, which one value leaves infinitely wide."""
    middle, count = float(np.mean(values)), len(values)
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1) * stats.sem(values)) if count > 1 else math.inf
    return Estimate(middle, middle - half, middle + half, count, note)


def slope(x: Sequence[float], y: Sequence[float], note: str = "") -> Estimate:
    """The slope of a line through means over the runs of each x, with Student's interval from their distances to it.

    So a bend and the noise of seeds widen the interval alike. Give logarithms of x and y for the exponent of a power law.
    Raises ValueError for fewer than three different x.
    """
    means = pd.Series(np.asarray(y, float)).groupby(np.asarray(x, float)).mean()
    if len(means) < 3:
        raise ValueError(f"a slope with an interval takes three different x, and there are {len(means)}")
    line = stats.linregress(means.index.to_numpy(), means.to_numpy())
    half = stats.t.ppf((1 + LEVEL) / 2, len(means) - 2) * line.stderr
    return Estimate(float(line.slope), float(line.slope - half), float(line.slope + half), len(y), note)


def paired(runs: pd.DataFrame, metric: str, column: str, base, change, by: Sequence[str], log: bool = True,
           note: str = "") -> Estimate:
    """The mean difference of a metric between the runs with `change` and with `base` in `column`, of runs that share `by`.

    With `log` it is the difference of logarithms, which is the relative change. Raises ValueError without a pair.
    """
    table = runs.assign(value=np.log(runs[metric]) if log else runs[metric])
    sides = [table[table[column] == side].set_index(list(by))["value"] for side in (base, change)]
    found = (sides[1] - sides[0]).dropna()
    if not len(found):
        raise ValueError(f"no run with {column}={change} shares {', '.join(by)} with one of {column}={base}")
    return mean(found.to_numpy(), note)


def share(successes: int, of: int, note: str = "") -> Estimate:
    """A share with Wilson's interval."""
    return Estimate(*wilson_share(successes, of, LEVEL), note)


def resampled(runs: pd.DataFrame, number, within: Sequence[str], resamples: int = 400, seed: int = 0,
              note: str = "") -> Estimate:
    """`number(runs)` with the percentiles of its values on resamples of the runs, drawn within groups of equal `within`.

    So a resample has as many runs of each cell as there are, with other seeds. Resamples on which the number is not finite
    count as the end of the interval that they lie beyond, or are left out where they are NaN.
    """
    groups = [group for _, group in runs.groupby(list(within))]
    generator, values = np.random.default_rng(seed), []
    for _ in range(resamples):
        drawn = [group.iloc[generator.integers(len(group), size=len(group))] for group in groups]
        values.append(float(number(pd.concat(drawn))))
    low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return Estimate(float(number(runs)), float(low), float(high), len(runs), note)


def jackknife(runs: pd.DataFrame, number, by: str, note: str = "") -> Estimate:
    """`number(runs)` with Student's interval of its pseudo-values, each without the runs of one value of `by`.

    That suits a number which takes means over seeds, where resamples of few seeds would give intervals too narrow (Tukey
    1958). Bounds are NaN where the number is not finite without some value, and infinite where there is one value only.
    """
    groups, whole = runs[by].unique(), float(number(runs))
    if len(groups) < 2:
        return Estimate(whole, -math.inf, math.inf, len(runs), note)
    without = np.array([float(number(runs[runs[by] != group])) for group in groups])
    pseudo = len(groups) * whole - (len(groups) - 1) * without
    scale = float(stats.t.ppf((1 + LEVEL) / 2, len(groups) - 1))
    half = scale * float(stats.sem(pseudo)) if np.isfinite(pseudo).all() else math.nan
    return Estimate(whole, whole - half, whole + half, len(runs), note)
