"""Figures over compute: slices of equal compute with their minima, and the compute-optimal frontier."""
from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.figures import words
from scaling.figures.plot import BAND, COLOURS, DOT, axis_name, dress, finish, note, panels, ramp, styled

MOST = 9  # labels of slices beside one panel at most
SYMBOLS = {"params": "N", "data": "D", "loss": "loss"}


@styled
def draw_isoflop(found) -> Figure:
    """Slices of equal compute (an `IsoFlop`), and the lines through their minima.

    Left: the slices with their curves and minima. A diamond is a minimum that counts, a cross one that the lines
    leave out. Then N* and D* against compute, with their intervals, the fitted line and its band.
    """
    figure, axes = panels(1, 3, width=4.4)
    table = found.table
    curved = [row for row, flags in enumerate(table["flags"]) if "few" not in flags.split("; ")]
    colours = dict(zip(curved, ramp("C", len(curved))))
    panel, ends = dress(axes[0, 0], axis_name(found.runs.columns, "N"), found.runs.columns["y"], "FLOPs"), []
    for row, part in enumerate(found.slices):
        if row not in colours:
            panel.plot(np.exp(part.logs["N"]), part.loss, **DOT | {"color": COLOURS.grid, "zorder": 2})
            continue
        panel.plot(np.exp(part.logs["N"]), part.loss, color=colours[row], **DOT)
        panel.plot(*found.curve(row), color=colours[row], linewidth=1.2, zorder=3)
        here = table.iloc[row]
        if _within_slice(part, here, "params"):
            panel.plot(here["params"], here["loss"], **_mark(here["used"]))
        ends.append((part.loss[np.argmax(part.logs["N"])], words.compact_power(part.flops), colours[row]))
    finish(panel, ends[::-(-len(ends) // MOST)])
    for axis, role, slope in zip(axes[0, 1:], ("params", "data"), ("a", "b")):
        low, high = found.interval(slope)
        title = f"{SYMBOLS[role]}* ~ C^{slope}, {slope} = {words.number(getattr(found, slope), 3)}"
        dress(axis, "FLOPs", f"{title} [{words.number(low, 3)}, {words.number(high, 3)}]")
        ends = table["flops"].min(), table["flops"].max()
        grid = np.geomspace(ends[0] / 1.5, ends[1] * 1.5, 40)
        line = found.predict(grid)
        axis.plot(grid, line[role], color=COLOURS.accent, linewidth=1.4, zorder=3)
        axis.fill_between(grid, line[f"{role}_low"], line[f"{role}_high"], color=COLOURS.accent, **BAND)
        for row, colour in colours.items():
            here = table.iloc[row]
            if not _within_slice(found.slices[row], here, role):
                continue
            error = [[here[role] - min(here[f"{role}_low"], here[role])],
                     [max(here[f"{role}_high"], here[role]) - here[role]]]
            axis.errorbar(here["flops"], here[role], yerr=error, color=colour, elinewidth=1.1, zorder=4)
            axis.plot(here["flops"], here[role], **_mark(here["used"]))
        finish(axis)
    note(figure, "; ".join([f"{found.method}; {found.level:.0%} intervals", *_left_out(table, curved)]))
    return figure


def _within_slice(part, here, role: str) -> bool:
    """Whether the minimum is drawn: if the lines use it, or if it lies among the runs of its slice. One far
    beyond the runs would stretch the axes."""
    logs = part.logs[SYMBOLS[role]]
    return bool(here["used"]) or logs.min() <= np.log(here[role]) <= logs.max()


def _left_out(table, curved: list[int]) -> list[str]:
    """Why slices are left out of the lines; slices without a curve are only counted."""
    said = [f"{words.compact_power(here['flops'])} left out: {here['flags']}" for _, here in table.iloc[curved].iterrows()
            if not here["used"]]
    if few := len(table) - len(curved):
        said.append(f"pale: {words.plural(few, 'slice')} of too few sizes for a curve")
    return said


def _mark(used: bool) -> dict:
    """A diamond for a minimum that counts, a cross for one that does not."""
    look = {"linestyle": "none", "zorder": 6, "color": COLOURS.accent}
    if used:
        return look | {"marker": "D", "markersize": 5, "markeredgewidth": 0.6,
                       "markeredgecolor": COLOURS.paper}
    return look | {"marker": "x", "markersize": 6.5, "markeredgewidth": 1.6}


@styled
def draw_frontier(table, fit=None) -> Figure:
    """N*, D* and the loss at the compute-optimal allocation, against FLOPs.

    table: the result of `laws.frontier`; more budgets make smoother lines. The band is the interval, where there
    was a bootstrap. Dotted lines about N* are the sizes that cost at most 0.1% of the loss. With the fit, its
    runs are dots, and the lines right of them are extrapolated.
    """
    figure, axes = panels(1, 3, width=4.3)
    table = table.sort_values("flops")
    x = table["flops"].to_numpy()
    for axis, role in zip(axes[0], ("params", "data", "loss")):
        label = f"{SYMBOLS[role]}*" if role != "loss" else "loss at the optimum"
        dress(axis, "FLOPs", label)
        if role == "params":
            _within(axis, x, table[["params_within_low", "params_within_high"]].to_numpy(float).T)
        if f"{role}_low" in table:
            _filled(axis, x, table[f"{role}_low"], table[f"{role}_high"], COLOURS.accent, BAND)
        axis.plot(x, table[role], "o-" if len(x) < 8 else "-", color=COLOURS.accent, linewidth=1.5,
                  markersize=4, zorder=4)
        if fit is not None and (role == "loss" or SYMBOLS[role] in fit.runs.columns):
            values = fit.y if role == "loss" else fit.runs.values(SYMBOLS[role])
            axis.plot(fit.runs.flops, values, **DOT | {"color": COLOURS.muted, "markersize": 3, "zorder": 3})
        finish(axis)
    said = ["band: interval of the law's own optimum"] if "params_low" in table else []
    said.append("dotted: sizes within 0.1% of the lowest loss")
    if fit is not None:
        said.append("dots: the fitted runs")
    note(figure, "; ".join(said))
    return figure


def _within(axes: Axes, x: np.ndarray, ends: np.ndarray) -> None:
    for end in ends:
        if len(x) == 1:
            axes.plot(x, end, "_", color=COLOURS.ink, markersize=14, zorder=4)
        else:
            axes.plot(x, end, linestyle=(0, (1, 1.6)), color=COLOURS.ink, linewidth=1.1, zorder=4)


def _filled(axes: Axes, x, low, high, colour: str, look) -> None:
    """A band; at a single x, a bar."""
    if len(x) == 1:
        x, low, high = np.array([x[0] / 1.1, x[0] * 1.1]), np.repeat(low, 2), np.repeat(high, 2)
    axes.fill_between(x, np.asarray(low, float), np.asarray(high, float), color=colour, **look)
