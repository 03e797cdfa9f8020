"""The page of a study that is under way: the figures of its report as far as they go, and the runs without a result."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd

from scaling.figures import words
from scaling.figures.palette import Palette
from scaling.report import captions, fitting, page, plots, rivals, sections, training_plots
from scaling.report.curves import curve_of_points
from scaling.report.reading import StudyFiles, made_or_said
from scaling.results import logs
from scaling.results.tuned import PARAMS
from scaling.results.underway import RunNow, Underway

OF_RESULTS = ("compute", "params", "data", "residuals", "learning-rate")  # figures of runs that have a result
TITLES = {"running": "Runs under way", "failed": "Runs that failed"}


def live_palette(study: StudyFiles, now: Underway) -> Palette:
    """One colour for each size and each amount of data, those of runs without a result included."""
    sizes = [run.params for run in now.runs if run.params is not None]
    return Palette([*study.runs[PARAMS].dropna(), *sizes], [*study.runs["data"].dropna()])


def draw_results(study: StudyFiles, palette: Palette) -> dict[str, dict]:
    """The figures of runs that have a result, with the law so far. They change only with the records and the law."""
    planned = captions.study_figures(study, palette)
    return _drawn(study, palette, {name: planned[name] for name in OF_RESULTS if name in planned})


def draw_live_curves(study: StudyFiles, now: Underway, palette: Palette) -> dict[str, dict]:
    """The training losses of the tuned runs so far and of those that have no result yet."""
    mixed = _with_running(study, now)
    columns = sorted({str(name) for curve in mixed.curves.values() for name in curve} - {"data"})
    figures, waiting = {}, len(mixed.cells) - len(study.cells)
    for loss in columns:
        text = (f"The training loss of {words.plural(len(study.cells), 'tuned run')} and of {words.plural(waiting, 'run')} "
                "without a result yet. Colour is model size. Each point is an average over a bin.")
        draw = partial(training_plots.draw_curves, mixed, palette, target=None, loss=loss)
        name = "-".join(["curves", *loss.split("/")[:-1]])
        figures[name] = plots.PlannedFigure(draw, f"training loss against {study.unit.name}", text)
    return _drawn(study, palette, figures)


def live_html(study: StudyFiles, now: Underway, palette: Palette, drawn: Mapping[str, dict], *, title: str, workdir: str,
              headline: str, left: str, note: str, problems: Sequence[str], remarks: Mapping[str, str],
              seconds: float) -> str:
    """The page. Texts are those of `scaling.study.watching`; `remarks` are of runs, by fingerprint. The page looks for a
    newer one every so many `seconds`."""
    parts = {"law": (lambda study: fitting.law_rows(study.fit), []), "matrix": (sections.tuned_table, None),
             "diagnostics": (sections.diagnostics, []), "rivals": (rivals.rivals, None), "choice": (rivals.choice, [])}
    made = {name: made_or_said(study, name, make, empty) for name, (make, empty) in parts.items()}
    groups = [(TITLES.get(state, ""), [run for run in now.runs if run.state in states]) for state, states in (
        ("running", ("running", "silent")), ("failed", ("failed", "stopped")), ("", ("finished", "planned")))]
    return page.render_page(
        "live.html.j2", palette, dict(drawn), (study.unit.name, study.measure.noun), script="live.js",
        study=study, measure=study.measure, unit=study.unit, now=now, title=title, workdir=workdir, headline=headline,
        left=left, note=note, problems=[*problems, *study.broken.values()], seconds=seconds,
        groups=[(name, [_row(run, remarks) for run in runs]) for name, runs in groups], **made)


def _row(run: RunNow, remarks: Mapping[str, str]) -> dict:
    """The cells of a run in the tables of the page."""
    of = "" if run.steps is None else f" of {run.steps:,}"
    step = words.NOTHING if run.step is None else f"{run.step:,}{of}"
    return {"state": run.state, "id": run.fingerprint, "remark": remarks.get(run.fingerprint, ""),
            "part": min(1.0, (run.step or 0) / run.steps) if run.steps else 0.0,
            "cells": [words.count(run.params), words.count(run.data), words.short(run.learning_rate),
                      words.NOTHING if run.seed is None else str(run.seed), step, words.number(run.loss),
                      words.number(run.value)]}


def _drawn(study: StudyFiles, palette: Palette, figures: Mapping[str, plots.PlannedFigure]) -> dict[str, dict]:
    drawn = {}
    for name, plan in figures.items():
        drawn |= made_or_said(study, plan.title, lambda _, one={name: plan}: plots.draw_all(one, palette, png=False), {})
    return drawn


def _with_running(study: StudyFiles, now: Underway) -> StudyFiles:
    """The study with its runs that have no result as further cells, and with training losses as the only curves."""
    curves = {name: _of_training(curve) for name, curve in study.curves.items()}
    rows = []
    for run in now.runs:
        curve, _ = curve_of_points(now.curves.get(run.fingerprint, ()), study.unit)
        if curve is not None and run.params is not None:
            curves[run.fingerprint] = _of_training(curve)
            rows.append({PARAMS: run.params, "data": run.data, "fingerprint": run.fingerprint})
    columns = [PARAMS, "data", "fingerprint"]
    known = [table for table in (study.cells[columns], pd.DataFrame(rows, columns=columns)) if len(table)]
    cells = pd.concat(known, ignore_index=True) if known else study.cells[columns]
    return dataclasses.replace(study, cells=cells, curves=curves)


def _of_training(curve: pd.DataFrame) -> pd.DataFrame:
    """The curve without its losses on evaluation data."""
    return curve.drop(columns=[name for name in curve if str(name).startswith(logs.VALIDATION)])
