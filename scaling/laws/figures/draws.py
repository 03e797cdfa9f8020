"""Figures of uncertainty: draws of the parameters, and profiles of the objective."""
from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from scaling.figures import words
from scaling.figures.plot import COLOURS, HUES, dress, note, panels, styled

CLOUD = 1500  # draws shown in a scatter at most: more would make a blot


@styled
def draw_bootstrap(boot, level: float = 0.9, names=None) -> Figure:
    """The draws of every fitted parameter, or of `names`, and of every pair of them.

    On the diagonal are histograms, with the estimate in bold and the interval at `level` shaded. The axis of a
    positive parameter is logarithmic if its draws span more than a factor of six.
    """
    fit = boot.fit
    names = [name for name in (names or fit.form.free) if boot.draws[name].nunique() > 1]
    figure, axes = panels(len(names), len(names), width=1.9, height=1.7)
    scales, limits = {}, {}
    for name in names:
        low, high = np.quantile(boot.draws[name], (0.004, 0.996))
        scales[name] = "log" if low > 0 and high / low > 6 else "linear"
        values = np.array([low, high, fit.params[name]])
        ends = np.log(values[values > 0]) if scales[name] == "log" else values
        span = np.array([ends.min(), ends.max()]) + 0.06 * np.ptp(ends) * np.array([-1, 1])
        limits[name] = np.exp(span) if scales[name] == "log" else span
    thin = boot.draws.iloc[::max(1, len(boot.draws) // CLOUD)]
    for row, down in enumerate(names):
        for column, across in enumerate(names):
            panel = axes[row, column]
            if column > row:
                panel.remove()
                continue
            _plain(panel, across if row == len(names) - 1 else "", scales[across], limits[across])
            if row == column:
                _marginal(panel, boot, down, scales[down], limits[down], level)
                continue
            panel.set_yscale(scales[down])
            panel.set_ylim(limits[down])
            panel.plot(thin[across], thin[down], ".", color=HUES[0], markersize=3.2, alpha=0.4,
                       markeredgewidth=0)
            panel.plot(fit.params[across], fit.params[down], "o", color=COLOURS.accent, markersize=4.5)
            _few_ticks(panel.yaxis, scales[down], limits[down])
            panel.tick_params(labelleft=column == 0)
            if column == 0:
                panel.set_ylabel(down, color=COLOURS.muted)
        if row < len(names) - 1:
            for panel in axes[row, :row + 1]:
                panel.tick_params(labelbottom=False)
    note(figure, f"{len(boot.draws)} refits, {boot.method} bootstrap; shaded: {level:.0%} interval")
    return figure


def _plain(axes: Axes, label: str, scale: str, limits) -> None:
    dress(axes, label, "", log_x=scale == "log", grid=False)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(COLOURS.grid)
    axes.set_xlim(limits)
    _few_ticks(axes.xaxis, scale, limits)
    axes.tick_params(labelsize=8.5)


def _few_ticks(axis, scale: str, limits) -> None:
    """Two to four numbers on the axis of a small panel."""
    if scale == "log":
        wide = limits[1] / limits[0] > 30
        axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 3.0), numticks=5))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(lambda value, _: words.count(value))
    else:
        axis.set_major_locator(MaxNLocator(3, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(lambda value, _: words.short(value))


def _marginal(axes: Axes, boot, name: str, scale: str, limits, level: float) -> None:
    edges = (np.geomspace if scale == "log" else np.linspace)(*limits, 33)
    axes.hist(boot.draws[name], bins=edges, color=HUES[0], alpha=0.75, linewidth=0)
    axes.axvspan(*np.clip(boot.interval(name, level), *limits), color=COLOURS.accent, alpha=0.13, linewidth=0)
    axes.axvline(boot.fit.params[name], color=COLOURS.accent, linewidth=1.6)
    axes.set_yticks([])
    axes.set_title(f"{name} = {words.number(boot.fit.params[name], 3)}", fontsize=9.5, color=COLOURS.ink,
                   loc="center")


@styled
def draw_groups(fits, boots, level: float = 0.9) -> Figure:
    """The parameters of one law fitted to several groups of runs: one panel a parameter, one line a group.

    fits {group: Fit}; boots {group: its Bootstrap or None}. A bar is the interval at `level`.
    """
    groups = list(fits)
    names = list(dict.fromkeys(name for fit in fits.values() for name in fit.form.free))
    figure, axes = panels(1, len(names), width=2.6, height=0.7 + 0.26 * len(groups))
    for place, (panel, name) in enumerate(zip(axes[0], names)):
        values = [fits[group].params[name] for group in groups]
        bars = [boots.get(group) for group in groups]
        ends = np.array([(value, value) if boot is None or boot.withheld else boot.interval(name, level)
                         for value, boot in zip(values, bars)])
        wide = ends.min() > 0 and ends.max() > 20 * ends.min()
        dress(panel, name, "", log_x=bool(wide))
        for row, (value, (low, high)) in enumerate(zip(values, ends)):
            panel.plot([low, high], [row, row], color=COLOURS.accent, linewidth=2, solid_capstyle="butt")
            panel.plot(value, row, "o", color=COLOURS.accent, markersize=4.5)
        panel.set_ylim(len(groups) - 0.5, -0.5)
        panel.set_yticks(range(len(groups)), [words.printable(str(group)) for group in groups])
        panel.tick_params(labelleft=place == 0)
        _few_ticks(panel.xaxis, "log" if wide else "linear", panel.get_xlim())
    note(figure, f"bars: {level:.0%} intervals of each group's own fit" if any(boots.values()) else "no intervals")
    return figure


@styled
def draw_profiles(profiles) -> Figure:
    """The least objective with one parameter held at each value, for one Profile or several.

    The unit is the rise that noise explains at the profile's level, so the interval (shaded) lies below the
    dashed line at 1. The title says where the data do not identify the parameter.
    """
    profiles = [profiles] if hasattr(profiles, "parameter") else list(profiles)
    columns = min(len(profiles), 3)
    rows = -(-len(profiles) // columns)
    figure, axes = panels(rows, columns, width=3.7, height=2.9)
    for panel in axes.ravel()[len(profiles):]:
        panel.remove()
    for panel, found in zip(axes.ravel(), profiles):
        _profile(panel, found)
    note(figure, "objective above its minimum, over the rise that noise explains; shaded: "
         f"{profiles[0].level:.0%} interval")
    return figure


def _profile(axes: Axes, found) -> None:
    best, value = found.fit.objective, found.fit.params[found.parameter]
    rise = (found.objective - best) / (found.cut - best)
    low, high = (float(np.clip(end, found.values.min(), found.values.max())) for end in found.interval)
    shown = rise < 3.0
    wide = found.values[shown].min() > 0 and found.values[shown].max() / found.values[shown].min() > 8
    dress(axes, "", f"{found.parameter} = {words.number(value, 3)}"
          + ("  not identified" if found.flat else f"  [{words.number(found.interval[0], 3)}, "
             f"{words.number(found.interval[1], 3)}]"), log_x=wide)
    axes.axvspan(low, high, color=COLOURS.accent, alpha=0.12, linewidth=0)
    axes.axhline(1, color=COLOURS.muted, linewidth=0.9, dashes=(4, 2.5))
    axes.plot(found.values[shown], rise[shown], ".-", color=HUES[0], markersize=5, linewidth=1.3, zorder=3)
    axes.plot(value, 0, "o", color=COLOURS.accent, markersize=5, zorder=4)
    axes.set_ylim(min(-0.12, 1.1 * rise.min()), max(1.6, min(3.0, 1.05 * rise[shown].max())))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 5, 10]))
    axes.yaxis.set_major_formatter(lambda value, _: words.short(value))
    _few_ticks(axes.xaxis, "log" if wide else "linear", axes.get_xlim())
