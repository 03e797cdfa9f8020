"""The page of two recipes: the verdict on a change, its speed-up at each rung and at a target, and the rule."""

from __future__ import annotations

import numpy as np
import pandas as pd
from etils import epath

from scaling import laws
from scaling.figures.palette import Palette
from scaling.figures.words import interval, missing, number, percent, power, sentence, to_error
from scaling.laws.recipes.verdict import RULES, WithEnds
from scaling.report import page, plots
from scaling.report.plots import PlannedFigure
from scaling.results import metrics


def write_speedup(found: laws.Speedup, directory, title: str | None = None) -> epath.Path:
    """Writes index.html (atomically) and figures/*.png of a `laws.Speedup` into `directory`; returns the page's path."""
    palette = Palette((), ())
    drawn = plots.draw_all(speedup_figures(found), palette)
    return page.write_page(directory, speedup_html(found, palette, drawn, title), drawn)


def speedup_figures(found: laws.Speedup) -> dict[str, PlannedFigure]:
    """{name: figure} of the page, for `plots.draw_all`."""
    base, change = found.names
    label = metrics.find_metric(found.metric).label if found.metric else ""
    about = f"Bars and the band are {percent(found.level)} intervals. " if len(found.draws) > 1 else ""
    return {
        "speedup": PlannedFigure(
            lambda: laws.plots.speedup(found), f"effective speed-up of {change} over {base} against compute",
            f"The compute that {base} needs for the loss of {change}, over that of {change}. {about}The line is fitted to "
            "the logarithms, and extrapolated to the target, the open diamond. At 1 the change saves nothing."),
        "recipes": PlannedFigure(
            lambda: laws.plots.recipes(found, label), f"{label} of {base} and {change} against compute",
            f"Means over seeds of both recipes. The dashed line is the law of {base}, fitted to its runs, the small dots; "
            "it turns a difference of loss into one of compute.")}


def speedup_html(found: laws.Speedup, palette: Palette, drawn: dict[str, dict], title: str | None = None) -> str:
    """The page, with figures as `plots.draw_all` returns them."""
    base, change = found.names
    measure = metrics.find_metric(found.metric)
    return page.render_page(
        "speedup.html.j2", palette, drawn, ("tokens or examples", measure.noun),
        title=title or f"{sentence(change)} against {base}: {found.verdict}", found=found, facts=facts(found),
        rungs=rung_table(found), said=[sentence(text) for text in (*found.said, *found.notes)],
        level=percent(found.level), rules=RULES)


def facts(found: laws.Speedup) -> list[tuple[str, str, str]]:
    """(name, value, note) of the numbers that the verdict rests on."""
    test = found.misfit.p
    return [("verdict", found.verdict, ""),
            (f"speed-up at {power(found.flops[-1])} FLOPs", *_factor(found.rung(-1))),
            (f"speed-up at {power(found.target)} FLOPs", *_factor(found.at(found.target))),
            ("multiplied, per tenfold of compute, by", *_factor(found.slope)),
            ("lack of fit of the line", "not tested" if missing(test) else f"p = {number(test, 2)}",
             "nothing tells noise from it" if missing(test) else "refused" if found.misfit.refused else "not refused")]


def rung_table(found: laws.Speedup) -> dict:
    """The rungs, for the macro `table`."""
    losses = "base" in found.table
    rows = []
    for place, row in found.table.iterrows():
        cells = list(_factor(found.rung(int(place))))
        if losses:
            runs = f"{row['pairs']:.0f} pairs" if row["pairs"] else f"{row['base_runs']:.0f} and {row['change_runs']:.0f}"
            cells = [number(row["base"]) if pd.notna(row["base"]) else "–", number(row["change"]), runs, *cells]
        rows.append((power(row["flops"]), cells))
    columns = [*([*found.names, "runs"] if losses else []), "speed-up", f"{percent(found.level)} interval"]
    return {"columns": columns, "rows": rows}


def _factor(found: WithEnds) -> tuple[str, str]:
    """(a factor, its interval) of an estimate in logarithms."""
    value, low, high = map(float, np.exp([found.value, found.low, found.high]))
    if missing(low):
        return number(value, 3), "no interval is known"
    return to_error(value, (high - low) / 2), interval(low, high)
