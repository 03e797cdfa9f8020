"""Tests of whether residuals are noise. They use ranks, so that one wild run does not decide.

Together they fire for at most ALARM of the data sets that have nothing but noise, however many tests there are
(Bonferroni).
"""
from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from scaling.laws.checks.diagnostic import Diagnostic
from scaling.laws.fitting.fit import Fit
from scaling.laws.forms.form import LawError

ALARM = 0.01      # probability that some test fires where there is only noise
ENOUGH = 8        # fewer residuals than this say nothing by their ranks
MEMBERS = 3       # a group of fewer runs says nothing


def _statistics():
    from scipy import stats  # here, since importing the laws should not wait for it
    return stats


def serial(residuals: np.ndarray) -> float:
    """One-sided p-value of Bartels' rank version of von Neumann's ratio: are neighbours in a sequence too alike?

    It sees trends and bends of any shape (Bartels 1982). SciPy has no such test.
    """
    n = len(residuals)
    r = pd.Series(residuals).rank().to_numpy()  # ties share their mean rank
    ratio = (np.diff(r) ** 2).sum() / max(((r - r.mean()) ** 2).sum(), 1e-300)
    spread = math.sqrt(4 * (n - 2) * (5 * n * n - 2 * n - 9) / (5 * n * (n + 1) * (n - 1) ** 2))
    return float(_statistics().norm.sf((2 - ratio) / spread))


def between(residuals: np.ndarray, labels: np.ndarray) -> float:
    """P-value that groups have one centre (Kruskal and Wallis 1952); labels [n] are whole numbers from 0."""
    if np.ptp(residuals) == 0:
        return 1.0
    groups = [residuals[labels == label] for label in range(labels.max() + 1)]
    return float(_statistics().kruskal(*groups).pvalue)


def trend(one: np.ndarray, other: np.ndarray) -> float:
    """Two-sided p-value of Spearman's rank correlation."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 1.0
    return float(_statistics().spearmanr(one, other).pvalue)


def _orders(fit: Fit) -> dict[str, np.ndarray]:
    """{name: values [n] that runs are sorted by}: every input, the predicted loss, and compute where it is known."""
    found = {name: values for name, values in zip(fit.form.inputs, fit.logs) if np.ptp(values) > 0}
    if len(found) > 1:
        found["the predicted value"] = np.log(np.maximum(fit.predicted, 1e-300))
        with contextlib.suppress(LawError):  # runs without N, D and C have no compute
            found["compute"] = np.log(fit.runs.flops)
    return found


def _groups(frame: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{column: (rows, labels)} of text and boolean columns with at least two groups of MEMBERS runs or more."""
    found = {}
    for column in frame.columns:
        if pd.api.types.is_numeric_dtype(frame[column]) and not pd.api.types.is_bool_dtype(frame[column]):
            continue
        names = frame[column].astype(str)
        rows = np.flatnonzero(names.map(names.value_counts()).to_numpy() >= MEMBERS)
        labels = pd.factorize(names.iloc[rows])[0]
        if len(rows) and labels.max() > 0:
            found[str(column)] = rows, labels
    return found


def residual_structure(fit: Fit) -> Iterator[Diagnostic]:
    """Warnings of residuals whose centre or size depends on an input, the prediction, compute or a text column."""
    residuals, percent = fit.residuals, fit.spec.space != "linear"
    if len(residuals) < ENOUGH or np.abs(residuals).max() <= 1e-9 * max(1.0, np.abs(fit.y).max()):
        return

    def show(value):
        return f"{value:+.2%}" if percent else f"{value:+.3g}"

    orders, groups = _orders(fit), _groups(fit.runs.frame)
    level = ALARM / (len(orders) + len(groups) + 3)
    above = (residuals > 0).mean()
    one_sided = 2 * _statistics().norm.sf(abs(2 * above - 1) * math.sqrt(len(residuals)))  # the sign test
    if fit.spec.quantile == 0.5 and one_sided < level:
        yield Diagnostic(f"{above:.0%} of the residuals are positive (median {show(np.median(residuals))}): "
                         "a fixed or bounded parameter of the law does not suit these data.", "one-sided")
    sorted_by = {name: np.lexsort((fit.predicted, np.round(values, 6))) for name, values in orders.items()}
    p, name = min((serial(residuals[order]), name) for name, order in sorted_by.items())
    if p < level:
        thirds = [show(np.median(part)) for part in np.array_split(residuals[sorted_by[name]], 3)]
        yield Diagnostic(f"Residuals are not noise along {name} (neighbours are too alike, rank test p = "
                         f"{p:.1g}): their medians are {', '.join(thirds)} in its lower, middle and upper "
                         f"third, a shape that {fit.form.name} misses; extrapolation continues the error.",
                         "residual-structure", name)
    for column, (rows, labels) in groups.items():
        if (p := between(residuals[rows], labels)) < level:
            names = fit.runs.frame[column].iloc[rows].astype(str).to_numpy()
            centres = pd.Series(residuals[rows]).groupby(names).median().sort_values()
            yield Diagnostic(f"Residuals differ between groups of {column} (rank test p = {p:.1g}): from "
                             f"{show(centres.iloc[0])} for {centres.index[0]} to {show(centres.iloc[-1])} "
                             f"for {centres.index[-1]}; fit each group alone, and resample whole groups for "
                             "intervals.", "group-structure", column)
    name = list(orders)[-1]
    if (p := trend(np.abs(residuals) * np.sqrt(fit.weights), orders[name])) < level:
        ends = [np.median(np.abs(part)) for part in np.array_split(residuals[sorted_by[name]], 3)]
        yield Diagnostic(f"The noise is not even along {name} (rank test p = {p:.1g}): the median residual "
                         f"is {show(ends[0])[1:]} in its lower third and {show(ends[2])[1:]} in its upper; "
                         "weight runs by their noise, or else intervals at large scale are wrong.", "uneven-noise", name)


def lack_of_fit(fit: Fit) -> Iterator[Diagnostic]:
    """A warning if runs at equal inputs agree better with each other than with the law (F test)."""
    cells = pd.Series(pd.MultiIndex.from_arrays(np.round(fit.logs, 9)).factorize()[0])
    residuals = pd.Series(fit.residuals)
    within = residuals - residuals.groupby(cells).transform("mean")
    pure, lack = len(cells) - int(cells.max()) - 1, int(cells.max()) + 1 - len(fit.form.free)
    if pure < 3 or lack < 1 or not (within ** 2).sum() > 0:
        return
    noise = (within ** 2).sum() / pure
    ratio = max((residuals ** 2).sum() - (within ** 2).sum(), 0.0) / lack / noise
    if (p := _statistics().f.sf(ratio, lack, pure)) < ALARM / 2:
        times = math.sqrt(ratio)
        yield Diagnostic(f"Repeated runs differ by {math.sqrt(noise):.2g} (standard deviation of the "
                         f"residual) but the law misses their means by {times:.1f} times what that explains "
                         f"(F test p = {p:.1g}): the error is {fit.form.name}'s own, and more seeds will not "
                         "lower it.", "lack-of-fit")
