"""Several studies side by side: which exponents their laws have, how sure, and whether their forecasts held.

    path = scaling.report.comparison.write(["runs/quickstart", "runs/vae", "runs/gan"], "runs/families")

Metrics of different families are not comparable, exponents are; so is the reducible part of a metric, what
lies above the fit's constant E, once each family's is divided by its own at the least compute.
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
from scaling.figures.words import NOTHING, count, number, percent, power, printable, sentence, short
from scaling.report import figures, page, reading
from scaling.results import metrics
from scaling.results.tuned import PARAMS

EXPONENTS = {"N": ("alpha", "α, of size N"), "D": ("beta", "β, of data D")}


class Member(NamedTuple):
    """One study of the comparison. `exponents`: {"N" or "D": (estimate, low, high)}, the ends NaN where
    unknown."""
    name: str
    workdir: str
    study: reading.Study
    exponents: dict[str, tuple[float, float, float]]


def read(workdirs: Sequence) -> list[Member]:
    """The studies in `workdirs`, in that order; those of one family are told apart by the workdir's name.

    Raises `files.WorkdirError` for what is not a directory.
    """
    studies = [reading.read(workdir) for workdir in workdirs]
    names = [_family(study) for study in studies]
    paths = [epath.Path(workdir) for workdir in workdirs]
    names = [name if names.count(name) == 1 else f"{name} ({path.name})" for name, path in zip(names, paths)]
    return [Member(name, fspath(path), study, exponents(study))
            for name, path, study in zip(names, paths, studies)]


def _family(study) -> str:
    recorded = study.runs.get("family", pd.Series(dtype=str)).dropna()
    name = (study.study or {}).get("family") or next(iter(recorded), "")
    return {"vae": "VAE", "gan": "GAN"}.get(name, sentence(name)) or "unknown family"


def exponents(study) -> dict[str, tuple[float, float, float]]:
    """The fitted exponents of N and of D, by the columns that the law's inputs are; a law may have but
    one."""
    fit, found = study.fit or {}, {}
    roles = {column: role for role, column in (fit.get("columns") or {}).items() if role != "y"}
    for symbol, column in (("N", PARAMS), ("D", study.unit.seen)):
        name = {"N": "alpha", "D": "beta", "x": "alpha"}.get(roles.get(column))
        if name in (fit.get("params") or {}):
            low, high = (fit.get("intervals") or {}).get(name, (np.nan, np.nan))
            found[symbol] = (fit["params"][name], low, high)
    return found


def write(workdirs: Sequence, output) -> epath.Path:
    """Writes output/index.html (atomically) and output/figures/*.png; returns the path of the former."""
    members = read(workdirs)
    palette = Palette(range(len(members)), ())
    drawn = figures.render(plans(members, palette), palette)
    return page.save(output, render(members, palette, drawn), drawn)


def render(members: list[Member], palette: Palette, drawn: dict[str, dict]) -> str:
    """The page, with figures as `figures.render` draws them."""
    absent = [f"{member.name}: {member.study.missing[name]}" for member in members
              for name in ("records", "fit", "forecast") if name in member.study.missing]
    return page.render("families.html.j2", palette, drawn, title="Families side by side",
                       rows=list(map(row, members)), level=_level(members), absent=absent)


def row(member: Member) -> dict:
    """One line of the table; cells are (text, note under it, "good", "bad" or "")."""
    study, runs = member.study, member.study.runs
    sweep = runs[runs["role"] == "sweep"]
    return {"family": member.name, "metric": study.measure.label, "title": printable(_title(study)),
            "workdir": member.workdir,
            "cells": [*(_interval(member.exponents.get(symbol)) for symbol in EXPONENTS), _forecast(study),
                      (_range(sweep[PARAMS]), "", ""), (_range(sweep["data"]), study.unit.name, ""),
                      (power(runs["flops"].sum() or None), f"{len(runs):,} runs", "")]}


def _forecast(study) -> tuple[str, str, str]:
    forecast, check = study.forecast, study.forecast_check
    if not forecast:
        return NOTHING, "", ""
    at = f"at {short(forecast['compute_ratio'])}× the compute" if forecast.get("compute_ratio") else ""
    if not check:
        return "not checked", at, ""
    error = check["observed"] / check["predicted"] - 1
    side, verdict = ("inside", "good") if check["inside"] else ("outside", "bad")
    return f"{'+' if error > 0 else '−'}{percent(abs(error))}, {side}", at, verdict


def _title(study) -> str:
    return (study.study or {}).get("title") or "Scaling study"


def _interval(found) -> tuple[str, str, str]:
    if not found:
        return NOTHING, "", ""
    value, low, high = found
    return number(value, 3), "" if np.isnan(low) else f"{number(low, 2)} to {number(high, 2)}", ""


def _range(values: pd.Series) -> str:
    values = values.dropna()
    return NOTHING if values.empty else f"{count(values.min())} to {count(values.max())}"


def _level(members: list[Member]) -> str:
    """What the intervals of the exponents are, where all fits agree."""
    levels = {member.study.fit["level"] for member in members if "intervals" in (member.study.fit or {})}
    return f" ({percent(levels.pop())}, of the bootstrap)" if len(levels) == 1 else ""


def plans(members: list[Member], palette: Palette) -> dict[str, tuple]:
    """{name: (function that draws, accessible title, caption)}, for `figures.render`."""
    bars = f"Bars are intervals{_level(members)}."
    planned = {name: (partial(forest, members, palette, symbol, label), f"exponent {label} of each family",
                      f"Exponent of the fitted power of {symbol}. {bars}")
               for symbol, (name, label) in EXPONENTS.items()}
    planned["reducible"] = (
        partial(reducible, members, palette), "reducible part of each metric against compute",
        "What lies above the fitted constant E, over the same at the family's least compute. Dashed: the "
        "law at the best size for each budget. Dots: the tuned runs that no cheaper run beats; diamonds: "
        "the runs that were forecast, as observed. E is uncertain, and with it the right end most of all.")
    return planned


def forest(members: list[Member], palette: Palette, symbol: str, label: str) -> Figure | None:
    """One exponent of each family with its interval, one row a family."""
    rows = [(i, member, member.exponents[symbol]) for i, member in enumerate(members)
            if symbol in member.exponents]
    if not rows:
        return None
    figure, axes = canvas(palette, label, "", height=0.9 + 0.42 * len(rows))
    axes.set_xscale("linear")
    axes.grid(False)
    for y, (i, member, (value, low, high)) in enumerate(rows):
        error = None if np.isnan(low) else [[max(value - low, 0)], [max(high - value, 0)]]
        axes.errorbar([value], [y], xerr=error, fmt="o", color=palette.size(i), capsize=4, markersize=6)
        axes.annotate(number(value, 3), (value, y), xytext=(0, 7), textcoords="offset points", ha="center",
                      color=palette.size(i))
    axes.set_yticks(range(len(rows)), [member.name for _, member, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.7)
    axes.set_xlim(left=min(0, axes.get_xlim()[0]))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    return figure


def reducible(members: list[Member], palette: Palette) -> Figure | None:
    """Metric less E over compute, both relative to the family's own at its least compute."""
    figure, axes = canvas(palette, "compute over the least of the family", "reducible part, relative", "")
    ends = []
    for i, member in enumerate(members):
        lines = reducible_lines(member)
        if lines is None:
            continue
        colour = palette.size(i)
        axes.plot(*lines["law"], color=colour, **figures.DASHED)
        axes.plot(*lines["runs"], "o", color=colour, markeredgecolor=palette.paper, **figures.DOT)
        axes.plot(*lines["target"], "D", color=colour, markerfacecolor=palette.paper, markersize=6, zorder=5)
        ends.append((lines["law"][1][-1], member.name, colour))
    if not ends:
        return None
    finish(axes, ends, ticks=partial(power, digits=1))
    return figure


def reducible_lines(member: Member) -> dict[str, tuple] | None:
    """{"law", "runs", "target": (compute, reducible part)}, relative to the law at the least compute of the
    runs.

    None without a frontier that begins above E. Runs and targets at or below E cannot be drawn and are left
    out.
    """
    study, cells = member.study, member.study.cells
    frontier = pd.DataFrame((study.fit or {}).get("frontier") or [], columns=["flops", "loss"]).astype(float)
    constant = ((study.fit or {}).get("params") or {}).get("E", 0.0)
    frontier = frontier[frontier["loss"] > constant].sort_values("flops")
    if frontier.empty or cells.empty or metrics.find_metric(study.metric).rises:
        return None
    start, first = frontier["flops"].iloc[0], frontier["loss"].iloc[0] - constant
    runs = cells.sort_values("flops")[["flops", study.metric]]
    runs = runs[runs[study.metric] == runs[study.metric].cummin()]
    check, target = study.forecast_check, ((study.forecast or {}).get("target") or {}).get("flops")
    seen = [(target, check["observed"])] if check and target else []
    points = {"law": frontier.to_numpy(), "runs": runs.to_numpy(float),
              "target": np.array(seen, float).reshape(-1, 2)}
    points = {name: xy[xy[:, 1] > constant] for name, xy in points.items()}
    return {name: (xy[:, 0] / start, (xy[:, 1] - constant) / first) for name, xy in points.items()}
