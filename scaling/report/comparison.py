"""Several studies side by side: the exponents of their laws with intervals, and whether their forecasts held.

    path = report.write_comparison(["runs/quickstart", "runs/vae", "runs/gan"], "runs/families")

Metrics of different families cannot be compared, but exponents can. So can the reducible part of a metric, which is the
part above the fitted constant E, once it is divided by its value at the least compute of the family. Studies on the same
data are also shown in the same figures, by each metric that several of them have (`side_by_side`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from os import fspath
from typing import NamedTuple

import numpy as np
import pandas as pd
from etils import epath
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scaling.figures.palette import Palette
from scaling.figures.plot import canvas, finish
from scaling.figures.words import (
    NOTHING,
    compact_power,
    count,
    interval,
    number,
    percent,
    plural,
    power,
    printable,
    short,
    to_error,
)
from scaling.report import fitting, page, pictures, plots, reading, side_by_side
from scaling.report.abstract import family_name
from scaling.report.caveats import caveats
from scaling.report.plots import PlannedFigure
from scaling.results import metrics
from scaling.results.tuned import PARAMS

# Input of the law: (name of its figure, label of its axis).
EXPONENTS = {"N": ("alpha", "α, exponent of model size N"), "D": ("beta", "β, exponent of data D")}


class Member(NamedTuple):
    """One study of the comparison.

    `exponents` are {"N" or "D": (estimate, low, high)}; the ends are NaN where no interval is known.
    """
    name: str
    workdir: str
    study: reading.StudyFiles
    exponents: dict[str, tuple[float, float, float]]


def write_comparison(workdirs: Sequence, output) -> epath.Path:
    """Writes output/index.html (atomically) and output/figures/*.png; returns the path of the page.

    Raises `files.WorkdirError` for a workdir that is not a directory.
    """
    members = read_members(workdirs)
    palette = Palette(range(len(members)), ())
    drawn = {}
    for name, plan in comparison_figures(members, palette).items():
        drawn |= reading.made_or_said(members[0].study, plan.title,
                                      lambda _, one={name: plan}: plots.draw_all(one, palette), {})
    return page.write_page(output, comparison_html(members, palette, drawn), drawn)


def read_members(workdirs: Sequence) -> list[Member]:
    """The studies in `workdirs`, in that order. Studies of one family get the workdir's name beside the family's."""
    studies = [reading.read_study(workdir) for workdir in workdirs]
    names = [family_name(study) or "unknown family" for study in studies]
    paths = [epath.Path(workdir) for workdir in workdirs]
    names = [name if names.count(name) == 1 else f"{name} ({path.name})" for name, path in zip(names, paths)]
    return [Member(name, fspath(path), study, reading.made_or_said(study, "exponents", fitted_exponents, {}))
            for name, path, study in zip(names, paths, studies)]


def fitted_exponents(study: reading.StudyFiles) -> dict[str, tuple[float, float, float]]:
    """The fitted exponents of N and of D, found by the columns of the law's inputs. A law may have only one."""
    fit, found = study.fit or {}, {}
    roles = {column: role for role, column in (fit.get("columns") or {}).items() if role != "y"}
    for symbol, column in (("N", PARAMS), ("D", study.unit.seen)):
        name = {"N": "alpha", "D": "beta", "x": "alpha"}.get(roles.get(column))
        if name in (fit.get("params") or {}):
            ends = (np.nan if end is None else end for end in fitting.ends_of(fit, name))
            found[symbol] = (fit["params"][name], *ends)
    return found


def comparison_html(members: list[Member], palette: Palette, drawn: dict[str, dict]) -> str:
    """The page, with figures as `plots.draw_all` returns them."""
    rows = list(map(table_row, members))
    absent = [f"{member.name}: {member.study.missing[name]}" for member in members
              for name in ("records", "fit", "forecast") if name in member.study.missing]
    absent += [f"{member.name}: {said}" for member in members for said in member.study.broken.values()]
    return page.render_page("families.html.j2", palette, drawn, ("tokens or examples", "metric"),
                            title="Families side by side", rows=rows, others=other_rows(members),
                            shared=[name for name in drawn if name.startswith("side-")], samples=samples(members),
                            level=_level(members), absent=absent)


def table_row(member: Member) -> dict:
    """One row of the table. Its cells are (text, note under the text, "good", "bad" or "")."""
    study, runs = member.study, member.study.runs
    sweep = runs[runs["role"] == "sweep"]
    return {"family": member.name, "metric": study.measure.label, "title": printable(_title(study)),
            "workdir": member.workdir, "caveats": reading.made_or_said(study, "what limits the study", caveats, []),
            "cells": [*(_interval(member.exponents.get(symbol)) for symbol in EXPONENTS),
                      _interval(reading.made_or_said(study, "slope in compute", slope_in_compute, None)),
                      reading.made_or_said(study, "forecast", _forecast, ("damaged", "", "bad")),
                      (_range(sweep[PARAMS]), "", ""), (_range(sweep["data"]), study.unit.name, ""),
                      (power(runs["flops"].sum() or None), plural(len(runs), "run"), "")]}


def other_rows(members: list[Member]) -> list[dict]:
    """A row like those of the table for each further metric that several studies on the same data have, and that falls,
    since laws are of such metrics."""
    studies = {member.name: member.study for member in members}
    if not side_by_side.comparable(studies):
        return []
    rows = []
    for metric in side_by_side.other_metrics(studies):
        for member in members:
            if metric in member.study.beside and not metrics.find_metric(metric).rises:
                study = member.study.showing(metric)
                rows.append(table_row(member._replace(study=study, exponents=fitted_exponents(study))))
    return rows


def slope_in_compute(study: reading.StudyFiles) -> tuple[float, float, float] | None:
    """The slope of log metric in log FLOPs along the frontier of tuned runs, with its ends; None for a solved study."""
    if study.solved or study.cells.empty:
        return None
    line = side_by_side.frontier_of(study)
    return side_by_side.slope_of(line["flops"], line[study.metric])


def samples(members: list[Member]) -> list[dict]:
    """The pictures that the models of each study drew, by ascending size."""
    return [{"family": member.name, "sides": grid["sides"]} for member in members
            for grid in pictures.grids(member.study) if grid["name"] == "samples"]


def _forecast(study: reading.StudyFiles) -> tuple[str, str, str]:
    forecast, check = study.forecast, study.forecast_check
    if study.tampered:
        return "no evidence", " ".join(study.tampered), "bad"
    if not forecast:
        return NOTHING, "", ""
    at = f"at {short(forecast['compute_ratio'])}× the compute" if forecast.get("compute_ratio") else ""
    if at and (counted := forecast.get("compute_counted_as") or study.compute) != "flops":  # older versions did not say
        at += f", in {'FLOPs executed' if counted == 'flops_executed' else counted}"
    if not check:
        return "not checked", at, ""
    low, high = forecast["interval"]
    wide = f"{percent((high - low) / abs(forecast['predicted']))} wide"
    error = check["observed"] / check["predicted"] - 1
    side, verdict = ("inside", "good") if check["inside"] else ("outside", "bad")
    return (f"{'+' if error > 0 else '−'}{percent(abs(error))}, {side}",
            f"interval {wide}{f', {at}' if at else ''}", verdict)


def _title(study: reading.StudyFiles) -> str:
    return (study.study or {}).get("title") or "Scaling study"


def _interval(found) -> tuple[str, str, str]:
    if not found:
        return NOTHING, "", ""
    value, low, high = found
    if np.isnan(low) or np.isnan(high):
        return number(value, 2), "no interval is known", ""
    return to_error(value, (high - low) / 2), interval(low, high), ""


def _range(values: pd.Series) -> str:
    values = values.dropna()
    return NOTHING if values.empty else f"{count(values.min())} to {count(values.max())}"


def _level(members: list[Member]) -> str:
    """A remark on the intervals of the exponents, where all fits have intervals of the same level."""
    levels = {member.study.fit.get("level") for member in members if (member.study.fit or {}).get("intervals")} - {None}
    return f" ({percent(levels.pop())}, from the bootstrap)" if len(levels) == 1 else ""


def comparison_figures(members: list[Member], palette: Palette) -> dict[str, PlannedFigure]:
    """{name: figure} of every figure that the page may have, for `plots.draw_all`."""
    planned = {name: PlannedFigure(partial(draw_exponents, members, palette, symbol, label),
                                   f"{label}, of each family",
                                   f"The exponent of {symbol} in each fitted law. Bars are its interval{_level(members)}.")
               for symbol, (name, label) in EXPONENTS.items()}
    planned["reducible"] = PlannedFigure(
        partial(draw_reducible, members, palette), "reducible part of each metric against compute",
        "The part of each metric above the fitted constant E, divided by its value at the least compute of the family. "
        "Dashed lines are the law at the best model size for each budget. Dots are tuned runs that no cheaper run beats. "
        "Diamonds are the observed target runs of the forecasts. E is uncertain, which matters most at the right end.")
    studies = {member.name: member.study for member in members}
    shared = reading.made_or_said(members[0].study, "studies in one figure",
                                  lambda _: side_by_side.shared_figures(studies, palette), {})
    return planned | shared


def draw_exponents(members: list[Member], palette: Palette, symbol: str, label: str) -> Figure | None:
    """One exponent of each family with its interval, one row for each family."""
    rows = [(member.name, palette.size(i), member.exponents[symbol]) for i, member in enumerate(members)
            if symbol in member.exponents]
    if not rows:
        return None
    figure, axes = canvas(label, "", height=0.9 + 0.42 * len(rows), log_x=False, grid=False)
    for y, (_, colour, (value, low, high)) in enumerate(rows):
        error = None if np.isnan(low) else [[max(value - low, 0)], [max(high - value, 0)]]
        axes.errorbar([value], [y], xerr=error, fmt="o", color=colour, capsize=4, markersize=6)
        axes.annotate(_interval((value, low, high))[0], (value, y), xytext=(0, 7), textcoords="offset points", ha="center",
                      color=colour)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.7)
    axes.set_xlim(left=min(0, axes.get_xlim()[0]))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    return figure


def draw_reducible(members: list[Member], palette: Palette) -> Figure | None:
    """Metric − E against compute, both relative to their values at the least compute of the family."""
    figure, axes = canvas("compute over the least compute of the family", "reducible part, relative")
    ends = []
    for i, member in enumerate(members):
        lines = reducible_lines(member)
        if lines is None:
            continue
        colour = palette.size(i)
        axes.plot(*lines["law"], color=colour, **plots.DASHED)
        axes.plot(*lines["runs"], "o", color=colour, markeredgecolor=palette.paper, **plots.MARKER)
        axes.plot(*lines["target"], "D", color=colour, markerfacecolor=palette.paper, markersize=6, zorder=5)
        ends.append((lines["law"][1][-1], member.name, colour))
    if not ends:
        return None
    finish(axes, ends, ticks=compact_power)
    return figure


def reducible_lines(member: Member) -> dict[str, tuple] | None:
    """{"law", "runs", "target": (compute, reducible part)}, relative to the law at the least compute of the runs.

    None without a frontier above E, and for a metric that rises. Runs and targets at or below E cannot be drawn on a
    logarithmic axis and are left out.
    """
    study, cells = member.study, member.study.cells
    frontier = pd.DataFrame((study.fit or {}).get("frontier") or [], columns=["flops", "loss"]).astype(float)
    constant = ((study.fit or {}).get("params") or {}).get("E", 0.0)
    frontier = frontier[frontier["loss"] > constant].sort_values("flops")
    if frontier.empty or cells.empty or metrics.find_metric(study.metric).rises:
        return None
    start, first = frontier["flops"].iloc[0], frontier["loss"].iloc[0] - constant
    runs = cells.sort_values(study.compute)[[study.compute, study.metric]]
    runs = runs[runs[study.metric] == runs[study.metric].cummin()]
    check, target = study.forecast_check, study.target_compute
    seen = [(target, check["observed"])] if check and target else []
    points = {"law": frontier.to_numpy(), "runs": runs.to_numpy(float),
              "target": np.array(seen, float).reshape(-1, 2)}
    points = {name: xy[xy[:, 1] > constant] for name, xy in points.items()}
    return {name: (xy[:, 0] / start, (xy[:, 1] - constant) / first) for name, xy in points.items()}
