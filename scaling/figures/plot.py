"""The look that all figures share.

The quantity is named above its axis, lines are labelled at their ends instead of in a box, only horizontal grid
lines are drawn, and ticks are round numbers. A figure is made in three steps:

    figure, axes = panels(1, 2)                          # an empty figure
    dress(axes[0, 0], "parameters", "loss", "tokens")    # names, scales, grid; then draw on it
    finish(axes[0, 0], ends)                             # ticks, and labels at the lines' ends

`canvas` does the first two steps for a figure of one panel.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from scaling.figures import palette, svg, words
from scaling.figures.palette import Palette
from scaling.store import files

LABEL_GAP = 0.068  # least distance of two labels, as a part of the axis's height: about one line of text
COLOURS = Palette((), ())
# Groups have no order: hues that colour-blind readers can tell apart (Okabe and Ito 2008), and shapes beside them.
HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7b5bb5", "#8a6d00", "#56b4e9")
SHAPES = ("o", "s", "^", "D", "v", "P", "X")
BAND = {"alpha": 0.16, "linewidth": 0, "zorder": 1}
DOT = {"linestyle": "none", "marker": "o", "markersize": 4.5, "markeredgewidth": 0.5, "zorder": 4,
       "markeredgecolor": COLOURS.paper}


def styled(draw):
    """Decorates `draw`, which returns a Figure, so that it runs with the reports' fonts, sizes and layout."""
    @functools.wraps(draw)
    def inner(*args, **named):
        with matplotlib.rc_context(svg.STYLE):
            return draw(*args, **named)
    return inner


def panels(rows: int = 1, columns: int = 1, width: float = 4.7, height: float = 3.5) -> tuple[Figure, np.ndarray]:
    """An empty figure of panels of the given size in inches: (figure, axes [rows, columns])."""
    figure = Figure(figsize=(width * columns, height * rows))
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def dress(axes: Axes, x: str, y: str, labels: str = "", log_x: bool = True, grid: bool = True) -> Axes:
    """Gives an empty panel its look. `x` is named below it, `y` above its left side; above its right side
    `labels` says what the labels at the lines' ends count."""
    axes.set_facecolor("none")
    axes.set_xscale("log" if log_x else "linear")
    axes.set_xlabel(x, color=COLOURS.muted)
    axes.set_title(y, loc="left", color=COLOURS.muted, fontsize=11, pad=9)
    axes.set_title(labels, loc="right", color=COLOURS.muted, fontsize=11, pad=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(COLOURS.muted)
    axes.tick_params(which="both", colors=COLOURS.muted)
    if grid:
        axes.grid(axis="y", color=COLOURS.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def canvas(x: str, y: str, labels: str = "", height: float = 3.5, log_x: bool = True,
           grid: bool = True) -> tuple[Figure, Axes]:
    """A figure of one dressed panel, in the width that a report's page shows."""
    figure, axes = panels(width=5.2, height=height)
    return figure, dress(axes[0, 0], x, y, labels, log_x, grid)


def finish(axes: Axes, ends: Sequence[tuple[float, str, str]] = (), ticks: Callable[[float], str] = words.amount,
           log_y: bool = True) -> None:
    """Sets the ticks of a panel on which everything is drawn, and labels its lines.

    `ends` are (y, text, colour), written at the right of the panel and moved apart where they would overlap.
    `ticks` writes the numbers of the x axis. The y axis is logarithmic when `log_y` and all values are positive.
    """
    left, right = _x_ticks(axes, ticks)
    _y_ticks(axes, log_y)
    ends = sorted(ends)
    to_axes = axes.transScale + axes.transLimits
    heights = [to_axes.transform((left, y))[1] for y, *_ in ends]
    for height, (_, text, colour) in zip(spread_labels(heights, LABEL_GAP), ends):
        axes.annotate(text, (1.0, height), xycoords="axes fraction", xytext=(6, 0),
                      textcoords="offset points", va="center", color=colour)


def _x_ticks(axes: Axes, ticks: Callable[[float], str]) -> tuple[float, float]:
    """Ticks of the x axis; returns the limits of that axis."""
    low, high = axes.get_xlim()
    if high < 1.001 * low:  # all points share one value up to rounding, and matplotlib would zoom into that
        low, high = axes.set_xlim(low / 3, high * 3)
    decades = np.log10(high / low) if axes.get_xscale() == "log" else np.nan
    if decades > 0.7:
        subs = (1.0,) if decades > 2.2 else (1.0, 3.0) if decades > 1.1 else (1.0, 2.0, 5.0)
        axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: ticks(value)))
    axes.xaxis.set_minor_locator(LogLocator(subs=range(2, 10), numticks=99) if decades < 6 else NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    return low, high


def _y_ticks(axes: Axes, log_y: bool) -> None:
    if log_y and axes.dataLim.y0 > 0:
        axes.set_yscale("log")
    bottom, top = axes.get_ylim()
    if axes.get_yscale() == "log" and top / bottom > 1.8:  # ticks at equal distances would crowd at the top
        subs = ((1.0,) if top / bottom >= 400 else (1.0, 2.0, 5.0) if top / bottom > 8
                else (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0))
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=9))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(Amounts())
    axes.yaxis.set_minor_locator(NullLocator())


class Amounts(Formatter):
    """Numbers on an axis as `words.amount` has them, with more digits where two ticks would look the same."""

    def __call__(self, value: float, pos: int | None = None) -> str:
        return words.amount(value)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        said = [self(value) for value in values]
        if len(set(said)) == len(said):
            return said
        step = np.diff(np.unique(np.asarray(values, float))).min(initial=np.inf)
        digits = next((n for n in range(15) if all(abs(round(value, n) - value) < step / 50 for value in values)), 15)
        return [f"{value:,.{digits}f}" for value in values]


def spread_labels(heights: Sequence[float], gap: float) -> list[float]:
    """Sorted `heights`, moved to be at least `gap` apart. Labels that overlap spread about their mean."""
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


def note(figure: Figure, text: str) -> None:
    """Writes a remark under the whole figure, unless `text` is empty."""
    if text:
        text = textwrap.fill(text, int(12.5 * figure.get_figwidth()))
        figure.supxlabel(text, fontsize=9, color=COLOURS.muted)


def save_figure(path, figure: Figure, dpi: int = 160, about: str = "") -> None:
    """Writes a figure as PNG, atomically. The file says `about`, which readers of images do not see."""
    files.atomic_write(path, svg.to_png(figure, COLOURS, dpi, about))


def ramp(role: str, steps: int) -> list[str]:
    """`steps` colours for increasing values of a law's input: one scale for data (D, U), one for all others."""
    return palette.scale("data" if role in ("D", "U") else "size", steps)


def group_levels(logs: np.ndarray, most: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """A few levels of an input, one for each colour, and the index of the nearest level for each point.

    logs [n] -> (levels [m], index [n]). The levels are the input's own (values within 1% are one) where there are
    at most most + 2 of them, and otherwise `most` quantiles of the points.
    """
    values = np.sort(logs)
    own = values[np.concatenate([[True], np.diff(values) > 0.01])]
    if len(own) > most + 2:
        own = np.unique(np.quantile(values, (np.arange(most) + 0.5) / most))
    return own, np.abs(logs[:, None] - own).argmin(1)


def axis_name(columns, role: str) -> str:
    """The name of an axis: the symbol of the law, and the column of the data that it stands for."""
    column = columns.get(role, role)
    return role if column == role else f"{role} ({column})"
