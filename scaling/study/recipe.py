"""Hyperparameters of a larger run, extrapolated from those tuned at small sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scaling import report
from scaling.results import metrics, rates, tuned

if TYPE_CHECKING:
    import pandas as pd


def choose_rate(cells: pd.DataFrame, params: float, seen: float, data: str = "tokens_seen") -> rates.TargetRate:
    """The learning rate of the run that a study forecasts, with its interval and a sentence that says why."""
    return rates.target_rate(cells, params, seen, data)


def learning_rate(cells: pd.DataFrame, params: float, seen: float, data: str = "tokens_seen") -> float:
    """The learning rate for a run of `params` non-embedding parameters on `seen` units of data; see `rates.target_rate`."""
    return rates.target_rate(cells, params, seen, data).rate


def edges(runs: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    """A sentence for every cell, alike ones joined, whose best learning rate is the lowest or the highest one tried.

    runs: clean records (see `tuned.clean`). cells: their tuned runs.
    """
    return report.edge_sentences(tuned.bracketing(runs, cells), metrics.find_unit(None, cells))
