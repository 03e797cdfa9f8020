"""Forecasts on record: written before the run exists, never rewritten, and checked against the run once.

`write` puts a prediction (`predict_run`) into one new file, with the law, how it was fitted, how sharp it is, and a hash of
every run it was fitted to. `check` refuses if any of these changed, and writes its verdict beside the forecast. Both are
registered in the log forecasts.jsonl beside them (see `registry`), and `verify` compares all of it.

The hashes show a reader that the files fit together. They do not show that the forecast is older than the run, for whoever
owns the folder can make all of it anew. To show that, commit the file or publish its hash where others see the date.
"""
from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Iterable, Mapping

import numpy as np
from etils import epath

from scaling.laws.forecasts import earlier, evidence, registry, sealed
from scaling.laws.forecasts.naive import same_as_law, sharpness
from scaling.laws.forecasts.prediction import place_target, predict_run
from scaling.laws.forecasts.score import score
from scaling.laws.forecasts.twostep import TwoStep
from scaling.laws.forecasts.verify import Verification, read, read_check, score_path, verify
from scaling.laws.forms.form import LawError
from scaling.results.records import versions
from scaling.store import files

__all__ = ["Verification", "check", "read", "same_as_law", "score_path", "verify", "write"]


def write(path, fit, boot, target: Mapping, records=None, level: float = 0.9, *, finished=None, begun: bool = False,
          late: str = "refuse", older: Iterable = ()) -> dict:
    """Predict the target run (see `predict_run`), write the forecast to the new file `path`, and return it.

    records: everything that it is made from: a table (its path, a DataFrame or Runs), the path of a workdir, or
    {fingerprint: hash} of records (see `record_hashes`). By default it is the fitted runs, or the workdir they come from.
    Of a table, only rows that have the metric count. finished: a table of all runs that have finished, whatever their
    role; by default the table of `records`. begun: the target's training has begun. older: folders whose logs count too,
    such as the workdir of a study that this one was forked from.

    A forecast is late if its target had finished or begun, or if there is a score of an earlier forecast of it. With
    late="refuse" that raises LawError. With late="mark" the forecast is written with "registered_late": {"reason": ...},
    and can never be checked. Two more marks are no refusals: "registered_again" lists forecasts of the same name or run
    that the log has, and "larger_runs" (see `earlier.larger_runs`) counts finished runs that its author could have seen.

    Raises LawError if the file exists, if the target is among the records that it is made from, if a fitted run has no
    record, or if the log was changed.
    """
    path = epath.Path(path)
    content = {"time": _now()} | predict_run(fit, boot, target, level)
    metric = content["metric"]
    measured = [metric] + ([fit.runs.columns["L"]] if isinstance(fit, TwoStep) else [])
    if records is None:
        records = fit.runs.source["path"] if fit.runs.source.get("kind") == "workdir" else fit.runs
    known, table, columns = evidence.gather_records(records, measured)
    if why := earlier.among_records(fit, content["target"], metric, known, table):
        raise LawError(f"{why}, so this would be no forecast; name a run that nobody has trained, or leave it out of the "
                       "records")
    if not known:
        raise LawError("a forecast needs the records it was made from, and records= is empty")
    if columns is None and "fingerprint" in fit.runs.frame:
        lost = sorted(set(fit.runs.frame["fingerprint"]) - set(known))
        if lost:
            raise LawError(f"no record was given for fitted runs {', '.join(map(str, lost))}")
    finished = table if finished is None else finished
    finished = None if finished is None else earlier.measured_rows(finished, metric)
    _, at, ratio = place_target(fit, target)
    content |= sharpness(fit, at, ratio, content["predicted"], content["interval"]) | {
        "form": fit.form.name, "formula": fit.form.formula, "inputs": list(fit.form.inputs),
        "columns": dict(fit.runs.columns),
        "objective": {"name": fit.spec.name} | dataclasses.asdict(fit.spec),
        "fit": fit.to_json(), "bootstrap": boot.to_json(level), "manifest": fit.manifest,
        "source": fit.runs.source, "measured": measured, "records": known, "record_columns": columns,
        "records_without": list(evidence.MEASURED) if columns is None else None,
        "records_hash": evidence.json_digest(sorted(known.values())),
        "versions": versions(("scaling", "numpy", "pandas")),
        "larger_runs": earlier.larger_runs(fit, content["target"], metric, finished, ratio),
    }
    with registry.alone(path.parent) as log:
        if path.exists():
            raise LawError(f"{os.fspath(path)} exists, and a forecast is never overwritten; write to another path")
        if log.broken:
            raise LawError(f"{os.fspath(path.parent)}: {log.broken}; restore it, or write the forecast into another folder")
        logs = [log, *map(registry.read_log, older)]
        scores = [entry for each in logs for entry in each.scored()]
        why = earlier.finished_target(fit, content["target"], metric, finished, scores)
        why = why or ("the training of the target had already begun" if begun else "")
        if not why and score_path(path).exists():
            why = f"{score_path(path).name} holds the score of an earlier forecast of this name"
        if why and late != "mark":
            raise LawError(f"{why}, so this would be no forecast; name a run that nobody has trained, and a new file")
        content |= {"registered_late": {"reason": why}} if why else {}
        content |= {"registered_again": again} if (again := _again(logs, path.name, content, fit)) else {}
        content = sealed.with_hash(content | {"registration": log.place()})
        log.append({"event": "registered", "time": content["time"], "file": path.name, "forecast": content["hash"],
                    "target": earlier.name_of(content["target"], fit), "metric": metric,
                    "predicted": content["predicted"], "interval": content["interval"],
                    **({"late": why} if why else {})})
        files.atomic_write(path, sealed.to_text(content), exclusive=True)
    return content


def _again(logs: list[registry.Registry], name: str, content: Mapping, fit) -> list[dict]:
    """What the logs say about earlier forecasts of the same run and metric and, in the first log, of the same file."""
    found = []
    for number, log in enumerate(logs):
        for entry in log.registered():
            same = entry["metric"] == content["metric"] and earlier.same_run(entry["target"], content["target"], fit)
            if same or (number == 0 and entry["file"] == name):
                place = entry["file"] if number == 0 else os.fspath(log.folder / entry["file"])
                found.append({key: entry[key] for key in ("time", "forecast", "predicted", "interval")} | {"file": place})
    return found


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def check(path, observed: float | None = None, records=None) -> dict:
    """Score the forecast at `path`, write the score (see `score.score`) to <name>_check.json beside it, and return it.

    observed: the target's metric; with None it is looked up in the records. records: the records as they are now, in any
    form that `write` takes; by default they are read from where the fitted runs came from. Other runs may have joined.

    A second check with the same observation returns the first score, and writes its file again where it is gone. Where the
    log does not hold this forecast as it is, the score says so under "withheld", and its verdict is withheld.

    Raises LawError if the forecast changed or was registered late, if a record it was made from changed or is missing (by
    name), if no observation is found, or if the forecast was already checked against another one.
    """
    path, content = epath.Path(path), read(path)
    if "distribution" not in content:
        raise LawError(f"{os.fspath(path)} was written by another version of scaling, "
                       f"{content.get('versions', {}).get('scaling')}, which must also check it")
    if late := content.get("registered_late"):
        raise LawError(f"{os.fspath(path)} is no forecast and is not scored: it was registered late ({late['reason']})")
    if records is None:
        records = content.get("source", {}).get("path")
        if records is None or not epath.Path(records).exists():
            missing = f"{records} is not there" if records else "the forecast does not say where they were"
            raise LawError(f"say where the records are now (records=, --points or --workdir): {missing}")
    known, table, _ = evidence.gather_records(records, content["measured"], content["record_columns"],
                                              content["records"], content.get("records_without") or ())
    if gone := evidence.lost(content["records"], known):
        raise LawError(f"the records that this forecast was made from are not as they were ({gone}); "
                       "restore them, or make a new forecast of a run that nobody has trained")
    observed = _found(content, table) if observed is None else float(observed)
    with registry.alone(path.parent) as log:
        return _recorded(path, content, observed, log) or _record(path, content, observed, log)


def _recorded(path, content: Mapping, observed: float, log: registry.Registry) -> dict | None:
    """The score that was written before, None if there is none. LawError if it is of another observation."""
    beside, before = score_path(path), log.scored(content["hash"])
    found = read_check(path) if beside.exists() else None
    values = [(found["observed"], found["forecast_hash"])] if found else [(e["observed"], e["forecast"]) for e in before]
    if values and values[-1] != (observed, content["hash"]):
        holds = "holds" if found else f"is gone, and {registry.FILE} has"
        raise LawError(f"{os.fspath(beside)} {holds} another check (observed {values[-1][0]}); a forecast is checked once")
    for entry in [] if found else before:  # a score in the log whose file is gone is written as it was
        place = {"log": registry.FILE, "line": log.entries.index(entry) + 1, "previous": entry["previous"]}
        again = sealed.with_hash(_scored(path, content, observed, entry["time"], place, entry.get("withheld")))
        if again["hash"] == entry["check"]:
            files.atomic_write(beside, sealed.to_text(again), exclusive=True)
            return again
    return found


def _record(path, content: Mapping, observed: float, log: registry.Registry) -> dict:
    """Scores the forecast, adds the score to the log, and writes it beside the forecast."""
    withheld = verify(path, records={}).problems  # the records were compared by the caller
    result = sealed.with_hash(_scored(path, content, observed, _now(), log.place(), withheld))
    log.append({"event": "scored", "time": result["time"], "file": path.name, "forecast": content["hash"],
                "target": {name: value for name, value in content["target"].items() if np.ndim(value) == 0},
                "metric": content["metric"], "observed": observed, "inside": result["inside"], "check": result["hash"],
                **({"withheld": withheld} if withheld else {})})
    files.atomic_write(score_path(path), sealed.to_text(result), exclusive=True)
    return result


def _scored(path, content: Mapping, observed: float, when: str, place: Mapping, withheld) -> dict:
    result = score(content, observed) | {"time": when, "forecast_hash": content["hash"], "registration": dict(place)}
    if withheld:
        result["withheld"] = list(withheld)
        result["verdict"] = f"{result['verdict'].rsplit(' The forecast ', 1)[0]} No verdict: {' '.join(withheld)}"
    return result


def _found(content: Mapping, table) -> float:
    """The target's metric, looked up in the table of the records."""
    target, metric = content["target"], content["metric"]
    rows = [] if table is None else earlier.rows_of(table, target, content["columns"], content["inputs"])
    if len(rows) != 1:
        about = ", ".join(f"{name} = {value}" for name, value in target.items() if np.ndim(value) == 0)
        raise LawError(f"{len(rows) or 'none'} of the records {'are' if len(rows) > 1 else 'is'} the target "
                       f"({about}); give the observed value")
    return float(table[metric].iloc[rows[0]])
