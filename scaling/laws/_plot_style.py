"""The look that all figures of laws share: that of the reports (`scaling.report`), on one panel or
several."""
from __future__ import annotations

import functools
import textwrap

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from scaling import files
from scaling.report import palette, plot, svg, words

COLOURS = palette.Palette((), ())
# Groups have no order: hues far apart for colour-blind readers too (Okabe and Ito 2008), and shapes beside.
HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7b5bb5", "#8a6d00", "#56b4e9")
SHAPES = ("o", "s", "^", "D", "v", "P", "X")
BAND = {"alpha": 0.16, "linewidth": 0, "zorder": 1}
DOT = {"linestyle": "none", "marker": "o", "markersize": 4.5, "markeredgewidth": 0.5, "zorder": 4,
       "markeredgecolor": COLOURS.paper}


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


def finish(axes: Axes, ends=(), log_y: bool = True) -> None:
    """Ticks a person can read, and `ends`: (y, text, colour) written at the right, apart from one another."""
    plot.finish(axes, ends, ticks=amount, log_y=log_y)
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
