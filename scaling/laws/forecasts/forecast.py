"""Forecasts on record: written before the run exists, never rewritten, and checked against the run once.

`write` puts a prediction (`predict_run`) into one new file, with the law, how it was fitted, and a hash of
every run it was fitted to. `check` refuses if any of these changed, and writes its verdict beside the forecast.

The hash shows a reader that the forecast was not edited. It does not show that the forecast is older than the
run. To show that, commit the file or publish the hash where others see the date.
"""
from __future__ import annotations

import dataclasses
import datetime
import json
import math
import os
from collections.abc import Mapping

import numpy as np
from etils import epath

from scaling.laws.forecasts import evidence
from scaling.laws.forecasts.prediction import in_space, predict_run
from scaling.laws.forecasts.twostep import TwoStep
from scaling.laws.forms.form import LawError
from scaling.results.records import versions
from scaling.store import files


def write(path, fit, boot, target: Mapping, records=None, level: float = 0.9) -> dict:
    """Predict the target run (see `predict_run`), write the forecast to the new file `path`, and return it.

    records: everything measured so far: a table (its path, a DataFrame or Runs), the path of a workdir, or
    {fingerprint: hash} of records (see `record_hashes`). By default it is the fitted runs, or the workdir
    they come from. Of a table, only rows that have the metric count.

    Raises LawError if the file exists, if the target is among the records, or if a fitted run has no record.
    """
    path = epath.Path(path)
    content = {"time": _now()} | predict_run(fit, boot, target, level)
    measured = [content["metric"]] + ([fit.runs.columns["L"]] if isinstance(fit, TwoStep) else [])
    if records is None:
        records = fit.runs.source["path"] if fit.runs.source.get("kind") == "workdir" else fit.runs
    known, table, columns = evidence.gather_records(records, measured)
    _refuse_known(fit, content["target"], content["metric"], known, table)
    if not known:
        raise LawError("a forecast needs the records it was made from, and records= is empty")
    if columns is None and "fingerprint" in fit.runs.frame:
        lost = sorted(set(fit.runs.frame["fingerprint"]) - set(known))
        if lost:
            raise LawError(f"no record was given for fitted runs {', '.join(map(str, lost))}")
    content |= {
        "form": fit.form.name, "formula": fit.form.formula, "inputs": list(fit.form.inputs),
        "columns": dict(fit.runs.columns),
        "objective": {"name": fit.spec.name} | dataclasses.asdict(fit.spec),
        "fit": fit.to_json(), "bootstrap": boot.to_json(level), "manifest": fit.manifest,
        "source": fit.runs.source, "measured": measured, "records": known, "record_columns": columns,
        "records_hash": evidence.json_digest(sorted(known.values())),
        "versions": versions(("scaling", "numpy", "pandas")),
    }
    content = json.loads(files.dumps(content))
    content["hash"] = evidence.json_digest(content)
    try:
        files.atomic_write(path, _text(content), exclusive=True)
    except FileExistsError:
        if not path.exists():
            raise LawError(f"{os.fspath(path)} cannot be written: {os.fspath(path.parent)} is not a "
                           "directory") from None
        raise LawError(f"{os.fspath(path)} exists, and a forecast is never overwritten; "
                       "write to another path") from None
    return content


def _refuse_known(fit, target: Mapping, metric: str, known: Mapping, table) -> None:
    if target.get("fingerprint") in known:
        raise LawError(f"the target {target['fingerprint']} is already among the records, so this would be no "
                       "forecast; name a run that nobody has trained")
    for frame in (fit.runs.frame, table):
        rows = [] if frame is None else _rows(frame, target, fit.runs.columns, fit.form.inputs)
        if len(rows):
            value, row = frame[metric].iloc[rows[0]], frame.index[rows[0]]
            raise LawError(f"the target is already among the records ({metric} = {value:.6g} in row {row}), so "
                           "this would be no forecast; name a run that nobody has trained, or leave this row out")


def _rows(table, target: Mapping, columns: Mapping, inputs) -> np.ndarray:
    """Rows of the table that are the target run.

    FLOPs are not compared unless the law is in C: they follow from N and D, and are counted in several ways.
    """
    compute = {columns.get("C")} - {columns.get(name) for name in inputs}
    return evidence.rows_of_target(table, {name: value for name, value in target.items() if name not in compute})


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _text(content: Mapping) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read(path) -> dict:
    """The forecast at `path`. Raises LawError if any byte of the file was changed since it was written."""
    path = epath.Path(path)
    try:
        text = path.read_bytes().decode()
        content = json.loads(text)
    except FileNotFoundError:
        raise LawError(f"there is no forecast at {os.fspath(path)}") from None
    except (ValueError, OSError) as error:
        raise LawError(f"{os.fspath(path)} is not a forecast ({error})") from None
    own = {key: value for key, value in content.items() if key != "hash"} if isinstance(content, dict) else {}
    if not own or content.get("hash") != evidence.json_digest(own) or text != _text(content):
        raise LawError(f"{os.fspath(path)} was changed after it was written: its content does not match "
                       "its hash; restore the file")
    return content


def check(path, observed: float | None = None, records=None) -> dict:
    """Score the forecast at `path`, write the score to <name>_check.json beside it, and return it.

    observed: the target's metric; with None it is looked up in the records. records: the records as they are
    now, in any form that `write` takes; by default they are read from where the fitted runs came from. Other
    runs may have joined.

    In the score, error is observed minus predicted, rank is the share of the predictive distribution below
    the observation, and z is the distance from its median in units of its spread. A second check with the
    same observation returns the first score.

    Raises LawError if the forecast changed, if a record it was made from changed or is missing (by name), if
    no observation is found, or if the forecast was already checked against another one.
    """
    content = read(path)
    if "distribution" not in content:
        raise LawError(f"{os.fspath(path)} was written by another version of scaling, "
                       f"{content.get('versions', {}).get('scaling')}, which must also check it")
    if records is None:
        records = content.get("source", {}).get("path")
        if records is None or not epath.Path(records).exists():
            missing = f"{records} is not there" if records else "the forecast does not say where they were"
            raise LawError(f"say where the records are now (records=, --points or --workdir): {missing}")
    known, table, _ = evidence.gather_records(records, content["measured"], content["record_columns"],
                                              content["records"])
    if gone := evidence.lost(content["records"], known):
        raise LawError(f"the records that this forecast was made from are not as they were ({gone}); "
                       "restore them, or make a new forecast of a run that nobody has trained")
    observed = _found(content, table) if observed is None else float(observed)
    result = _score(content, observed) | {"time": _now(), "forecast_hash": content["hash"]}
    path = epath.Path(path)
    beside = path.parent / f"{path.stem}_check.json"
    try:
        files.write_json(beside, result, exclusive=True)
    except FileExistsError:
        earlier = files.read_json(beside)
        if (earlier["observed"], earlier["forecast_hash"]) != (observed, content["hash"]):
            raise LawError(f"{os.fspath(beside)} holds another check (observed {earlier['observed']}); "
                           "a forecast is checked once") from None
        return earlier
    return result


def _found(content: Mapping, table) -> float:
    """The target's metric, looked up in the table of the records."""
    target, metric = content["target"], content["metric"]
    rows = [] if table is None else _rows(table, target, content["columns"], content["inputs"])
    if len(rows) != 1:
        about = ", ".join(f"{name} = {value}" for name, value in target.items() if np.ndim(value) == 0)
        raise LawError(f"{len(rows) or 'none'} of the records {'are' if len(rows) > 1 else 'is'} the target "
                       f"({about}); give the observed value")
    return float(table[metric].iloc[rows[0]])


def _score(content: Mapping, observed: float) -> dict:
    predicted, (low, high), kept = content["predicted"], content["interval"], content["distribution"]
    if not math.isfinite(observed) or (kept["space"] == "log" and observed <= 0):
        wanted = "positive and finite" if kept["space"] == "log" else "finite"
        raise LawError(f"the observed {content['metric']} must be {wanted}, got {observed}")
    median = kept["values"][kept["levels"].index(0.5)]
    off = float(np.subtract(*in_space(kept["space"], [observed, median])))
    z = off / kept["spread"] if kept["spread"] else math.copysign(math.inf, off) if off else 0.0
    error, inside = observed - predicted, low <= observed <= high
    share = f" ({error / abs(predicted):+.2%})" if predicted else ""
    verdict = (f"{content['metric']} was forecast as {predicted:.5g} and observed as {observed:.5g}{share}: "
               f"{'inside' if inside else 'outside'} the {content['level']:.0%} interval "
               f"[{low:.5g}, {high:.5g}], "
               f"{abs(z):.1f} standard deviations {'above' if z > 0 else 'below'} its middle. "
               f"The forecast {'held' if inside else 'missed'}.")
    return {"observed": observed, "predicted": predicted, "interval": [low, high], "level": content["level"],
            "error": error, "relative_error": error / abs(predicted) if predicted else None, "inside": inside,
            "z": z, "rank": float(np.interp(observed, kept["values"], kept["levels"], left=0.0, right=1.0)),
            "verdict": verdict}
