"""Figures of predictions: held-out runs, a forecast on record, and the runs to buy next."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scaling.figures import words
from scaling.figures.plot import COLOURS, DOT, HUES, SHAPES, axis_name, dress, finish, note, panels, styled
from scaling.laws.forecasts.forecast import read


@styled
def draw_holdout(found) -> Figure:
    """Held-out runs (a `Holdout`), with a row of panels for each cut and a colour and shape for each law.

    Left: predicted against observed; right predictions lie on the line. Right: the relative error against the
    values that the cut is of. Bars are prediction intervals, which cover a run where they meet the line.
    """
    cuts = sorted(found.points["cut"].unique())
    names = list(dict.fromkeys(found.points["law"]))
    metric = next(iter(found.fits.values())).runs.columns["y"]
    figure, axes = panels(len(cuts), 2, width=4.9)
    for row, cut in zip(axes, cuts):
        here = found.points[found.points["cut"] == cut]
        dress(row[0], f"observed {metric}", f"predicted, from runs below {words.amount(cut)} {_unit(found.by)}",
              log_x=False)
        dress(row[1], _unit(found.by), "predicted / observed − 1")
        span = np.array([here["observed"].min(), here["observed"].max()])
        row[0].plot(span, span, color=COLOURS.ink, linewidth=0.9, zorder=2)
        row[1].axhline(0, color=COLOURS.ink, linewidth=0.9, zorder=2)
        for i, (name, hue, shape) in enumerate(zip(names, HUES, SHAPES)):
            mine = here[here["law"] == name]
            bars = np.abs(mine[["low", "high"]].to_numpy() - mine[["predicted"]].to_numpy()).T
            off = mine["predicted"] / mine["observed"] - 1
            aside = mine["at"] * 1.04 ** (i - (len(names) - 1) / 2)   # keeps bars from hiding one another
            for axis, x, y, bar in ((row[0], mine["observed"], mine["predicted"], bars),
                                    (row[1], aside, off, bars / mine["observed"].to_numpy())):
                axis.errorbar(x, y, yerr=None if np.isnan(bar).all() else bar, fmt="none", ecolor=hue,
                              elinewidth=0.8, alpha=0.5, zorder=3)
                axis.plot(x, y, **DOT | {"marker": shape, "color": hue}, label=_score(found, name, cut))
        for axis in row:
            axis.yaxis.set_major_locator(MaxNLocator(6))
        finish(row[1], log_y=False)
        row[1].yaxis.set_major_formatter(words.signed_percent)
        row[1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), frameon=False, fontsize=9,
                      labelcolor=COLOURS.muted)
    note(figure, f"{found.level:.0%} prediction intervals of one run" if "coverage" in found.table else "")
    return figure


def _unit(by: str) -> str:
    return "FLOPs" if by == "flops" else by


def _score(found, law: str, cut: float) -> str:
    row = found.table[(found.table["law"] == law) & (found.table["cut"] == cut)].iloc[0]
    covered = f"\ncoverage {row['coverage']:.0%}" if "coverage" in row else ""
    return f"{law}\nerror {words.percent(row['mape'])}, bias {words.percent(row['bias'])}{covered}"


@styled
def draw_forecast(content, check: Mapping | None = None, fit=None) -> Figure:
    """A forecast, and the observation if `check` (the result of `forecast.check`) has it.

    content: the result of `forecast.write` or `forecast.read`, or the path of a forecast. The bar is the
    prediction interval; its thick part is the interval of the law alone. With the fit, a second panel shows its
    runs against compute.
    """
    if not isinstance(content, Mapping):
        content = read(content)
    if fit is None:
        figure, axes = panels(1, 1, width=6.2, height=1.9)
        bars = axes[0, 0]
    else:
        figure, axes = panels(1, 2, width=4.8)
        bars = axes[0, 1]
        _extrapolation(axes[0, 0], content, check, fit)
    dress(bars, content["metric"], "", log_x=False, grid=False)
    low, high = map(words.number, content["interval"])
    rows = [("forecast", content["predicted"], f"{content['level']:.0%} [{low}, {high}]")]
    bars.plot(content["interval"], [0, 0], color=COLOURS.accent, linewidth=2, solid_capstyle="butt", zorder=3)
    bars.plot(content["confidence"], [0, 0], color=COLOURS.accent, linewidth=7, alpha=0.35,
              solid_capstyle="butt")
    bars.plot(content["predicted"], 0, "D", color=COLOURS.accent, markerfacecolor=COLOURS.paper, markersize=7,
              zorder=5)
    if check:
        held = "inside" if check["inside"] else "outside"
        off = words.percent(check["relative_error"])
        rows.append(("observed", check["observed"], f"{held}, off by {off}"))
        bars.plot(check["observed"], 1, "o", color=COLOURS.ink, markersize=7)
        bars.axvline(check["observed"], color=COLOURS.ink, linewidth=0.8, zorder=1)
    for y, (_, value, text) in enumerate(rows):
        bars.annotate(f"{words.number(value)}  {text}", (0, y), xycoords=("axes fraction", "data"),
                      xytext=(4, -16), textcoords="offset points", fontsize=9.5, color=COLOURS.muted)
    bars.set_yticks(range(len(rows)), [name for name, *_ in rows])
    bars.set_ylim(len(rows) - 0.2, -0.6)
    bars.margins(x=0.12)
    bars.xaxis.set_major_locator(MaxNLocator(5))
    at = ", ".join(f"{name} = {words.amount(value)}" for name, value in content["target"].items()
                   if isinstance(value, (int, float)) and value > 0)
    note(figure, f"{at}; written {content['time'][:10]}")
    return figure


def _extrapolation(axes, content: Mapping, check: Mapping | None, fit) -> None:
    """The runs and the forecast against compute."""
    runs = fit.runs
    dress(axes, "FLOPs", content["metric"])
    axes.plot(runs.flops, fit.y, **DOT | {"color": HUES[0]})
    target = content["target"]
    at = target.get(runs.columns.get("C", "flops"))
    if at is None:
        at = 6 * np.prod([target[runs.columns.get(role, role)] for role in ("N", "D")])
    error = np.abs(np.reshape(content["interval"], (2, 1)) - content["predicted"])
    axes.errorbar([at], [content["predicted"]], yerr=error, fmt="D", color=COLOURS.accent, capsize=4,
                  markersize=6, markerfacecolor=COLOURS.paper, zorder=6)
    if check:
        axes.plot([at], [check["observed"]], "o", color=COLOURS.ink, markersize=5, zorder=7)
    finish(axes)


@styled
def draw_suggestion(found) -> Figure:
    """The runs there are (grey) and the runs to buy (a `Suggestion`), over the law's first one or two inputs.

    The area of a run to buy grows with its gain. Where the inputs are N and D, dashed lines join equal FLOPs,
    6 N D.
    """
    form, runs, chosen = found.fit.form, found.fit.runs, found.runs
    across, down = form.inputs[0], form.inputs[1] if len(form.inputs) > 1 else None
    figure, axes = panels(1, 1, width=6.0, height=4.4)
    panel = dress(axes[0, 0], axis_name(runs.columns, across),
                  axis_name(runs.columns, down) if down else "share of what is gained")
    panel.set_yscale("log" if down else "linear")
    bought = "batch" in chosen   # then they are the last of the fit's runs
    logs = np.exp(found.fit.logs)[:, :len(runs) - (len(chosen) if bought else 0)]
    share = (chosen["gain"] / chosen["gain"].max()).to_numpy()
    if down:
        panel.plot(logs[0], logs[1], **DOT | {"color": COLOURS.muted})
        panel.scatter(chosen[across], chosen[down], s=30 + 170 * share, color=COLOURS.accent, alpha=0.55,
                      linewidth=0, zorder=5)
        panel.plot(chosen[across], chosen[down], "+", color=COLOURS.accent, markersize=6, zorder=6)
    else:
        panel.plot(logs[0], np.zeros(logs.shape[1]), **DOT | {"color": COLOURS.muted})
        panel.vlines(chosen[across], 0, share, color=COLOURS.accent, linewidth=2)
    finish(panel, log_y=False)
    if {across, down} == {"N", "D"}:
        _budgets(panel)
    style = ".2%" if found.relative else ".3g"
    note(figure, f"{found.target}: standard error {found.se_now:{style}} now, {found.se_after:{style}} "
         f"expected after {len(chosen)} runs of {words.compact_power(found.cost)} FLOPs")
    return figure


def _budgets(axes) -> None:
    """Dashed lines of equal 6 N D, about eight at most, with their FLOPs where they enter the panel."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    first, last = np.ceil(np.log10(6 * left * bottom)), np.floor(np.log10(6 * right * top))
    for compute in 10.0 ** np.arange(first, last + 1, max(1, (last - first) // 8)):
        x = np.array([left, right])
        axes.plot(x, compute / (6 * x), color=COLOURS.muted, alpha=0.45, linewidth=0.8, dashes=(4, 3),
                  zorder=1)
        at = max(compute / (6 * top), left)
        axes.annotate(words.compact_power(compute), (at, compute / (6 * at)), xytext=(5, -3),
                      textcoords="offset points", fontsize=8, color=COLOURS.muted, va="top", zorder=7,
                      bbox={"facecolor": COLOURS.paper, "alpha": 0.8, "linewidth": 0, "pad": 0.8})
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
