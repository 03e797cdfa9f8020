"""Figures of two recipes on one ladder: their losses, and the speed-up of the change with its line."""
from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.figures import words
from scaling.figures.plot import BAND, COLOURS, DOT, canvas, finish, styled
from scaling.laws.intervals.uncertainty import percentiles

DASHED = {"linestyle": (0, (4, 2.5)), "linewidth": 1.2, "zorder": 3}


@styled
def draw_recipes(found, metric: str | None = None) -> Figure | None:
    """The losses of both recipes (a `Speedup`) against compute, with the base's law; None where only speed-ups were given.

    Small dots are runs, large ones the means that are compared. metric: a name for the axis.
    """
    if found.law is None:
        return None
    figure, axes = canvas("FLOPs", metric or found.metric)
    law, table, ends = found.law, found.table.sort_values("flops"), []
    flops = law.runs.values("C")
    if len(law.form.inputs) == 1:
        grid = np.geomspace(flops.min(), max(flops.max(), found.flops.max()), 80)
        axes.plot(grid, law.predict(grid), color=COLOURS.muted, **DASHED)
    axes.plot(flops, law.y, **DOT | {"color": COLOURS.muted, "markersize": 2.5, "markeredgewidth": 0})
    for name, column, colour in (*zip(found.names, ("base", "change"), (COLOURS.ink, COLOURS.accent)),):
        mine = table.dropna(subset=[column])
        axes.plot(mine["flops"], mine[column], **DOT | {"color": colour, "markersize": 5.5})
        if len(mine):
            ends.append((float(mine[column].iloc[-1]), name, colour))
    axes.margins(x=0.06, y=0.1)
    finish(axes, ends, ticks=words.compact_power)
    return figure


@styled
def draw_speedup(found) -> Figure:
    """The speed-up at each rung with its interval, its line against log compute with a band up to the target, and 1."""
    figure, axes = canvas("FLOPs of the change", "effective speed-up")
    known = len(found.draws) > 1
    grid = np.geomspace(min(found.flops[0], found.target), max(found.flops[-1], found.target), 60)
    own, drawn = found.lines
    value = np.exp([own.at(flops) for flops in grid])
    axes.axhline(1, color=COLOURS.ink, linewidth=0.9, zorder=2)
    if known:
        low, high = np.exp(np.transpose([percentiles(drawn.at(flops), found.level) for flops in grid]))
        axes.fill_between(grid, low, high, color=COLOURS.accent, **BAND)
    inside = (grid >= found.flops[0] * 0.999) & (grid <= found.flops[-1] * 1.001)
    axes.plot(grid[inside], value[inside], color=COLOURS.accent, linewidth=1.5, zorder=3)
    axes.plot(grid, value, color=COLOURS.accent, **DASHED)
    _bars(axes, found, known)
    at = found.at(found.target)
    axes.plot([found.target], [np.exp(at.value)], "D", color=COLOURS.accent, markerfacecolor=COLOURS.paper, markersize=6,
              markeredgewidth=1.4, zorder=6)
    axes.margins(x=0.08, y=0.1)
    _limit(axes, found)
    finish(axes, [(float(np.exp(at.value)), "target", COLOURS.accent)], ticks=words.compact_power)
    return figure


def _bars(axes: Axes, found, known: bool) -> None:
    """A dot for each rung, with its interval."""
    table = found.table
    error = np.abs(table[["low", "high"]].to_numpy(float).T - table["speedup"].to_numpy(float)) if known else None
    axes.errorbar(table["flops"], table["speedup"], yerr=error, fmt="o", color=COLOURS.ink, markersize=5, elinewidth=1.2,
                  capsize=3, zorder=5)


def _limit(axes: Axes, found) -> None:
    """Keeps an interval that is far wider than the speed-ups from flattening them: its end runs off the panel."""
    places = [found.at(found.target), *(found.rung(place) for place in range(len(found.logs)))]
    seen = np.array([0.0, *(place.value for place in places)])
    span = max(float(np.ptp(seen)), 0.1)
    ends = np.array([*seen, *(end for place in places for end in (place.low, place.high))])
    low, high = np.nanmin(ends), np.nanmax(ends)
    axes.set_yscale("log")
    low, high = max(low - 0.1 * span, seen.min() - 1.5 * span), min(high + 0.1 * span, seen.max() + 1.5 * span)
    axes.set_ylim(np.exp(low), np.exp(high))
