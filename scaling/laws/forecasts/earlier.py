"""What had been measured before a forecast was written: its target, and runs that show where the law goes."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from scaling.laws.forecasts import evidence
from scaling.laws.forms.form import LawError
from scaling.laws.runs import Runs

MORE = 1.02  # a run of this many times the compute of another has more: lengths are rounded to whole steps


def rows_of(table, target: Mapping, columns: Mapping, inputs) -> np.ndarray:
    """Positions of the rows of the table that are the target run.

    FLOPs are not compared unless the law is in C: they follow from N and D, and are counted in several ways.
    """
    compute = {columns.get("C")} - {columns.get(name) for name in inputs}
    return evidence.rows_of_target(table, {name: value for name, value in target.items() if name not in compute})


def among_records(fit, target: Mapping, metric: str, known: Mapping, table) -> str:
    """Why the target is no run to forecast: it is fitted, or among the records. "" if it is neither."""
    if target.get("fingerprint") in known:
        return f"the target {target['fingerprint']} is already among the records"
    for frame in (fit.runs.frame, table):
        rows = [] if frame is None else rows_of(frame, target, fit.runs.columns, fit.form.inputs)
        if len(rows):
            value, row = frame[metric].iloc[rows[0]], frame.index[rows[0]]
            return f"the target is already among the records ({metric} = {value:.6g} in row {row})"
    return ""


def finished_target(fit, target: Mapping, metric: str, finished: pd.DataFrame | None, scores: Sequence[Mapping]) -> str:
    """How the target's result was known: a run that had finished, or a score in the log. "" if it was not.

    finished: a table of finished runs. scores: entries of the log (`Registry.scored`).
    """
    if finished is not None and len(finished):
        rows = rows_of(finished, target, fit.runs.columns, fit.form.inputs)
        if len(rows):
            row = finished.iloc[rows[0]]
            at = f" at {row['finished']}" if isinstance(row.get("finished"), str) and row["finished"] else ""
            value = row.get(metric)
            result = f" with {metric} = {value:.6g}" if isinstance(value, float) and np.isfinite(value) else ""
            return f"the target had already finished{at}{result}"
    for entry in scores:
        if entry.get("metric") == metric and same_run(entry.get("target") or {}, target, fit):
            return f"the log says that the target was observed as {entry['observed']:.6g} at {entry['time']}"
    return ""


def name_of(target: Mapping, fit) -> dict:
    """What the log keeps of a target: its fingerprint, and the inputs of the law by column."""
    names = ["fingerprint", *(fit.runs.columns.get(name, name) for name in fit.form.inputs), *map(str, fit.form.inputs)]
    return {name: target[name] for name in dict.fromkeys(names) if name in target}


def same_run(one: Mapping, other: Mapping, fit) -> bool:
    """True if two targets, as `name_of` has them, are one run."""
    one, other = name_of(one, fit), name_of(other, fit)
    if "fingerprint" in one and "fingerprint" in other:
        return one["fingerprint"] == other["fingerprint"]
    return bool(len(evidence.rows_of_target(pd.DataFrame([one]), other)))


def larger_runs(fit, target: Mapping, metric: str, finished: pd.DataFrame | None, ratio: float | None) -> dict | None:
    """Finished runs of more compute than every fitted run, on the same data and of the same families, without the target;
    None if there are none. A tokenizer that the runs stand on, for example, is of another family.

    ratio: the target's compute over that of the largest fitted run. In the result, runs is their number, as_target of how
    many the compute is at least the target's, and compute_ratio the most compute over that of the largest fitted run. Data
    are compared by data_fingerprint and families by their name, where both tables have them.
    """
    if finished is None or not len(finished):
        return None
    columns = {role: name for role, name in fit.runs.columns.items() if name in finished}
    try:
        most = float(np.nanmax(fit.runs.flops))
        if ("C" in fit.runs.columns) != ("C" in columns):
            return None
        compute = Runs(finished, columns, np.arange(len(finished))).flops
    except LawError:
        return None
    more = compute > MORE * most
    more[rows_of(finished, target, fit.runs.columns, fit.form.inputs)] = False
    for name in ("data_fingerprint", "family"):
        if name in finished and name in fit.runs.frame:
            more &= finished[name].isin(fit.runs.frame[name]).to_numpy()
    if not more.any():
        return None
    ratios = compute[more] / most
    return {"runs": int(more.sum()), "as_target": int((ratios * MORE >= ratio).sum()) if ratio else None,
            "compute_ratio": float(ratios.max())}


def measured_rows(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of runs that have finished: those with the metric, and those that diverged."""
    there = pd.to_numeric(frame[metric], errors="coerce").notna() if metric in frame else pd.Series(False, frame.index)
    if "diverged" in frame:
        there |= frame["diverged"].isin([True])
    return frame[there].reset_index(drop=True)
