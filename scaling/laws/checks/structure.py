"""What residuals still know: tests of whether they are noise, by ranks, so that one wild run does not decide.

Together they fire in at most ALARM of the data sets that have nothing but noise, whatever their number
(Bonferroni).
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scaling.laws.forms.form import LawError

if TYPE_CHECKING:
    from scaling.laws.checks.diagnostic import Diagnostic
    from scaling.laws.fitting.fit import Fit

ALARM = 0.01      # probability that some test fires where there is only noise
ENOUGH = 8        # residuals, below which ranks say nothing
MEMBERS = 3       # runs of a group, below which it says nothing


def normal_tail(z: float) -> float:
    """P(normal > z)."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def f_tail(ratio: float, numerator: float, denominator: float = math.inf) -> float:
    """P(F > ratio), by a cube-root transform to a normal variable (Paulson 1942), without SciPy's start-up.

    With an infinite denominator that of chi-square / numerator (Wilson and Hilferty 1931). Within 20% down to
    1e-3 for denominators from 12 on; below, too large: it warns too seldom rather than too often.
    """
    a, b = 2 / (9 * numerator), 2 / (9 * denominator)
    root = ratio ** (1 / 3)
    return normal_tail(((1 - b) * root - (1 - a)) / math.sqrt(b * root ** 2 + a))


def ranks(values) -> np.ndarray:
    """Ranks about zero, ties averaged."""
    order = pd.Series(values).rank().to_numpy()
    return order - order.mean()


def serial(residuals: np.ndarray) -> float:
    """P-value that neighbours in a sequence are no more alike than chance: Bartels' rank version of von
    Neumann's ratio (Bartels 1982), one-sided. Sees trends and bends of any shape."""
    n, r = len(residuals), ranks(residuals)
    ratio = (np.diff(r) ** 2).sum() / max((r ** 2).sum(), 1e-300)
    spread = math.sqrt(4 * (n - 2) * (5 * n * n - 2 * n - 9) / (5 * n * (n + 1) * (n - 1) ** 2))
    return normal_tail((2 - ratio) / spread)


def between(residuals: np.ndarray, labels: np.ndarray) -> float:
    """P-value that groups have one centre (Kruskal and Wallis 1952)."""
    r, count = ranks(residuals), np.bincount(labels)
    explained = (np.bincount(labels, r) ** 2 / count).sum() / max((r ** 2).mean(), 1e-300)
    return f_tail(explained * (len(r) - 1) / len(r) / (len(count) - 1), len(count) - 1)


def trend(one: np.ndarray, other: np.ndarray) -> float:
    """Two-sided p-value of Spearman's rank correlation."""
    a, b = ranks(one), ranks(other)
    rho = (a * b).sum() / max(math.sqrt((a ** 2).sum() * (b ** 2).sum()), 1e-300)
    return 2 * normal_tail(abs(rho) * math.sqrt(len(a) - 1))


def _orders(fit: Fit) -> dict[str, np.ndarray]:
    """What runs are sorted by: every input, the predicted loss, and compute where it is known."""
    found = {name: values for name, values in zip(fit.form.inputs, fit.logs) if np.ptp(values) > 0}
    if len(found) > 1:
        found["the predicted value"] = np.log(np.maximum(fit.predicted, 1e-300))
        try:
            found["compute"] = np.log(fit.runs.flops)
        except LawError:
            pass
    return found


def _groups(frame: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{column: (rows, labels)} of columns of text or truth with two or more groups of MEMBERS runs."""
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
    """Residuals that depend on an input, the prediction, compute or a column of text, in place or in size."""
    from scaling.laws.checks.diagnostic import Diagnostic
    residuals, percent = fit.residuals, fit.spec.space != "linear"
    if len(residuals) < ENOUGH or np.abs(residuals).max() <= 1e-9 * max(1.0, np.abs(fit.y).max()):
        return

    def show(value):
        return f"{value:+.2%}" if percent else f"{value:+.3g}"

    orders, groups = _orders(fit), _groups(fit.runs.frame)
    level = ALARM / (len(orders) + len(groups) + 3)
    above = (residuals > 0).mean()
    if fit.spec.quantile == 0.5 and 2 * normal_tail(abs(2 * above - 1) * math.sqrt(len(residuals))) < level:
        yield Diagnostic(f"{above:.0%} of the residuals are positive (median {show(np.median(residuals))}): "
                         "what is fixed or bounded in the law does not suit these data.", "one-sided")
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
                             f"for {centres.index[-1]}; fit the groups apart, and resample whole groups for "
                             "intervals.", "group-structure", column)
    name = list(orders)[-1]
    if (p := trend(np.abs(residuals) * np.sqrt(fit.weights), orders[name])) < level:
        ends = [np.median(np.abs(part)) for part in np.array_split(residuals[sorted_by[name]], 3)]
        yield Diagnostic(f"The noise is not even along {name} (rank test p = {p:.1g}): the median residual "
                         f"is {show(ends[0])[1:]} in its lower third and {show(ends[2])[1:]} in its upper; "
                         "weight runs by their noise, or intervals at large scale are "
                         "wrong.", "uneven-noise", name)


def lack_of_fit(fit: Fit) -> Iterator[Diagnostic]:
    """Runs repeated at the same inputs agree better among themselves than with the law (F test)."""
    from scaling.laws.checks.diagnostic import Diagnostic
    cells = pd.Series(pd.MultiIndex.from_arrays(np.round(fit.logs, 9)).factorize()[0])
    residuals = pd.Series(fit.residuals)
    within = residuals - residuals.groupby(cells).transform("mean")
    pure, lack = len(cells) - int(cells.max()) - 1, int(cells.max()) + 1 - len(fit.form.free)
    if pure < 3 or lack < 1 or not (within ** 2).sum() > 0:
        return
    noise = (within ** 2).sum() / pure
    ratio = max((residuals ** 2).sum() - (within ** 2).sum(), 0.0) / lack / noise
    if (p := f_tail(ratio, lack, pure)) < ALARM / 2:
        times = math.sqrt(ratio)
        yield Diagnostic(f"Repeated runs differ by {math.sqrt(noise):.2g} (standard deviation of the "
                         f"residual) but the law misses their means by {times:.1f} times what that explains "
                         f"(F test p = {p:.1g}): the error is {fit.form.name}'s own, and more seeds will not "
                         "lower it.", "lack-of-fit")
