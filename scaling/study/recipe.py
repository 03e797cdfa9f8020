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


def edges(runs: pd.DataFrame, cells: pd.DataFrame, fit_edges: bool = False) -> list[str]:
    """A sentence for every cell, alike ones joined, whose best learning rate is the lowest or the highest one tried.

    runs: clean records (see `tuned.clean`). cells: their tuned runs. Where these have a column `left_out`, as those of a
    study, the last sentence says whether the fit takes them, which `fit_edges` asks for.
    """
    table = tuned.bracketing(runs, cells)
    said = report.edge_sentences(table, metrics.find_unit(None, cells))
    at_edge = int((table["edge"] != "").sum())
    if at_edge and "left_out" in cells:
        said.append(report.fate_sentence(at_edge, int((cells["left_out"] != "").sum()), len(cells), fit_edges))
    return said
