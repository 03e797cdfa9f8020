"""Forecasts on record: written before the run exists, never rewritten, and checked against it once.

`write` makes one file that holds the target, the predicted loss with its interval, the law, and a hash of
every record the law was fitted to. `check` refuses if any of that changed, and writes its verdict beside the
forecast.
"""
from __future__ import annotations

import datetime
import hashlib
import json
import math
import os
import platform
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from etils import epath

import scaling
from scaling import files
from scaling.laws.fitting import Fit
from scaling.laws.forms import LawError
from scaling.laws.uncertainty import Bootstrap

CHECK = "forecast_check.json"


def _canonical(value) -> str:
    """One text for one content: sorted keys, no spaces, NumPy values and NaN as `files.dumps` writes them."""
    return json.dumps(json.loads(files.dumps(value)), sort_keys=True, separators=(",", ":"))


def record_hash(record: Mapping) -> str:
    """SHA-256 of a record's content, whatever the order of its keys."""
    return hashlib.sha256(_canonical(dict(record)).encode()).hexdigest()


def hashes(records: Iterable[Mapping]) -> dict[str, str]:
    """{fingerprint: record_hash} of records, each a dict with a "fingerprint"."""
    return {record["fingerprint"]: record_hash(record) for record in records}


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def write(path, fit: Fit, boot: Bootstrap, target: Mapping, records: Mapping[str, str],
          level: float = 0.9) -> dict:
    """Predict the target's loss, write it to `path` (a new file), and return what was written.

    target: a dict with the law's input columns (params_non_embedding, tokens_seen, ...), and if known "flops"
    and "fingerprint"; all of it is kept. records: {fingerprint: hash}, see `hashes`, of every run the fit
    used. The interval is a prediction interval: uncertainty of the law and the noise of one run.
    compute_ratio is the target's "flops" over the largest of the fitted points, None where either is not
    known.

    Raises LawError if the file exists, if the target is among the records, or if fitted points have no
    record.
    """
    path = epath.Path(path)
    target = dict(target)
    if boot.fit is not fit:
        raise LawError("the bootstrap belongs to another fit")
    for name in fit.form.inputs:
        if fit.columns[name] not in target:
            raise LawError(f"the target lacks {fit.columns[name]!r}; it has {', '.join(map(str, target))}")
    if target.get("fingerprint") in records:
        raise LawError(f"the target {target['fingerprint']} is already among the records: "
                       "that would be no forecast")
    if not records:
        raise LawError("a forecast names the records it was made from, and none were given")
    if "fingerprint" in fit.points:
        if lost := sorted(set(fit.points["fingerprint"]) - set(records)):
            raise LawError(f"no record was given for fitted runs {', '.join(map(str, lost))}")
    at = [float(target[fit.columns[name]]) for name in fit.form.inputs]
    largest = float(fit.points["flops"].max()) if "flops" in fit.points else None
    content = {
        "time": _now(), "target": target, "predicted": fit.predict(*at),
        "interval": list(boot.predict(*at, level=level)),
        "confidence": list(boot.predict(*at, level=level, noise=False)), "level": level,
        "compute_ratio": float(target["flops"]) / largest if largest and "flops" in target else None,
        "metric": fit.columns["loss"], "form": fit.form.name,
        "fit": fit.to_json() | {"points": len(fit.points)},
        "bootstrap": boot.to_json(level), "diagnostics": [*fit.diagnostics, *boot.diagnostics],
        "records": dict(sorted(records.items())),
        "versions": {"scaling": scaling.__version__, "python": platform.python_version(),
                     "numpy": np.__version__, "pandas": pd.__version__},
    }
    content = json.loads(files.dumps(content))
    content["hash"] = record_hash(content)
    try:
        files.atomic_write(path, files.dumps(content, indent=1) + "\n", exclusive=True)
    except FileExistsError:
        raise LawError(f"{os.fspath(path)} exists, and a forecast is never overwritten; "
                       "write to another path") from None
    return content


def read(path) -> dict:
    """The forecast at `path`; raises LawError if it was changed since it was written."""
    path = epath.Path(path)
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise LawError(f"there is no forecast at {os.fspath(path)}") from None
    except ValueError as error:
        raise LawError(f"{os.fspath(path)} is not a forecast ({error})") from None
    if not isinstance(content, dict) or content.get("hash") != _own_hash(content):
        raise LawError(f"{os.fspath(path)} was changed after it was written: its content does not "
                       "match its own hash")
    return content


def _own_hash(content: Mapping) -> str:
    return record_hash({key: value for key, value in content.items() if key != "hash"})


def check(path, observed: float, records: Mapping[str, str]) -> dict:
    """Score the forecast at `path` against the observed loss; write forecast_check.json beside it, and return
    it.

    records: {fingerprint: hash} as they are now; others than those forecast from may have joined. error is
    observed minus predicted, relative_error that over predicted. Checking again with the same observation
    returns what is there.

    Raises LawError if the forecast or any record it was made from has changed or is missing, naming them, or
    if it was already checked against another observation.
    """
    content = read(path)
    missing = [name for name in content["records"] if name not in records]
    changed = [name for name, value in content["records"].items() if records.get(name, value) != value]
    if missing or changed:
        both = {"missing": missing, "changed": changed}
        said = [f"{what}: {', '.join(names)}" for what, names in both.items() if names]
        raise LawError(f"the records this forecast was made from are not as they were ({'; '.join(said)}); "
                       "restore them, or make a new forecast of a run nobody has trained")
    observed = float(observed)
    if not (math.isfinite(observed) and observed > 0):
        raise LawError(f"the observed loss must be positive and finite, got {observed}")
    predicted, (low, high) = content["predicted"], content["interval"]
    result = {"observed": observed, "predicted": predicted, "interval": [low, high],
              "level": content["level"],
              "error": observed - predicted, "relative_error": observed / predicted - 1.0,
              "inside": low <= observed <= high, "time": _now(), "forecast_hash": content["hash"]}
    beside = epath.Path(path).parent / CHECK
    try:
        files.atomic_write(beside, files.dumps(result, indent=1) + "\n", exclusive=True)
    except FileExistsError:
        earlier = files.read_json(beside)
        if (earlier["observed"], earlier["forecast_hash"]) != (observed, content["hash"]):
            raise LawError(f"{os.fspath(beside)} holds another check (observed {earlier['observed']}); "
                           "a forecast is checked once") from None
        return earlier
    return result
