"""Figures of one fit: points and curves, and residuals."""
from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.figures import words
from scaling.figures.plot import (
    BAND,
    COLOURS,
    DOT,
    HUES,
    SHAPES,
    axis_name,
    dress,
    finish,
    group_levels,
    note,
    panels,
    ramp,
    styled,
)
from scaling.laws.intervals.resample import untransformed

FAR = 8.0     # a residual beyond this many noise standard deviations is drawn at the edge of its panel


@styled
def draw_fit(fit, boot=None, level: float = 0.9) -> Figure:
    """Observed points and the law's curves, with a panel for each input and a colour for each level of another.

    The band is the law's own interval at `level`, from the bootstrap, without the noise of one run. Where the
    other inputs have too many levels to draw, each point is moved along the fitted law to the level of its
    colour. This keeps its residual, and the figure says so.
    """
    form, logs = fit.form, fit.logs
    figure, axes = panels(1, len(form.inputs))
    moved = False
    for i, panel in enumerate(axes[0]):
        dress(panel, axis_name(fit.runs.columns, form.inputs[i]), fit.runs.columns["y"],
              form.inputs[(i + 1) % len(logs)] if len(logs) > 1 else "")
        moved |= _curves(panel, fit, boot, level, i)
    said = [f"{level:.0%} band of the law from {len(boot.draws)} refits" if boot is not None else "",
            "points are moved along the fit to the levels drawn, keeping their residuals" if moved else ""]
    note(figure, "; ".join(filter(None, said)))
    return figure


def _curves(axes: Axes, fit, boot, level: float, along: int) -> bool:
    """One panel of `draw_fit`. True if points had to be moved to the levels that are drawn."""
    form, logs = fit.form, fit.logs
    grid = np.linspace(logs[along].min(), logs[along].max(), 80)
    other = (along + 1) % len(logs)
    centres, nearest = group_levels(logs[other]) if other != along else (np.zeros(1), np.zeros(len(fit.y), int))
    colours = ramp(form.inputs[other], len(centres)) if other != along else [COLOURS.ink]
    there, ends = np.array(logs, copy=True), []
    for j in set(range(len(logs))) - {along}:
        there[j] = centres[nearest] if j == other else logs[j].mean()
    shown = untransformed(fit.spec, fit.spec.transform(form.predict(fit.vector[None], there)[0]) + fit.residuals)
    for k, colour in enumerate(colours):
        mine = nearest == k
        axes.plot(np.exp(logs[along][mine]), shown[mine], color=colour, **DOT)
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
    moved = np.abs(fit.spec.residuals(shown, fit.y)).max()
    return bool(moved > max(0.1 * fit.noise, 1e-4 * np.abs(fit.y).max()))


@styled
def draw_fit_residuals(fit, by: str | None = None) -> Figure:
    """Residuals against every input and against the prediction.

    by: a column whose seven most frequent values have colours of their own; the rest are grey. Dashes lie one
    noise standard deviation from zero. The line joins medians of equal shares of the points and should stay
    between the dashes. Points beyond 8 standard deviations are triangles at the edge.
    """
    size, noise = fit.residuals, fit.noise
    places = [(axis_name(fit.runs.columns, name), np.exp(fit.logs[i])) for i, name in enumerate(fit.form.inputs)]
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
            panel.yaxis.set_major_formatter(words.signed_percent)
    if len(groups) > 1:
        axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9,
                           labelcolor=COLOURS.muted, title=by, title_fontsize=9)
    return figure


def _residual_name(fit) -> str:
    what = {"log": "log(observed / predicted)", "linear": "observed − predicted"}
    return what.get(fit.spec.space, f"residual, {fit.spec.space}")


def _groups(fit, by: str | None) -> list[tuple]:
    """(name, mask, colour, shape) of each group of points, the most frequent first."""
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
        middles = [np.exp(np.log(x[part]).mean()) for part in parts]
        axes.plot(middles, [np.median(size[part]) for part in parts], color=COLOURS.accent, linewidth=1.5,
                  zorder=5)
