"""The report's figures. Each function draws one and returns a matplotlib Figure, or None where its data is missing.

All share one look: the quantity named above the axis, lines labelled at their ends instead of in a legend box, horizontal
grid only. Colour is size (`palette.size(N)`) where a line is one model, and data (`palette.data(D)`) where it is one amount of data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from scaling.report import svg, words
from scaling.report.palette import Palette
from scaling.report.trends import DATA, PARAMS, levels, predict

CURVES_FROM = 0.005  # part of the longest run at which training curves begin: the first descent would flatten all the rest
DOT = {"markeredgewidth": 0.8, "zorder": 4}


def canvas(palette: Palette, x: str, y: str, labels: str = "", height: float = 3.5) -> tuple[Figure, Axes]:
    """An empty plot: `y` named above its axis, `x` below, `labels` naming what the labels at the lines' ends count."""
    figure = Figure(figsize=(5.2, height))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    axes.set_xscale("log")
    axes.set_xlabel(x, color=palette.muted)
    axes.set_title(y, loc="left", color=palette.muted, fontsize=11, pad=9)
    axes.set_title(labels, loc="right", color=palette.muted, fontsize=11, pad=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(palette.muted)
    axes.tick_params(which="both", colors=palette.muted)
    axes.grid(axis="y", color=palette.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def finish(axes: Axes, palette: Palette, ends: Sequence[tuple] = (), ticks=words.count, log_y: bool = True) -> None:
    """Ticks a person can read, and `ends`: (y, text, colour) written right of the plot, moved apart where they would overlap."""
    low, high = axes.get_xlim()
    decades = np.log10(high / low)
    subs = (1.0,) if decades > 2.2 else (1.0, 3.0) if decades > 1.1 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: ticks(value)))
    axes.xaxis.set_minor_locator(LogLocator(subs=range(2, 10), numticks=99) if decades < 6 else NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    if log_y and axes.get_ylim()[0] > 0:
        axes.set_yscale("log")
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words.short(value)))
    axes.yaxis.set_minor_locator(NullLocator())
    if not ends:
        return
    ends = sorted(ends)
    to_axes = axes.transScale + axes.transLimits
    heights = [to_axes.transform((low, y))[1] for y, *_ in ends]
    for height, (_, text, colour) in zip(spread(heights, gap=0.068), ends):
        axes.annotate(text, (1.0, height), xycoords="axes fraction", xytext=(6, 0), textcoords="offset points",
                      va="center", color=colour, fontsize=11)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Sorted `heights` moved as little as a pass needs so that neighbours are `gap` apart: clusters grow about their mean."""
    clusters: list[list[float]] = []
    for height in heights:
        clusters.append([height])
        while len(clusters) > 1 and _bottom(clusters[-1], gap) < _bottom(clusters[-2], gap) + gap * len(clusters[-2]):
            clusters[-2:] = [clusters[-2] + clusters[-1]]
    return [_bottom(cluster, gap) + gap * i for cluster in clusters for i in range(len(cluster))]


def _bottom(cluster: list[float], gap: float) -> float:
    return sum(cluster) / len(cluster) - gap * (len(cluster) - 1) / 2


def _lines(cells: pd.DataFrame, along: str, by: str, metric: str, colour_of: Callable[[float], str], x: str, of: str, palette: Palette,
           fit: Mapping | None) -> Figure | None:
    if cells.empty:
        return None
    figure, axes = canvas(palette, x, words.label(metric), of)
    ends = []
    for value, line in cells.groupby(by):
        line = line.sort_values(along)
        axes.plot(line[along], line[metric], "o-", color=colour_of(value), markeredgecolor=palette.paper, **DOT)
        ends.append((line[metric].iloc[-1], words.count(value), colour_of(value)))
        grid = np.geomspace(cells[along].min(), cells[along].max(), 60)
        law = predict(fit, *((grid, value) if along == PARAMS else (value, grid)))
        if law is not None:
            axes.plot(grid, law, color=palette.ink, linewidth=0.9, dashes=(4, 2.5), zorder=3)
    finish(axes, palette, ends)
    return figure


def against_params(cells, metric, palette, fit=None) -> Figure | None:
    """Tuned loss against N, one line per D; dashed, the fitted law."""
    return _lines(cells, PARAMS, "data", metric, palette.data, "non-embedding parameters", "tokens", palette, fit)


def against_data(cells, metric, palette, fit=None) -> Figure | None:
    """Tuned loss against D, one line per N; dashed, the fitted law."""
    return _lines(cells, "data", PARAMS, metric, palette.size, "training tokens", "parameters", palette, fit)


def against_compute(cells, metric, palette, fit=None, forecast=None, check=None) -> Figure | None:
    """Tuned loss against training FLOPs, one line per N; the fitted frontier with its band; the forecast and what was observed."""
    cells = cells[cells["flops"] > 0]
    if cells.empty:
        return None
    figure, axes = canvas(palette, "training compute (FLOPs)", words.label(metric), "parameters")
    for params, line in cells.groupby(PARAMS):
        line = line.sort_values("flops")
        axes.plot(line["flops"], line[metric], "o-", color=palette.size(params), markeredgecolor=palette.paper, **DOT)
        axes.annotate(words.count(params), (line["flops"].iloc[0], line[metric].iloc[0]), xytext=(0, 7), ha="center",
                      textcoords="offset points", color=palette.size(params), fontsize=11)
    frontier = pd.DataFrame((fit or {}).get("frontier") or []).apply(pd.to_numeric)
    if not frontier.empty:
        frontier = frontier.sort_values("flops")
        reach = max(cells["flops"].max(), (forecast or {}).get("target", {}).get("flops") or 0) * 1.5
        frontier = frontier[frontier["flops"].between(cells["flops"].min(), reach)]
        axes.plot(frontier["flops"], frontier["loss"], color=palette.ink, linewidth=1.1, dashes=(4, 2.5), zorder=3)
        if {"lo", "hi"} <= set(frontier):
            axes.fill_between(frontier["flops"], frontier["lo"], frontier["hi"], color=palette.ink, alpha=0.1, linewidth=0)
    if forecast:
        at = forecast["target"]["flops"]
        _interval(axes, palette, at, forecast, vertical=True)
        if check:
            axes.plot([at], [check["observed"]], "o", color=palette.accent, markersize=3.5, zorder=7)
        axes.annotate("forecast ◇" + ("\nobserved ●" if check else ""), (at, forecast["interval"][1]), xytext=(6, 8),
                      textcoords="offset points", ha="right", va="bottom", color=palette.accent, fontsize=11)
    axes.margins(x=0.08, y=0.1)
    finish(axes, palette, ticks=lambda value: words.power(value, 1))
    return figure


def _interval(axes: Axes, palette: Palette, at: float, forecast: Mapping, vertical: bool) -> None:
    """The forecast as an open diamond with its interval, at `at` on the other axis."""
    error = np.abs(np.reshape(forecast["interval"], (2, 1)) - forecast["predicted"])
    where = {"x": [at], "y": [forecast["predicted"]], "yerr": error} if vertical else \
        {"x": [forecast["predicted"]], "y": [at], "xerr": error}
    axes.errorbar(**where, fmt="D", color=palette.accent, capsize=4, zorder=6, markersize=7.5, markerfacecolor=palette.paper,
                  markeredgewidth=1.4, elinewidth=1.4)


def verdict(cells, metric, palette, forecast=None, check=None) -> Figure | None:
    """Three rows on one scale: the best fitted run, the forecast with its interval, and what was observed."""
    if not forecast:
        return None
    figure, axes = canvas(palette, words.label(metric), "", height=1.75)
    axes.set_xscale("linear")
    axes.grid(False)
    low, high = forecast["interval"]
    axes.axvspan(low, high, color=palette.accent, alpha=0.12, linewidth=0)
    rows = [("forecast", forecast["predicted"], palette.accent, high)]
    if not cells.empty:
        rows.insert(0, ("best fitted", cells[metric].min(), palette.ink, cells[metric].min()))
    if check:
        rows.append(("observed", check["observed"], palette.accent, max(high, check["observed"])))
    for y, (text, value, colour, right) in enumerate(rows):
        if text == "forecast":
            _interval(axes, palette, y, forecast, vertical=False)
        else:
            axes.plot([value], [y], "o", color=colour, markersize=6)
        axes.annotate(words.number(value), (right, y), xytext=(10, 0), textcoords="offset points", va="center", color=colour)
    axes.set_yticks(range(len(rows)), [text for text, *_ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.margins(x=0.1)
    left, right = axes.get_xlim()
    axes.set_xlim(left, right + 0.14 * (right - left))  # room for the last number
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return figure


def training_curves(cells, curves: Mapping[str, pd.DataFrame], palette, target: str | None = None) -> Figure | None:
    """Training loss against tokens of each tuned run, coloured by size, and of the target run (`target`: its fingerprint)."""
    lines = [(words.count(run[PARAMS]), run["fingerprint"], palette.size(run[PARAMS]))
             for _, run in cells.sort_values([PARAMS, "data"]).iterrows()]
    lines += [("target", target, palette.accent)] if target else []
    lines = [(text, smooth(curves[name]), colour) for text, name, colour in lines if name in curves]
    start = max((curve["tokens"].max() for _, curve, _ in lines if len(curve)), default=0) * CURVES_FROM
    lines = [(text, curve[curve["tokens"] >= start], colour) for text, curve, colour in lines]
    lines = [line for line in lines if len(line[1])]
    if not lines:
        return None
    figure, axes = canvas(palette, "training tokens", "training loss (nats per token)", "parameters")
    ends = {}
    for text, curve, colour in lines:
        axes.plot(curve["tokens"], curve["loss"], color=colour, linewidth=1.1)
        ends[text] = (curve["loss"].iloc[-1], text, colour)
    finish(axes, palette, list(ends.values()))
    return figure


def smooth(curve: pd.DataFrame, bins: int = 90) -> pd.DataFrame:
    """`curve` averaged in bins of equal width in log tokens: noise goes, the early descent stays."""
    curve = curve[np.isfinite(curve["loss"]) & (curve["tokens"] > 0)]
    if len(curve) < 3:
        return curve
    edges = np.geomspace(curve["tokens"].min(), curve["tokens"].max() * 1.0001, bins + 1)
    return curve.groupby(np.digitize(curve["tokens"], edges))[["tokens", "loss"]].mean()


def against_learning_rate(runs, rates, metric, palette) -> Figure | None:
    """Loss against learning rate, one line per size at its largest D with a sweep; ringed, the tuned minimum; crosses diverged."""
    if rates.empty:
        return None
    figure, axes = canvas(palette, "learning rate", words.label(metric), "parameters")
    ends, dead = [], []
    for size, cell in rates.groupby(PARAMS):
        here = runs[(runs["role"] == "sweep") & (runs[PARAMS] == size) & (runs["data"] == cell["data"].max())]
        line = here.groupby("learning_rate")[metric].min()
        colour = palette.size(size)
        alive = line.dropna()
        axes.plot(alive.index, alive, "o-", color=colour, markeredgecolor=palette.paper, **DOT)
        axes.plot([alive.idxmin()], [alive.min()], "o", markersize=10, markerfacecolor="none", markeredgecolor=colour,
                  markeredgewidth=1.4, zorder=5)
        ends.append((alive.iloc[-1], words.count(size), colour))
        dead += [(rate, colour) for rate in line.index[line.isna()]]
    for rank, (rate, colour) in enumerate(dead):
        axes.plot([rate], [0.97 - 0.05 * (rank % 4)], "x", color=colour, transform=axes.get_xaxis_transform(), zorder=5)
    finish(axes, palette, ends, ticks=words.short)
    return figure


def residuals(fit: Mapping | None, metric: str, palette) -> Figure | None:
    """How far each fitted point lies above (+) or below the law, in percent, against N; coloured by D."""
    table = residual_table(fit, metric)
    if table is None:
        return None
    figure, axes = canvas(palette, "non-embedding parameters", "observed above fitted (%)", "tokens")
    axes.axhline(0, color=palette.muted, linewidth=0.8, zorder=2)
    ends = []
    for value, group in table.sort_values(PARAMS).groupby("data"):
        colour = palette.data(value)
        axes.plot(group[PARAMS], 100 * group["relative"], "o", color=colour, markeredgecolor=palette.paper, **DOT)
        ends.append((100 * group["relative"].iloc[-1], words.count(value), colour))
    axes.margins(y=0.1)
    finish(axes, palette, ends, log_y=False)
    return figure


def residual_table(fit: Mapping | None, metric: str) -> pd.DataFrame | None:
    points = pd.DataFrame((fit or {}).get("points") or [])
    if not {PARAMS, DATA, metric} <= set(points):
        return None
    law = predict(fit, points[PARAMS].to_numpy(float), points[DATA].to_numpy(float))
    return None if law is None else points.assign(data=levels(points[DATA]), relative=points[metric] / law - 1)


def render(figures: Mapping[str, tuple], palette: Palette, png: bool = True) -> dict[str, dict]:
    """{name: (draw, title, caption)} -> {name: {"svg", "caption", and "png" where asked for}} of those with something to draw."""
    out = {}
    for name, (draw, title, caption) in figures.items():
        with matplotlib.rc_context(svg.STYLE):
            figure = draw()
        if figure is not None:
            out[name] = {"svg": svg.to_svg(figure, palette, name, title), "caption": caption}
            out[name] |= {"png": svg.to_png(figure, palette)} if png else {}
    return out
