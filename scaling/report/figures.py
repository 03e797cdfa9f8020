"""The report's figures. Each function draws one: a matplotlib Figure, or None where its data is missing.

Colour is size, `palette.size(N)`, where a line is one model, and data, `palette.data(D)`, where it is one
amount of data.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scaling.figures import svg, words
from scaling.figures.palette import Palette
from scaling.figures.plot import canvas, finish, interval
from scaling.report.reading import predict
from scaling.results import metrics, tuned
from scaling.results.tuned import PARAMS, merge_levels

DOT = {"markeredgewidth": 0.8, "zorder": 4}
DASHED = {"dashes": (4, 2.5), "linewidth": 1.0, "zorder": 3}
DOTTED = {"linestyle": (0, (1, 2)), "linewidth": 1.3, "zorder": 2}
# Where training curves begin, as a part of the longest run: the first descent would flatten all the rest.
CURVES_FROM = 0.005


def verdict(study, palette) -> Figure | None:
    """Three rows on one scale: the best fitted run, the forecast with its interval, and what was observed."""
    forecast, check, cells = study.forecast, study.forecast_check, study.cells
    if not forecast:
        return None
    figure, axes = canvas(palette, study.measure.label, "", height=1.75)
    axes.set_xscale("linear")
    axes.grid(False)
    low, high = forecast["interval"]
    axes.axvspan(low, high, color=palette.accent, alpha=0.12, linewidth=0)
    rows = [("forecast", forecast["predicted"], palette.accent, high)]
    if not cells.empty:
        best = cells[study.metric].min()
        rows.insert(0, ("best fitted", best, palette.ink, best))
    if check:
        rows.append(("observed", check["observed"], palette.accent, max(high, check["observed"])))
    for y, (text, value, colour, right) in enumerate(rows):
        if text == "forecast":
            interval(axes, palette, y, forecast, vertical=False)
        else:
            axes.plot([value], [y], "o", color=colour, markersize=6)
        axes.annotate(words.number(value), (right, y), xytext=(10, 0), textcoords="offset points",
                      va="center",
                      color=colour)
    axes.set_yticks(range(len(rows)), [text for text, *_ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.margins(x=0.1)
    left, right = axes.get_xlim()
    axes.set_xlim(left, right + 0.14 * (right - left))  # room for the last number
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return figure


def against_params(study, palette) -> Figure | None:
    """Tuned metric against N, one line per D; dashed, the fitted law."""
    return _lines(study, study.cells, PARAMS, "data", palette)


def against_data(study, palette) -> Figure | None:
    """Tuned metric against D, one line per N; dashed, the fitted law; dotted, what the data itself would
    score."""
    return _lines(study, study.cells, "data", PARAMS, palette, baselines=True)


def against_unique(study, palette) -> Figure | None:
    """Tuned metric against how many different examples there were, at equal examples seen; one line per N."""
    return _lines(study, tuned.repeated_cells(study.runs, study.metric), "unique", PARAMS, palette, baselines=True)


def _lines(study, cells: pd.DataFrame, along: str, by: str, palette: Palette, baselines: bool = False):
    cells = cells.dropna(subset=[study.metric])
    if cells.empty:
        return None
    unit = study.unit.name
    x = {PARAMS: "non-embedding parameters", "data": f"training {unit}",
         "unique": f"different training {unit}"}
    labels, colour = ("parameters", palette.size) if by == PARAMS else (unit, palette.data)
    figure, axes = canvas(palette, x[along], study.measure.label, labels)
    grid = np.geomspace(cells[along].min(), cells[along].max(), 60)
    ends = []
    for value, line in cells.groupby(by):
        line = line.sort_values(along)
        _dots(axes, study, palette, line, along, colour(value))
        ends.append((line[study.metric].iloc[-1], words.count(value), colour(value)))
        law = {PARAMS: lambda: study.law(grid, value), "data": lambda: study.law(value, grid)}.get(along)
        if law and law() is not None:
            axes.plot(grid, law(), color=palette.ink, **DASHED)
    if baselines:
        ends += _baselines(axes, study, palette, cells[along])
    finish(axes, ends)
    return figure


def _dots(axes: Axes, study, palette: Palette, line: pd.DataFrame, along: str, colour: str) -> None:
    """Cells joined by a line, with bars of one standard error and a small dot for each of several seeds."""
    axes.plot(line[along], line[study.metric], "o-", color=colour, markeredgecolor=palette.paper, **DOT)
    error = tuned.standard_error(line, study.metric)
    if error.notna().any():
        axes.errorbar(line[along], line[study.metric], yerr=error.fillna(0), fmt="none", ecolor=colour,
                      elinewidth=1.0, capsize=2.5, zorder=3)
    for _, cell in line[line["seeds"] > 1].iterrows():
        seeds = study.runs.loc[study.runs["fingerprint"].isin(cell["fingerprints"]), study.metric]
        axes.plot([cell[along]] * len(seeds), seeds, "o", color=colour, markersize=2.4, alpha=0.6,
                  markeredgewidth=0, zorder=2)


def _baselines(axes: Axes, study, palette: Palette, data: pd.Series) -> list[tuple]:
    """Draws what real images, and training images as samples, would score at amounts of data like `data`.

    Returns the labels of the lines.
    """
    ends, known = [], study.baselines or {}
    floor = (known.get("floor") or {}).get(study.metric)
    if floor is not None and floor > 0:
        axes.axhline(floor, color=palette.muted, **DOTTED)
        ends.append((floor, "floor", palette.muted))
    points = sorted((point[study.unit.unique], point[study.metric]) for point in known.get("memoriser") or ()
                    if {study.unit.unique, study.metric} <= set(point)
                    and data.min() / 1.5 <= point[study.unit.unique] <= data.max() * 1.5)
    if points:
        axes.plot(*zip(*points), "s", color=palette.muted, markersize=3, **DOTTED)
        ends.append((points[-1][1], "memoriser", palette.muted))
    return ends


def against_compute(study, palette) -> Figure | None:
    """Tuned metric against FLOPs, one line per N; the fitted frontier; the forecast and what was observed."""
    metric, forecast, check = study.metric, study.forecast, study.forecast_check
    cells = study.cells[study.cells["flops"] > 0].dropna(subset=[metric])
    if cells.empty:
        return None
    figure, axes = canvas(palette, "training compute (FLOPs)", study.measure.label, "parameters")
    for params, line in cells.groupby(PARAMS):
        line, colour = line.sort_values("flops"), palette.size(params)
        _dots(axes, study, palette, line, "flops", colour)
        axes.annotate(words.count(params), (line["flops"].iloc[0], line[metric].iloc[0]), xytext=(0, 7),
                      textcoords="offset points", ha="center", color=colour)
    at = ((forecast or {}).get("target") or {}).get("flops")
    frontier = pd.DataFrame((study.fit or {}).get("frontier") or []).apply(pd.to_numeric, errors="coerce")
    if {"flops", "loss"} <= set(frontier):
        inside = frontier["flops"].between(cells["flops"].min(), max(cells["flops"].max(), at or 0) * 1.5)
        frontier = frontier[inside].sort_values("flops")
        axes.plot(frontier["flops"], frontier["loss"], color=palette.ink, **DASHED)
        if {"lo", "hi"} <= set(frontier):
            axes.fill_between(frontier["flops"], frontier["lo"], frontier["hi"], color=palette.ink, alpha=0.1,
                              linewidth=0)
    if at:
        interval(axes, palette, at, forecast, vertical=True)
        if check:
            axes.plot([at], [check["observed"]], "o", color=palette.accent, markersize=2.5, zorder=7)
        axes.annotate("forecast ◇" + ("\nobserved ●" if check else ""), (at, forecast["interval"][1]),
                      xytext=(6, 8), textcoords="offset points", ha="right", va="bottom",
                      color=palette.accent)
    axes.margins(x=0.08, y=0.1)
    finish(axes, ticks=lambda value: words.power(value, 1))
    return figure


def training_curves(study, palette, target: str | None, loss: str) -> Figure | None:
    """Training loss against data of each tuned run, coloured by size, and of the target (a fingerprint)."""
    lines = [(words.count(run[PARAMS]), run["fingerprint"], palette.size(run[PARAMS]))
             for _, run in study.cells.sort_values([PARAMS, "data"]).iterrows()]
    lines += [("target", target, palette.accent)] if target else []
    lines = [(text, smooth(study.curves[name], loss), colour) for text, name, colour in lines
             if loss in study.curves.get(name, ())]
    start = max((curve["data"].max() for _, curve, _ in lines if len(curve)), default=0) * CURVES_FROM
    lines = [(text, curve[curve["data"] >= start], colour) for text, curve, colour in lines]
    lines = [line for line in lines if len(line[1])]
    if not lines:
        return None
    player = loss.rpartition("/")[0]
    label = f"training loss, {metrics.PLAYERS.get(player, player)}" if player else study.unit.training_loss
    figure, axes = canvas(palette, f"training {study.unit.name}", label, "parameters")
    ends = {}
    for text, curve, colour in lines:
        axes.plot(curve["data"], curve[loss], color=colour, linewidth=1.1)
        ends[text] = (curve[loss].iloc[-1], text, colour)
    finish(axes, list(ends.values()))
    return figure


def smooth(curve: pd.DataFrame, loss: str, bins: int = 90) -> pd.DataFrame:
    """`curve` averaged in bins of equal width in log data: noise goes, the early descent stays."""
    curve = curve.loc[np.isfinite(curve[loss]) & (curve["data"] > 0), ["data", loss]]
    if len(curve) < 3:
        return curve
    edges = np.geomspace(curve["data"].min(), curve["data"].max() * 1.0001, bins + 1)
    return curve.groupby(np.digitize(curve["data"], edges)).mean()


def against_learning_rate(study, palette) -> Figure | None:
    """Metric against learning rate, one line per size at its most data with a sweep; the best ringed.

    A dot is the mean over seeds. Rates at which every run diverged are crosses at the top.
    """
    rates = tuned.learning_rates(study.runs, study.metric)
    if rates.empty:
        return None
    figure, axes = canvas(palette, "learning rate", study.measure.label, "parameters")
    ends, dead, sweep = [], [], study.runs[study.runs["role"] == "sweep"]
    table = tuned.trials(study.runs, study.metric)
    for size, cell in rates.groupby(PARAMS):
        best, colour = cell.loc[cell["data"].idxmax()], palette.size(size)
        tried, line = (rows[(rows[PARAMS] == size) & (rows["data"] == best["data"])]
                       for rows in (sweep, table))
        line = tuned.best_trials(line, study.metric, ["learning_rate"])
        _dots(axes, study, palette, line, "learning_rate", colour)
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


def residuals(study, palette) -> Figure | None:
    """How far each fitted point lies above (+) or below the law, in percent, against N; coloured by D."""
    table = residual_table(study)
    if table is None:
        return None
    figure, axes = canvas(palette, "non-embedding parameters", "observed above fitted (%)", study.unit.name)
    axes.axhline(0, color=palette.muted, linewidth=0.8, zorder=2)
    ends = []
    for value, group in table.sort_values(PARAMS).groupby("data"):
        colour, percent = palette.data(value), 100 * group["relative"]
        axes.plot(group[PARAMS], percent, "o", color=colour, markeredgecolor=palette.paper, **DOT)
        ends.append((percent.iloc[-1], words.count(value), colour))
    axes.margins(y=0.1)
    finish(axes, ends, log_y=False)
    return figure


def residual_table(study) -> pd.DataFrame | None:
    """The fitted points with `relative`, observed over fitted less one. None where these are not known."""
    points = pd.DataFrame((study.fit or {}).get("points") or [])
    if not {PARAMS, study.unit.seen, study.metric} <= set(points):
        return None
    law = predict(study.fit, points.to_dict("list"))
    if law is None:
        return None
    return points.assign(data=merge_levels(points[study.unit.seen]), relative=points[study.metric] / law - 1)


def render(figures: Mapping[str, tuple], palette: Palette, png: bool = True) -> dict[str, dict]:
    """Draws {name: (function, title, caption)}. Returns {name: {"svg", "caption", "png"}}."""
    out = {}
    for name, (draw, title, caption) in figures.items():
        with matplotlib.rc_context(svg.STYLE):
            figure = draw()
        if figure is not None:
            out[name] = {"svg": svg.to_svg(figure, palette, name, title), "caption": caption}
            out[name] |= {"png": svg.to_png(figure, palette)} if png else {}
    return out
