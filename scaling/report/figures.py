"""The report's figures. Each function draws one: a matplotlib Figure, or None where its data is missing.

Colour is size, `palette.size(N)`, where a line is one model, and data, `palette.data(D)`, where it is one
amount of data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scaling.report import svg, words
from scaling.report.palette import Palette
from scaling.report.plot import canvas, finish, interval
from scaling.report.trends import DATA, PARAMS, levels, predict

DOT = {"markeredgewidth": 0.8, "zorder": 4}
DASHED = {"dashes": (4, 2.5), "linewidth": 1.0, "zorder": 3}
# Where training curves begin, as a part of the longest run: the first descent would flatten all the rest.
CURVES_FROM = 0.005


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


def against_params(cells, metric, palette, fit=None) -> Figure | None:
    """Tuned loss against N, one line per D; dashed, the fitted law."""
    return _lines(cells, PARAMS, "data", metric, palette, palette.data, "non-embedding parameters", "tokens",
                  fit)


def against_data(cells, metric, palette, fit=None) -> Figure | None:
    """Tuned loss against D, one line per N; dashed, the fitted law."""
    return _lines(cells, "data", PARAMS, metric, palette, palette.size, "training tokens", "parameters", fit)


def _lines(cells: pd.DataFrame, along: str, by: str, metric: str, palette: Palette,
           colour: Callable[[float], str], x: str, labels: str, fit: Mapping | None) -> Figure | None:
    if cells.empty:
        return None
    figure, axes = canvas(palette, x, words.label(metric), labels)
    grid = np.geomspace(cells[along].min(), cells[along].max(), 60)
    ends = []
    for value, line in cells.groupby(by):
        line = line.sort_values(along)
        axes.plot(line[along], line[metric], "o-", color=colour(value), markeredgecolor=palette.paper, **DOT)
        ends.append((line[metric].iloc[-1], words.count(value), colour(value)))
        law = predict(fit, *((grid, value) if along == PARAMS else (value, grid)))
        if law is not None:
            axes.plot(grid, law, color=palette.ink, **DASHED)
    finish(axes, ends)
    return figure


def against_compute(cells, metric, palette, fit=None, forecast=None, check=None) -> Figure | None:
    """Tuned loss against FLOPs, one line per N; the fitted frontier; the forecast and what was observed."""
    cells = cells[cells["flops"] > 0]
    if cells.empty:
        return None
    figure, axes = canvas(palette, "training compute (FLOPs)", words.label(metric), "parameters")
    for params, line in cells.groupby(PARAMS):
        line, colour = line.sort_values("flops"), palette.size(params)
        axes.plot(line["flops"], line[metric], "o-", color=colour, markeredgecolor=palette.paper, **DOT)
        axes.annotate(words.count(params), (line["flops"].iloc[0], line[metric].iloc[0]), xytext=(0, 7),
                      textcoords="offset points", ha="center", color=colour)
    at = ((forecast or {}).get("target") or {}).get("flops")
    frontier = pd.DataFrame((fit or {}).get("frontier") or []).apply(pd.to_numeric, errors="coerce")
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


def training_curves(cells, curves: Mapping[str, pd.DataFrame], palette, target: str | None) -> Figure | None:
    """Training loss against tokens of each tuned run, coloured by size, and of the target (a fingerprint)."""
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
    finish(axes, list(ends.values()))
    return figure


def smooth(curve: pd.DataFrame, bins: int = 90) -> pd.DataFrame:
    """`curve` averaged in bins of equal width in log tokens: noise goes, the early descent stays."""
    curve = curve[np.isfinite(curve["loss"]) & (curve["tokens"] > 0)]
    if len(curve) < 3:
        return curve
    edges = np.geomspace(curve["tokens"].min(), curve["tokens"].max() * 1.0001, bins + 1)
    return curve.groupby(np.digitize(curve["tokens"], edges))[["tokens", "loss"]].mean()


def against_learning_rate(runs, rates, metric, palette) -> Figure | None:
    """Loss against learning rate, one line per size at its most data with a sweep; the minimum ringed.

    Runs that diverged are crosses at the top. `rates` comes from `trends.learning_rates`.
    """
    if rates.empty:
        return None
    figure, axes = canvas(palette, "learning rate", words.label(metric), "parameters")
    ends, dead = [], []
    for size, cell in rates.groupby(PARAMS):
        here = runs[(runs["role"] == "sweep") & (runs[PARAMS] == size) & (runs["data"] == cell["data"].max())]
        line, colour = here.groupby("learning_rate")[metric].min(), palette.size(size)
        alive = line.dropna()
        axes.plot(alive.index, alive, "o-", color=colour, markeredgecolor=palette.paper, **DOT)
        axes.plot([alive.idxmin()], [alive.min()], "o", markersize=10, markerfacecolor="none",
                  markeredgecolor=colour, markeredgewidth=1.4, zorder=5)
        ends.append((alive.iloc[-1], words.count(size), colour))
        dead += [(rate, colour) for rate in line.index[line.isna()]]
    for i, (rate, colour) in enumerate(dead):
        axes.plot([rate], [0.97 - 0.05 * (i % 4)], "x", color=colour, zorder=5,
                  transform=axes.get_xaxis_transform())
    finish(axes, ends, ticks=words.short)
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
        colour, percent = palette.data(value), 100 * group["relative"]
        axes.plot(group[PARAMS], percent, "o", color=colour, markeredgecolor=palette.paper, **DOT)
        ends.append((percent.iloc[-1], words.count(value), colour))
    axes.margins(y=0.1)
    finish(axes, ends, log_y=False)
    return figure


def residual_table(fit: Mapping | None, metric: str) -> pd.DataFrame | None:
    """The fitted points with `relative`, observed over fitted less one. None where these are not known."""
    points = pd.DataFrame((fit or {}).get("points") or [])
    if not {PARAMS, DATA, metric} <= set(points):
        return None
    law = predict(fit, points[PARAMS].to_numpy(float), points[DATA].to_numpy(float))
    if law is None:
        return None
    return points.assign(data=levels(points[DATA]), relative=points[metric] / law - 1)


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
