"""The table of runs: one row a run, one column for each thing that the records know."""

from __future__ import annotations

from scaling.figures.words import NOTHING, count, duration, measured, missing, power, sentence, short
from scaling.results import metrics
from scaling.results.tuned import PARAMS


def _columns(study) -> dict[str, tuple]:
    """Column of records -> (heading, run -> how its value is written), in the order of the table; absent ones
    left out."""
    unit = study.unit
    named = {PARAMS: ("Params", count), unit.seen: (sentence(unit.name), count),
             "learning_rate": ("Learning rate", short)}
    found = {name: (sentence(metrics.find_metric(name).label), None)
               for name in metrics.metric_columns(study.runs)}
    if "loss" in found and unit.loss:
        found["loss"] = (sentence(unit.loss), None)
    named |= found | {
        "flops": ("FLOPs", power), "flops_6nd": ("6ND", power), unit.unique: ("Unique", count),
        "params_total": ("Params, all", count),
        "steps": ("Steps", lambda value: NOTHING if missing(value) else f"{value:,.0f}"),
        "weight_decay": ("Decay", short), "seed": ("Seed", short), "seconds": ("Time", duration),
        "fingerprint": ("Fingerprint", lambda value: value[:10])}
    return {name: (heading, lambda run, name=name, write=write:
                   write(run[name]) if write else _measured(run, name))
            for name, (heading, write) in named.items()
            if name != study.metric and not study.runs[name].map(missing).all()}


def _measured(run, metric: str) -> str:
    return measured(run[metric], run.get(f"{metric}_se"))


def columns(study) -> list[str]:
    return [sentence(study.measure.label), *(heading for heading, _ in _columns(study).values())]


def rows(study) -> list[dict]:
    """One row a run: cells of (text, key to sort by), the metric first; `state` says what it is."""
    best, shown, out = set(study.cells["fingerprints"].explode()), _columns(study), []
    for _, run in study.runs.iterrows():
        first, state = _measured(run, study.metric), "tuned" if run["fingerprint"] in best else ""
        state = "target" if run["role"] == "target" else state
        if run["diverged"]:
            step = "" if missing(run["diverged_step"]) else f" at step {run['diverged_step']:,.0f}"
            because = f": {run['diverged_because']}" if run["diverged_because"] else ""
            first, state = f"diverged{step}{because}", "diverged"
        cells = [(write(run), _key(run[name])) for name, (_, write) in shown.items()]
        out.append({"state": state, "id": run["fingerprint"],
                    "cells": [(first, _key(run[study.metric])), *cells]})
    return out


def _key(value) -> str:
    return "" if missing(value) else value if isinstance(value, str) else repr(float(value))
