"""The learning rates of a study in words: cells whose best rate is not bracketed, and the rate of the target."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scaling.figures.words import count, listing, plural, short
from scaling.report.reading import StudyFiles
from scaling.results import metrics, rates
from scaling.results.tuned import PARAMS


def edge_sentences(table: pd.DataFrame, unit: metrics.Unit) -> list[str]:
    """A sentence for every cell of `tuned.bracketing` whose best rate is the lowest or the highest one tried.

    Cells of one size with the same best rate share a sentence.
    """
    return [f"At {count(size)} parameters and {listing(list(map(count, at)))} {unit.name}, the best learning rate "
            f"({short(best)}) is the {side} one tried, so a better one may lie beyond it."
            for (size, side, best), at in table[table["edge"] != ""].groupby([PARAMS, "edge", "best"])["data"]]


def edge_summary(table: pd.DataFrame, unit: metrics.Unit) -> str:
    """One sentence that names all cells of `edge_sentences`, or ""."""
    parts = []
    for side in ("lowest", "highest"):
        at = table[table["edge"] == side]
        cells = [f"{count(size)} parameters on {listing([count(x) for x in data])} {unit.name}"
                 for size, data in at.groupby(PARAMS)["data"]]
        if cells:
            parts.append(f"the {side} one tried at {'; '.join(cells)}")
    if not parts:
        return ""
    lost = int((table["edge"] != "").sum())
    return (f"In {lost} of {plural(len(table), 'sweep')} of the learning rate the best rate is at the edge: it is "
            f"{', and '.join(parts)}. These cells may not be fully tuned.")


def rate_of_target(study: StudyFiles) -> str:
    """Sentences about the learning rate of the target: what the rule gives, with its interval, and why."""
    target = (study.forecast or {}).get("target") or {}
    rate, size, seen = (target.get(name) for name in ("learning_rate", PARAMS, study.unit.seen))
    runs = study.runs[study.runs["fingerprint"] == target.get("fingerprint")]
    rate = float(runs["learning_rate"].iloc[0]) if rate is None and len(runs) else rate
    cells = study.cells.dropna(subset=[PARAMS, study.unit.seen, "learning_rate"])
    if not all(isinstance(x, (int, float)) and np.isfinite(x) and x > 0 for x in (rate, size, seen)) or cells.empty:
        return ""
    rule = rates.target_rate(cells, size, seen, study.unit.seen)
    if abs(rule.rate / rate - 1) > 0.01:
        return (f"The learning rate of the target is {short(rate)}, which the study's config chose. The best rates of the "
                f"tuned runs would give {short(rule.rate)} ({short(rule.low)} to {short(rule.high)}).")
    return rule.sentence
