"""The look that all figures share: the quantity named above its axis, lines labelled at their ends instead of
in a box, horizontal grid only, ticks a person can read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from scaling.report import words
from scaling.report.palette import Palette

LABEL_GAP = 0.068  # least distance of two labels, as a part of the axis's height: about one line of text


def canvas(palette: Palette, x: str, y: str, labels: str = "", height: float = 3.5) -> tuple[Figure, Axes]:
    """An empty plot with a logarithmic x axis.

    `y` is named above its axis, `x` below; `labels` names what the labels at the lines' ends count.
    """
    figure = Figure(figsize=(5.2, height))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    axes.set_xscale("log")
    axes.set_xlabel(x, color=palette.muted)
    for side, text in (("left", y), ("right", labels)):
        axes.set_title(text, loc=side, color=palette.muted, fontsize=11, pad=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(palette.muted)
    axes.tick_params(which="both", colors=palette.muted)
    axes.grid(axis="y", color=palette.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def finish(axes: Axes, ends: Sequence[tuple] = (), ticks=words.count, log_y: bool = True) -> None:
    """Ticks, and `ends`: (y, text, colour) written right of the plot, apart where they would overlap."""
    low, high = axes.get_xlim()
    if high < 1.001 * low:  # a single value, but for rounding, which matplotlib would zoom into
        low, high = axes.set_xlim(low / 3, high * 3)
    decades = np.log10(high / low)
    subs = (1.0,) if decades > 2.2 else (1.0, 3.0) if decades > 1.1 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=8) if decades > 0.7 else
                                 MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: ticks(value)))
    axes.xaxis.set_minor_locator(LogLocator(subs=range(2, 10), numticks=99) if decades < 6 else NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    if log_y and axes.dataLim.y0 > 0:
        axes.set_yscale("log")
    bottom, top = axes.get_ylim()
    if axes.get_yscale() == "log" and top / bottom > 8:  # numbers at equal distances would crowd at the top
        subs = (1.0, 2.0, 5.0) if top / bottom < 400 else (1.0,)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=9))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words.short(value)))
    axes.yaxis.set_minor_locator(NullLocator())
    ends = sorted(ends)
    to_axes = axes.transScale + axes.transLimits
    heights = [to_axes.transform((low, y))[1] for y, *_ in ends]
    for height, (_, text, colour) in zip(spread(heights, LABEL_GAP), ends):
        axes.annotate(text, (1.0, height), xycoords="axes fraction", xytext=(6, 0),
                      textcoords="offset points", va="center", color=colour)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Sorted `heights` moved to be at least `gap` apart: what overlaps spreads about its mean."""
    clusters: list[list[float]] = []
    for height in heights:
        clusters.append([height])
        while len(clusters) > 1 and _bottom(clusters[-1], gap) < _top(clusters[-2], gap) + gap:
            clusters[-2:] = [clusters[-2] + clusters[-1]]
    return [_bottom(cluster, gap) + gap * i for cluster in clusters for i in range(len(cluster))]


def _bottom(cluster: list[float], gap: float) -> float:
    return sum(cluster) / len(cluster) - gap * (len(cluster) - 1) / 2


def _top(cluster: list[float], gap: float) -> float:
    return _bottom(cluster, gap) + gap * (len(cluster) - 1)


def interval(axes: Axes, palette: Palette, at: float, forecast, vertical: bool) -> None:
    """The forecast as an open diamond with its interval, at `at` on the other axis."""
    error = np.abs(np.reshape(forecast["interval"], (2, 1)) - forecast["predicted"])
    x, y, bar = [at], [forecast["predicted"]], "yerr"
    if not vertical:
        x, y, bar = y, x, "xerr"
    axes.errorbar(x, y, **{bar: error}, fmt="D", color=palette.accent, capsize=4, zorder=6,
                  markersize=5 if vertical else 7, markerfacecolor=palette.paper,
                  markeredgewidth=1.4, elinewidth=1.4)
