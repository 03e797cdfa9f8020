"""The look that all figures share: the quantity named above its axis, lines labelled at their ends instead of
in a box, horizontal grid only, ticks a person can read."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from scaling.figures import palette, svg, words
from scaling.figures.palette import Palette
from scaling.store import files

LABEL_GAP = 0.068  # least distance of two labels, as a part of the axis's height: about one line of text
COLOURS = Palette((), ())
# Groups have no order: hues far apart for colour-blind readers too (Okabe and Ito 2008), and shapes beside.
HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7b5bb5", "#8a6d00", "#56b4e9")
SHAPES = ("o", "s", "^", "D", "v", "P", "X")
BAND = {"alpha": 0.16, "linewidth": 0, "zorder": 1}
DOT = {"linestyle": "none", "marker": "o", "markersize": 4.5, "markeredgewidth": 0.5, "zorder": 4,
       "markeredgecolor": COLOURS.paper}


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


# --------------------------------------------------------------------------- several panels, as laws draw them


def styled(draw):
    """`draw`, which returns a Figure, with the reports' fonts, sizes and layout."""
    @functools.wraps(draw)
    def inner(*args, **named):
        with matplotlib.rc_context(svg.STYLE):
            return draw(*args, **named)
    return inner


def panels(rows: int = 1, columns: int = 1, width: float = 4.7,
           height: float = 3.5) -> tuple[Figure, np.ndarray]:
    """An empty figure of rows x columns panels of the given size in inches: (figure, axes [rows,
    columns])."""
    figure = Figure(figsize=(width * columns, height * rows))
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def dress(axes: Axes, x: str, y: str, labels: str = "", log_x: bool = True, grid: bool = True) -> Axes:
    """`x` named below, `y` above its axis, `labels` above the right side: what labels at lines' ends
    count."""
    axes.set_facecolor("none")
    axes.set_xscale("log" if log_x else "linear")
    axes.set_xlabel(x, color=COLOURS.muted)
    for side, text in (("left", y), ("right", labels)):
        axes.set_title(text, loc=side, color=COLOURS.muted, fontsize=11, pad=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(COLOURS.muted)
    axes.tick_params(which="both", colors=COLOURS.muted)
    if grid:
        axes.grid(axis="y", color=COLOURS.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def amount(value: float) -> str:
    """A number on an axis: 0.25, 300M, and 10²¹ where suffixes end."""
    if value < 0 or value < 1e-3 or 1 <= value < 1e3:
        return words.short(value)
    return words.count(value) if value < 9e14 else power(value)


def power(value: float) -> str:
    """FLOPs to two digits: 10²¹, 3 × 10²⁰, 6.4 × 10¹⁹."""
    return words.power(value, 2).replace(".0 ×", " ×").removeprefix("1 × ")


def percent(value: float, _=None) -> str:
    """A share with its sign, as axes write it: +2.5%, −10%, 0."""
    return f"{100 * value:+.3g}%".replace("-", "−") if value else "0"


def finish_panel(axes: Axes, ends=(), log_y: bool = True) -> None:
    """Ticks a person can read, and `ends`: (y, text, colour) written at the right, apart from one another."""
    finish(axes, ends, ticks=amount, log_y=log_y)
    bottom, top = axes.get_ylim()
    if axes.get_yscale() == "log" and 1.8 < top / bottom <= 8:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0), numticks=9))
    axes.yaxis.set_major_formatter(lambda value, _: amount(value))


def save(path, figure: Figure, dpi: int = 160) -> None:
    """Write a figure as PNG, whole or not at all."""
    files.atomic_write(path, svg.to_png(figure, COLOURS, dpi))


def note(figure: Figure, text: str) -> None:
    """A remark under the whole figure: what a reader must know to read it rightly."""
    if text:
        text = textwrap.fill(text, int(12.5 * figure.get_figwidth()))
        figure.supxlabel(text, fontsize=9, color=COLOURS.muted)


def ramp(role: str, steps: int) -> list[str]:
    """`steps` colours for increasing values of an input: one scale for data (D, U), one for all others."""
    return palette.scale("data" if role in ("D", "U") else "size", steps)


def levels(logs: np.ndarray, most: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """A few levels that stand for an input, and the index of the nearest for each point.

    logs [n] -> (levels [m], index [n]): its own levels (values within 1% are one) where there are at most
    most + 2, else `most` values at equal shares of the points.
    """
    values = np.sort(logs)
    own = values[np.concatenate([[True], np.diff(values) > 0.01])]
    if len(own) > most + 2:
        own = np.unique(np.quantile(values, (np.arange(most) + 0.5) / most))
    return own, np.abs(logs[:, None] - own).argmin(1)


def named(columns, role: str) -> str:
    """An axis's name: the symbol of the law, and the column of the data it stands for."""
    column = columns.get(role, role)
    return role if column == role else f"{role} ({column})"
