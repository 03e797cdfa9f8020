"""The table of runs: one row for each run, one column for each quantity that the records hold."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd

from scaling.figures.words import NOTHING, count, duration, missing, power, sentence, short, with_error
from scaling.report.reading import StudyFiles
from scaling.results import metrics
from scaling.results.tuned import PARAMS

# What other evaluation sets hold, by the name that ends the names of their metrics.
OTHER_SETS = {"package": "whole packages of source code of which training saw no file",
              "character": "characters that training never saw", "font": "fonts that training never saw"}


def other_sets(study: StudyFiles) -> list[str]:
    """A sentence about each evaluation set beside the main one that has a metric in the table."""
    names = {name.removeprefix(base).strip("_") for name in _columns(study)
             if (base := metrics.base_of(name)) and base != name}
    return [f"Headings that end in “{name.replace('_', ' ')}” are metrics on "
            f"{OTHER_SETS.get(name, 'another evaluation set of the data, of that name')}." for name in sorted(names)]


def table_headings(study: StudyFiles) -> list[str]:
    """The headings of `table_rows`; the metric of the study comes first."""
    return [sentence(study.measure.label), *(heading for heading, _ in _columns(study).values())]


def table_rows(study: StudyFiles) -> list[dict]:
    """One dict for each run.

    `cells` are (text, key to sort by), `id` is the fingerprint, and `state` is "tuned", "target", "diverged" or "".
    """
    best, shown, rows = set(study.cells["fingerprints"].explode()), _columns(study), []
    for _, run in study.runs.iterrows():
        first, state = _metric(study.metric, run), "tuned" if run["fingerprint"] in best else ""
        state = "target" if run["role"] == "target" else state
        if run["diverged"]:
            step = "" if missing(run["diverged_step"]) else f" at step {run['diverged_step']:,.0f}"
            because = f": {run['diverged_because']}" if run["diverged_because"] else ""
            first, state = f"diverged{step}{because}", "diverged"
        elif run["stopped_because"]:
            first = f"stopped early at step {run['stopped_step']:,.0f}: {run['stopped_because']}"
        elif missing(run[study.metric]):
            first = "not measured"
        cells = [(write(run), _sort_key(run[name])) for name, (_, write) in shown.items()]
        rows.append({"state": state, "id": run["fingerprint"],
                     "cells": [(first, _sort_key(run[study.metric])), *cells]})
    return rows


def _columns(study: StudyFiles) -> dict[str, tuple[str, Callable[[pd.Series], str]]]:
    """{column of the records: (heading, function that writes its value for a run)}, in the order of the table.

    Columns that no run has a value in are left out, and so is the metric of the study.
    """
    unit = study.unit
    labels = {name: sentence(metrics.find_metric(name).label) for name in metrics.metric_columns(study.runs)}
    if "loss" in labels and unit.loss:
        labels["loss"] = sentence(unit.loss)
    quantities: dict[str, tuple[str, Callable[[object], str]]] = {
        PARAMS: ("Parameters", count), unit.seen: (sentence(unit.name), count), "learning_rate": ("Learning rate", short)}
    columns = {name: (heading, partial(_quantity, name, write)) for name, (heading, write) in quantities.items()}
    columns |= {name: (heading, partial(_metric, name)) for name, heading in labels.items()}
    quantities = {
        "flops": ("FLOPs of the model", power), "flops_executed": ("FLOPs executed", power),
        "flops_6nd": ("6ND", power), unit.unique: (f"Unique {unit.name}", count),
        "params_total": ("All parameters", count), "steps": ("Steps", _whole), "weight_decay": ("Weight decay", short),
        "seed": ("Seed", short), "seconds": ("Time", duration), "fingerprint": ("Fingerprint", _fingerprint)}
    columns |= {name: (heading, partial(_quantity, name, write)) for name, (heading, write) in quantities.items()}
    return {name: column for name, column in columns.items()
            if name != study.metric and name in study.runs and not study.runs[name].map(missing).all()}


def _quantity(name: str, write: Callable[[object], str], run: pd.Series) -> str:
    return write(run[name])


def _metric(name: str, run: pd.Series) -> str:
    return with_error(run[name], run.get(f"{name}_se"))


def _whole(value) -> str:
    return NOTHING if missing(value) else f"{value:,.0f}"


def _fingerprint(value) -> str:
    return value[:10]


def _sort_key(value) -> str:
    if missing(value):
        return ""
    return value if isinstance(value, str) else repr(float(value))
