"""The figures of training: curves of the loss, and the sweep of the learning rate."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scaling.figures import words
from scaling.figures.palette import Palette
from scaling.figures.plot import canvas, finish
from scaling.report.plots import draw_dots
from scaling.report.reading import StudyFiles
from scaling.results import metrics, tuned
from scaling.results.logs import VALIDATION
from scaling.results.tuned import PARAMS

# Training curves begin at this part of the longest run. Earlier losses are so high that they would flatten the rest.
CURVES_FROM = 0.005


def draw_curves(study: StudyFiles, palette: Palette, target: str | None, loss: str) -> Figure | None:
    """Loss against data for each tuned run, coloured by size, and for the target (a fingerprint).

    It is the study's metric on evaluation data where curves have it, see `curve_column`, and else the training loss `loss`.
    """
    column = curve_column(study, loss)
    lines = [(words.count(run[PARAMS]), run["fingerprint"], palette.size(run[PARAMS]))
             for _, run in study.cells.sort_values([PARAMS, "data"]).iterrows()]
    if target:
        lines.append(("target", target, palette.accent))
    drawn = [(text, curve, colour) for text, name, colour in lines
             if (curve := drawn_curve(study, name, column)) is not None]
    start = max((curve["data"].max() for _, curve, _ in drawn), default=0) * CURVES_FROM
    drawn = [(text, curve[curve["data"] >= start], colour) for text, curve, colour in drawn]
    drawn = [line for line in drawn if len(line[1])]
    if not drawn:
        return None
    player = loss.rpartition("/")[0]
    label = f"training loss, {metrics.PLAYERS.get(player, player)}" if player else study.unit.training_loss
    label = f"{study.measure.label}, on evaluation data" if column != loss else label
    figure, axes = canvas(f"training {study.unit.name}", label, "parameters")
    ends = {}
    for text, curve, colour in drawn:
        axes.plot(curve["data"], curve[column], color=colour, linewidth=1.1,
                  **({"marker": "o", "markersize": 2.5} if column != loss else {}))
        ends[text] = (curve[column].iloc[-1], text, colour)
    finish(axes, list(ends.values()))
    return figure


def curve_column(study: StudyFiles, loss: str) -> str:
    """The column of curves that the figure of the training loss `loss` shows.

    It is `validation/<metric of the study>` if the curve of every tuned run has it, and else the training loss. The losses
    of single players stay.
    """
    name = f"{VALIDATION}{study.metric}"
    held = [study.curves[run] for run in study.cells["fingerprint"] if run in study.curves]
    return name if loss == "loss" and held and all(name in curve for curve in held) else loss


def drawn_curve(study: StudyFiles, run: str, column: str) -> pd.DataFrame | None:
    """Columns `data` and `column` of a run's curve as it is drawn, or None where it has no points.

    A training loss is averaged in bins. Metrics of evaluation data are measured on a part of the evaluation set. They are
    multiplied by the one factor that makes the last of them the run's result on the whole set.
    """
    curve = study.curves.get(run)
    if curve is None or column not in curve:
        return None
    curve = curve[["data", column]].dropna()
    if not column.startswith(VALIDATION):
        curve = smooth(curve, column)
    elif len(curve):
        result = study.runs.loc[study.runs["fingerprint"] == run, study.metric].iloc[0]
        curve = curve.assign(**{column: curve[column] * result / curve[column].iloc[-1]})
        curve = curve[np.isfinite(curve[column])]
    return curve if len(curve) else None


def smooth(curve: pd.DataFrame, loss: str, bins: int = 90) -> pd.DataFrame:
    """`curve` averaged in bins of equal width in log data, which removes noise and keeps the early descent."""
    curve = curve.loc[np.isfinite(curve[loss]) & (curve["data"] > 0), ["data", loss]]
    if len(curve) < 3:
        return curve
    edges = np.geomspace(curve["data"].min(), curve["data"].max() * 1.0001, bins + 1)
    return curve.groupby(np.digitize(curve["data"], edges)).mean()


def draw_learning_rates(study: StudyFiles, palette: Palette) -> Figure | None:
    """The metric against the learning rate, one line for each size at the most data that has a sweep.

    A dot is the mean over seeds, a ring marks the best rate, and crosses at the top mark rates at which every run
    diverged.
    """
    rates = tuned.learning_rates(study.runs, study.metric)
    if rates.empty:
        return None
    figure, axes = canvas("learning rate", study.measure.label, "parameters")
    ends, dead, sweep = [], [], study.runs[study.runs["role"] == "sweep"]
    table = tuned.trials(study.runs, study.metric)
    for size, cell in rates.groupby(PARAMS):
        best, colour = cell.loc[cell["data"].idxmax()], palette.size(size)
        tried, line = (rows[(rows[PARAMS] == size) & (rows["data"] == best["data"])]
                       for rows in (sweep, table))
        line = tuned.best_trials(line, study.metric, ["learning_rate"])
        draw_dots(axes, study, palette, line, "learning_rate", colour)
        ring = line[line["learning_rate"] == best["best"]]
        axes.plot(ring["learning_rate"], ring[study.metric], "o", markersize=10, markerfacecolor="none",
                  markeredgecolor=colour, markeredgewidth=1.4, zorder=5)
        ends.append((line[study.metric].iloc[-1], words.count(size), colour))
        lost = set(tried["learning_rate"].dropna()) - set(line["learning_rate"])
        dead += [(rate, colour) for rate in sorted(lost)]
    for i, (rate, colour) in enumerate(dead):
        axes.plot([rate], [0.97 - 0.05 * (i % 4)], "x", color=colour, zorder=5,
                  transform=axes.get_xaxis_transform())
    finish(axes, ends, ticks=words.short)
    return figure
