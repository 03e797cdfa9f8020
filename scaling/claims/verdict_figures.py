"""The two figures of a claim's page: what was measured, and the numbers that decide with the regions where the claim holds.

Both are drawn from the verdict alone, the small JSON file that a repository keeps.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from scaling.figures import plot, words

WIDE = 46  # characters of a line above a panel
ABREAST = 3  # panels side by side; more go below
MARKERS = {"": "o", "at least": "^", "at most": "v"}
WIDEST = 1000  # factor that a panel may span on a linear axis
LONG = 88  # characters of a line above a number
NARROW, MARGIN = 30, 0.12  # factor that intervals may span on a linear axis; the space beyond them, as a part of their span


@plot.styled
def draw_panels(found: Mapping) -> Figure | None:
    """The panels of a claim's parts, in rows of equal length; None where no part has one."""
    panels = {name: part["panel"] for name, part in found["parts"].items() if part["panel"]}
    if not panels:
        return None
    rows = math.ceil(len(panels) / ABREAST)
    figure, grid = plot.panels(rows, math.ceil(len(panels) / rows))
    for axes in grid.flat[len(panels):]:
        axes.set_axis_off()
    for axes, (name, panel) in zip(grid.flat, panels.items()):
        named = f"{name}: {panel['y']}" if len(panels) > 1 else panel["y"]
        named = textwrap.fill(named, WIDE - len(panel["labels"]))
        plot.dress(axes, panel["x"], named, panel["labels"], log_x=panel["log_x"])
        ends = []
        for number, line in enumerate(panel["lines"]):
            colour = plot.HUES[number % len(plot.HUES)]
            if line["dots"]:
                bars = [[y - low for y, low in zip(line["y"], line["low"])],
                        [high - y for y, high in zip(line["y"], line["high"])]] if line["low"] else None
                axes.errorbar(line["x"], line["y"], bars, color=colour, linewidth=1.2, elinewidth=1)
                _mark(axes, line, colour)
            else:
                axes.plot(line["x"], line["y"], color=colour, linewidth=1.2, linestyle="--")
            ends.append((_at_the_right(line), line["name"], colour))
        measured = [y for line in panel["lines"] if line["dots"] for y in line["y"] if y is not None]
        plot.finish(axes, ends, log_y=panel["log_y"] or 0 < WIDEST * min(measured) < max(measured))
    return figure


def _at_the_right(line: Mapping) -> float:
    """y where a line is furthest to the right, which need not be its last point."""
    return max(zip(line["x"], line["y"], strict=True), key=lambda point: point[0])[1]


def _mark(axes: Axes, line: Mapping, colour: str) -> None:
    """A dot at each point of a line, and an open triangle that points up or down where y is a bound."""
    bounds = line.get("bounds") or [""] * len(line["x"])
    for x, y, bound in zip(line["x"], line["y"], bounds):
        axes.plot([x], [y], color=colour, marker=MARKERS[bound], markersize=6 if bound else 4,
                  markerfacecolor="white" if bound else colour)


@plot.styled
def draw_numbers(found: Mapping) -> Figure:
    """Each number that a rule is about, with its interval, of all parts below each other, and the region where the claim
    holds."""
    shown = {rule: {name: part["estimates"][rule] for name, part in found["parts"].items() if rule in part["estimates"]}
             for rule in found["rules"]}
    shown = {rule: parts for rule, parts in shown.items() if parts}
    titles = [textwrap.fill(words.sentence(found["rules"][rule]["quantity"]), LONG) for rule in shown]
    heights = [0.62 + 0.2 * title.count("\n") + 0.22 * len(parts) for title, parts in zip(titles, shown.values())]
    figure, grid = plot.panels(len(shown), width=7.5, height=sum(heights) / len(shown))
    for axes, title, (rule, parts) in zip(grid[:, 0], titles, shown.items()):
        plot.dress(axes, "", "", log_x=False, grid=False)
        axes.set_title(title, loc="left", color=plot.COLOURS.muted, fontsize=10, pad=5)
        _draw_rule(axes, found["rules"][rule], parts)
    grid[0, 0].get_gridspec().set_height_ratios(heights)
    return figure


def _draw_rule(axes: Axes, rule: Mapping, parts: Mapping[str, Mapping]) -> None:
    """The estimates of one rule, one below the other, on an axis that shows the bounds of its region."""
    bounds = [rule[end] for end in ("low", "high") if rule[end] is not None]
    ends = [estimate[key] for estimate in parts.values() for key in ("value", "low", "high")]
    ends = [end for end in ends if end is not None] + bounds
    logs = min(ends) > 0 and max(ends) > NARROW * min(ends)
    if logs:
        axes.set_xscale("log")
    low, high = (math.log(end) if logs else end for end in (min(ends), max(ends)))
    space = MARGIN * (high - low) or MARGIN * abs(high) or 1.0
    left, right = (math.exp(end) if logs else end for end in (low - space, high + space))
    axes.set_xlim(left, right)
    axes.set_ylim(len(parts) - 0.5, -0.5)
    axes.axvspan(left if rule["low"] is None else rule["low"], right if rule["high"] is None else rule["high"],
                 color=plot.HUES[2], **plot.BAND)
    for place, estimate in enumerate(parts.values()):
        reach = [edge if estimate[end] is None else estimate[end] for end, edge in (("low", left), ("high", right))]
        colour = plot.COLOURS.muted if estimate["value"] is None else plot.HUES[0]
        axes.plot(reach, [place, place], color=colour, linewidth=1.6,
                  linestyle=":" if estimate["low"] is None and estimate["high"] is None else "-")
        if estimate["value"] is not None:
            axes.plot([estimate["value"]], [place], color=colour, marker="o", markersize=5)
    axes.set_yticks(range(len(parts)), list(parts))
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)) if logs else MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(plot.Amounts())
