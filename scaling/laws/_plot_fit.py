"""Figures of one fit: points and curves, residuals, a profile, and the parameters of a bootstrap."""
from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from scaling.laws._plot_style import (BAND, COLOURS, DOT, HUES, SHAPES, dress, finish, levels, named, note,
                                      panels, ramp, styled)
from scaling.report import words

FAR = 8.0     # noise standard deviations beyond which a residual is drawn at the edge of its panel
CLOUD = 1500  # draws shown in a scatter: more only make it a blot


@styled
def fit(fit, boot=None, level: float = 0.9) -> Figure:
    """Observed points and the law's curves, one panel for each input, one colour for each level of another.

    The band is the law's own interval at `level`, from the bootstrap; it leaves out the noise of one run. Where
    the other inputs have more levels than can be drawn, each point is moved along the fitted law to the level
    of its colour, which keeps its residual; the figure then says so.
    """
    form, logs = fit.form, fit.logs
    figure, axes = panels(1, len(form.inputs))
    moved = False
    for i, panel in enumerate(axes[0]):
        dress(panel, named(fit.runs.columns, form.inputs[i]), fit.runs.columns["y"],
              form.inputs[(i + 1) % len(logs)] if len(logs) > 1 else "")
        moved |= _curves(panel, fit, boot, level, i)
    said = [f"{level:.0%} band of the law from {len(boot.draws)} refits" if boot is not None else "",
            "points are moved along the fit to the levels drawn, keeping their residuals" if moved else ""]
    note(figure, "; ".join(filter(None, said)))
    return figure


def _curves(axes: Axes, fit, boot, level: float, along: int) -> bool:
    """One panel of `fit`; true when points had to be moved to lie at the levels drawn."""
    form, logs = fit.form, fit.logs
    grid = np.linspace(logs[along].min(), logs[along].max(), 80)
    other = (along + 1) % len(logs)
    centres, nearest = levels(logs[other]) if other != along else (np.zeros(1), np.zeros(len(fit.y), int))
    colours = ramp(form.inputs[other], len(centres)) if other != along else [COLOURS.ink]
    there, ends = np.array(logs, copy=True), []
    for j in set(range(len(logs))) - {along}:
        there[j] = centres[nearest] if j == other else logs[j].mean()
    shift = form.predict(fit.vector[None], there)[0] / form.predict(fit.vector[None], logs)[0]
    for k, colour in enumerate(colours):
        mine = nearest == k
        axes.plot(np.exp(logs[along][mine]), (fit.y * shift)[mine], color=colour, **DOT)
        line = np.repeat(there[:, mine][:, :1], len(grid), axis=1)
        line[along] = grid
        inputs = dict(zip(form.inputs, np.exp(line)))
        curve = fit.predict(**inputs)
        axes.plot(np.exp(grid), curve, color=colour, linewidth=1.3, zorder=3)
        if boot is not None:
            low, high = boot.predict(**inputs, level=level, noise=False)
            axes.fill_between(np.exp(grid), low, high, color=colour, **BAND)
        if other != along:
            ends.append((curve[-1], words.count(np.exp(centres[k])), colour))
    finish(axes, ends)
    return bool(np.abs(np.log(shift)).max() > max(0.1 * fit.noise, 1e-4))


@styled
def residuals(fit, by: str | None = None) -> Figure:
    """Residuals against every input and against the prediction; by: a column whose values get colours of their
    own (the seven most frequent; the rest are grey). Dashed: one noise standard deviation either side. The line
    joins medians of equal shares of the points: it should stay between the dashes. Points farther off than 8
    are drawn as triangles at the edge.
    """
    size, noise = fit.residuals, fit.noise
    places = [(named(fit.runs.columns, name), np.exp(fit.logs[i])) for i, name in enumerate(fit.form.inputs)]
    places.append((f"predicted {fit.runs.columns['y']}", fit.predicted))
    figure, axes = panels(1, len(places), width=4.0)
    groups = _groups(fit, by)
    edge = 1.15 * max(min(np.abs(size).max(), FAR * noise), 1e-12)
    for panel, (label, x) in zip(axes[0], places):
        dress(panel, label, _residual_name(fit) if panel is axes[0, 0] else "")
        for text, mine, hue, shape in groups:
            inside = mine & (np.abs(size) < edge)
            panel.plot(x[inside], size[inside], **DOT | {"marker": shape, "color": hue}, label=text)
            for sign, arrow in ((1, "^"), (-1, "v")):
                out = mine & (sign * size >= edge)
                panel.plot(x[out], np.full(out.sum(), sign * 0.96 * edge), arrow, color=hue, markersize=6,
                           markerfacecolor=COLOURS.paper, zorder=5)
        panel.axhline(0, color=COLOURS.ink, linewidth=0.9, zorder=2)
        for sign in (-1, 1):
            panel.axhline(sign * noise, color=COLOURS.muted, linewidth=0.9, dashes=(4, 2.5), zorder=2)
        _medians(panel, x, size)
        finish(panel, log_y=False)
        panel.set_ylim(-edge, edge)
        if fit.spec.space != "linear":
            panel.yaxis.set_major_formatter(lambda value, _: f"{100 * value:+.3g}%".replace("-", "−") if value else "0")
    if len(groups) > 1:
        axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9,
                           labelcolor=COLOURS.muted, title=by, title_fontsize=9)
    return figure


def _residual_name(fit) -> str:
    what = {"log": "log(observed / predicted)", "linear": "observed − predicted"}
    return what.get(fit.spec.space, f"residual, {fit.spec.space}")


def _groups(fit, by: str | None) -> list[tuple]:
    """(name, mask, colour, shape) of each group of points, most frequent first."""
    if by is None:
        return [("", np.ones(len(fit.y), bool), HUES[0], SHAPES[0])]
    label = fit.runs.frame[by].astype(str).to_numpy()
    order = list(pd.Series(label).value_counts().index)
    shown = order[:len(HUES)]
    groups = [(name, label == name, hue, shape) for name, hue, shape in zip(shown, HUES, SHAPES)]
    rest = ~np.isin(label, shown)
    if rest.any():
        groups.append((f"{len(order) - len(shown)} others", rest, COLOURS.muted, "."))
    return groups


def _medians(axes: Axes, x: np.ndarray, size: np.ndarray, least: int = 8) -> None:
    shares = min(len(x) // least, 10)
    if shares >= 3:
        parts = np.array_split(np.argsort(x, kind="stable"), shares)
        axes.plot([np.exp(np.log(x[part]).mean()) for part in parts], [np.median(size[part]) for part in parts],
                  color=COLOURS.accent, linewidth=1.5, zorder=5)


@styled
def bootstrap(boot, level: float = 0.9, names=None) -> Figure:
    """Every fitted parameter's draws (diagonal: bars; bold, the estimate; shaded, the interval at `level`) and
    every pair of them. Axes of positive parameters whose draws span more than a factor of six are logarithmic.
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
    """Two to four numbers on a small panel's axis."""
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
