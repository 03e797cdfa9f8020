"""The figures of a study's results; figures of training are in `training_plots`.

Each `draw_` function returns a matplotlib Figure, or None where its data are missing. A line or a dot
that belongs to one model size has the colour `palette.size(N)`; one that belongs to one amount of data has the
colour `palette.data(D)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scaling.figures import svg, words
from scaling.figures.palette import Palette
from scaling.figures.plot import canvas, finish
from scaling.report.reading import StudyFiles, law_values
from scaling.results import tuned
from scaling.results.tuned import PARAMS, merge_levels

MARKER = {"markeredgewidth": 0.8, "zorder": 4}
DASHED = {"dashes": (4, 2.5), "linewidth": 1.0, "zorder": 3}
NEAR = 0.4  # a baseline is drawn within this part of the trend's height above and below the trend
DOTTED = {"linestyle": (0, (1, 2)), "linewidth": 1.3, "zorder": 2}


class PlannedFigure(NamedTuple):
    """A figure that a page may show: how it is drawn, its title for screen readers, and its caption."""
    draw: Callable[[], Figure | None]
    title: str
    caption: str


def draw_all(planned: Mapping[str, PlannedFigure], palette: Palette, png: bool = True) -> dict[str, dict]:
    """{name: {"svg", "caption", "png"}} of the planned figures whose data are there; `png` False leaves out the PNGs."""
    drawn = {}
    for name, plan in planned.items():
        with matplotlib.rc_context(svg.STYLE):
            figure = plan.draw()
        if figure is not None:
            drawn[name] = {"svg": svg.to_svg(figure, palette, name, plan.title), "caption": plan.caption}
            if png:
                drawn[name]["png"] = svg.to_png(figure, palette)
    return drawn


def draw_verdict(study: StudyFiles, palette: Palette) -> Figure | None:
    """Three rows on one scale: the best fitted run, the forecast with its interval, and the observed value."""
    forecast, check, cells = study.forecast, study.forecast_check, study.cells
    if not forecast:
        return None
    figure, axes = canvas(study.measure.label, "", height=1.75, log_x=False, grid=False)
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
            _forecast_diamond(axes, palette, y, forecast, vertical=False)
        else:
            axes.plot([value], [y], "o", color=colour, markersize=6)
        axes.annotate(words.number(value), (right, y), xytext=(10, 0), textcoords="offset points",
                      va="center", color=colour)
    axes.set_yticks(range(len(rows)), [text for text, *_ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.margins(x=0.1)
    left, right = axes.get_xlim()
    axes.set_xlim(left, right + 0.14 * (right - left))  # room for the last number
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return figure


def _forecast_diamond(axes: Axes, palette: Palette, at: float, forecast: Mapping, vertical: bool) -> None:
    """The forecast as an open diamond with its interval. `at` is its place on the axis that is not the metric's."""
    error = np.abs(np.reshape(forecast["interval"], (2, 1)) - forecast["predicted"])
    x, y, bar = [at], [forecast["predicted"]], "yerr"
    if not vertical:
        x, y, bar = y, x, "xerr"
    axes.errorbar(x, y, **{bar: error}, fmt="D", color=palette.accent, capsize=4, zorder=6,
                  markersize=5 if vertical else 7, markerfacecolor=palette.paper,
                  markeredgewidth=1.4, elinewidth=1.4)


def draw_params(study: StudyFiles, palette: Palette) -> Figure | None:
    """The tuned metric against N, one line for each D; the fitted law is dashed."""
    return _tuned_lines(study, study.cells, PARAMS, "data", palette)


def draw_data(study: StudyFiles, palette: Palette) -> Figure | None:
    """The tuned metric against D, one line for each N; the fitted law is dashed, the baselines of the data dotted."""
    return _tuned_lines(study, study.cells, "data", PARAMS, palette, baselines=True)


def draw_unique(study: StudyFiles, palette: Palette) -> Figure | None:
    """The tuned metric against the amount of unique data at equal data seen, one line for each N."""
    return _tuned_lines(study, tuned.repeated_cells(study.runs, study.metric), "unique", PARAMS, palette, baselines=True)


def _tuned_lines(study: StudyFiles, cells: pd.DataFrame, along: str, by: str, palette: Palette,
                 baselines: bool = False) -> Figure | None:
    """The tuned metric against column `along`, one line for each value of column `by`."""
    cells = cells.dropna(subset=[study.metric])
    if cells.empty:
        return None
    unit = study.unit.name
    x = {PARAMS: "non-embedding parameters", "data": f"training {unit}", "unique": f"unique training {unit}"}
    labels, colour = ("parameters", palette.size) if by == PARAMS else (unit, palette.data)
    figure, axes = canvas(x[along], study.measure.label, labels)
    grid = np.geomspace(cells[along].min(), cells[along].max(), 60)
    ends = []
    for value, line in cells.groupby(by):
        line = line.sort_values(along)
        draw_dots(axes, study, palette, line, along, colour(value))
        ends.append((line[study.metric].iloc[-1], words.count(value), colour(value)))
        law = None
        if along == PARAMS:
            law = study.law(grid, value)
        elif along == "data":
            law = study.law(value, grid)
        if law is not None:
            axes.plot(grid, law, color=palette.ink, **DASHED)
    if baselines:
        ends += _baselines(axes, study, palette, cells[along])
    finish(axes, ends)
    return figure


def draw_dots(axes: Axes, study: StudyFiles, palette: Palette, line: pd.DataFrame, along: str, colour: str) -> None:
    """Tuned runs joined by a line, with bars of one standard error and, where there are several, a dot for each seed."""
    axes.plot(line[along], line[study.metric], "o-", color=colour, markeredgecolor=palette.paper, **MARKER)
    error = tuned.standard_error(line, study.metric)
    if error.notna().any():
        axes.errorbar(line[along], line[study.metric], yerr=error.fillna(0), fmt="none", ecolor=colour,
                      elinewidth=1.0, capsize=2.5, zorder=3)
    for _, cell in line[line["seeds"] > 1].iterrows():
        seeds = study.runs.loc[study.runs["fingerprint"].isin(cell["fingerprints"]), study.metric]
        axes.plot([cell[along]] * len(seeds), seeds, "o", color=colour, markersize=2.4, alpha=0.6,
                  markeredgewidth=0, zorder=2)


def _baselines(axes: Axes, study: StudyFiles, palette: Palette, data: pd.Series) -> list[tuple[float, str, str]]:
    """Draws the metric of real images ("floor"), of training images used as samples ("memoriser") and of n-gram models.

    The axis is that of the trend, which is drawn already. A baseline far from the trend is named at the edge of the panel,
    with its values and an arrow. The last two are drawn at amounts of data within the range of `data`. Returns the labels
    of the lines.
    """
    known = study.baselines or {}
    low, high = axes.dataLim.intervaly
    scale = np.log if low > 0 else np.asarray
    height = float(scale(high) - scale(low)) or 0.1

    def place(value: float) -> int:
        """0 for a value near the trend, else the side on which it lies, -1 below."""
        if low > 0 >= value:
            return -1
        away = (scale(value) - scale(low)) / height
        return -1 if away < -NEAR else 1 if away > 1 + NEAR else 0

    floor = (known.get("floor") or {}).get(study.metric)
    points = {name: sorted((point[study.unit.unique], point[study.metric]) for point in known.get(key) or ()
                           if {study.unit.unique, study.metric} <= set(point)
                           and data.min() / 1.5 <= point[study.unit.unique] <= data.max() * 1.5)
              for key, name in (("memoriser", "memoriser"), ("ngram", "n-gram"))}
    lines = {"floor": [floor] if floor is not None and floor > 0 else [],
             **{name: [y for _, y in found] for name, found in points.items()}}
    shown = [y for values in lines.values() for y in values if place(y) == 0]
    bottom, top = min([low, *shown]), max([high, *shown])
    ends, aside = [], {-1: [], 1: []}
    for name, values in lines.items():
        if not any(place(y) == 0 for y in values):
            if values:
                aside[place(values[-1])].append(_range_text(name, values))
            continue
        if name == "floor":
            axes.axhline(values[0], color=palette.muted, **DOTTED)
        else:
            axes.plot(*zip(*points[name]), "s", color=palette.muted, markersize=3, **DOTTED)
        ends.append((min(max(values[-1], bottom), top), name, palette.muted))
    for side, texts in aside.items():
        if texts:
            arrow, y = ("↓", 0.02) if side < 0 else ("↑", 0.98)
            axes.annotate(f"{arrow} {', '.join(texts)}", (0.015, y), xycoords="axes fraction", color=palette.muted,
                          va="bottom" if side < 0 else "top", fontsize=9.5)
    margin = [0.05 + 0.1 * bool(aside[side]) for side in (-1, 1)]  # an empty line of text at an edge that names baselines
    unscale = np.exp if low > 0 else np.asarray
    whole = float(scale(top) - scale(bottom)) or height
    axes.set_ylim(float(unscale(scale(bottom) - margin[0] * whole)), float(unscale(scale(top) + margin[1] * whole)))
    return ends


def _range_text(name: str, values: list[float]) -> str:
    first, last = words.number(min(values), 2), words.number(max(values), 2)
    return f"{name} {first}" if first == last else f"{name} {first} to {last}"


def draw_compute(study: StudyFiles, palette: Palette) -> Figure | None:
    """The tuned metric against FLOPs, one line for each N, with the fitted frontier, the forecast and its target."""
    metric, forecast, check = study.metric, study.forecast, study.forecast_check
    compute = study.compute
    cells = study.cells[study.cells[compute] > 0].dropna(subset=[metric])
    if cells.empty:
        return None
    which = "FLOPs of the model" if compute == "flops" else "FLOPs executed"
    figure, axes = canvas(f"training compute ({which})", study.measure.label, "parameters")
    ends = []
    for params, line in cells.groupby(PARAMS):
        line, colour = line.sort_values(compute), palette.size(params)
        draw_dots(axes, study, palette, line, compute, colour)
        ends.append((line[metric].iloc[-1], words.count(params), colour))
    at = study.target_compute
    frontier = pd.DataFrame((study.fit or {}).get("frontier") or []).apply(pd.to_numeric, errors="coerce")
    if {"flops", "loss"} <= set(frontier):
        inside = frontier["flops"].between(cells[compute].min(), max(cells[compute].max(), at or 0) * 1.5)
        frontier = frontier[inside].sort_values("flops")
        axes.plot(frontier["flops"], frontier["loss"], color=palette.ink, **DASHED)
        if {"lo", "hi"} <= set(frontier):
            axes.fill_between(frontier["flops"], frontier["lo"], frontier["hi"], color=palette.ink, alpha=0.1,
                              linewidth=0)
    if at:
        _forecast_diamond(axes, palette, at, forecast, vertical=True)
        if check:
            axes.plot([at], [check["observed"]], "o", color=palette.accent, markersize=2.5, zorder=7)
        axes.annotate("forecast ◇" + ("\nobserved ●" if check else ""), (at, forecast["interval"][1]),
                      xytext=(6, 8), textcoords="offset points", ha="right", va="bottom",
                      color=palette.accent)
    axes.margins(x=0.08, y=0.1)
    finish(axes, ends, ticks=words.compact_power)
    return figure


def draw_residuals(study: StudyFiles, palette: Palette) -> Figure | None:
    """How far each fitted point lies above (+) or below (−) the law, in percent, against N; coloured by D."""
    table = residual_table(study)
    if table is None:
        return None
    figure, axes = canvas("non-embedding parameters", "observed above fitted (%)", study.unit.name)
    axes.axhline(0, color=palette.muted, linewidth=0.8, zorder=2)
    ends = []
    for value, group in table.sort_values(PARAMS).groupby("data"):
        colour, percent = palette.data(value), 100 * group["relative"]
        axes.plot(group[PARAMS], percent, "o", color=colour, markeredgecolor=palette.paper, **MARKER)
        ends.append((percent.iloc[-1], words.count(value), colour))
    axes.margins(y=0.1)
    finish(axes, ends, log_y=False)
    return figure


def residual_table(study: StudyFiles) -> pd.DataFrame | None:
    """The fitted points with the column `relative`: observed / fitted − 1. None without points or without a law."""
    points = pd.DataFrame((study.fit or {}).get("points") or [])
    if not {PARAMS, study.unit.seen, study.metric} <= set(points):
        return None
    law = law_values(study.fit, points.to_dict("list"))
    if law is None:
        return None
    return points.assign(data=merge_levels(points[study.unit.seen]), relative=points[study.metric] / law - 1)
