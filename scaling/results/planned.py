"""The runs of a workdir that belong to its study: those that study.json plans, and the target of its forecast.

A workdir belongs to one study. Older versions let several studies share one, and people copy the records of shards
together, so records of other studies may lie beside those of the plan.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from etils import epath

from scaling.results import records
from scaling.store import files

if TYPE_CHECKING:
    import pandas as pd


def planned_runs(workdir) -> set[str] | None:
    """The fingerprints that belong to the study of `workdir`.

    None where study.json is absent, damaged, or of a version that did not list its runs: then every record counts.
    """
    workdir = epath.Path(workdir).expanduser()
    runs = _content(workdir / "study.json").get("runs")
    if not isinstance(runs, list):
        return None
    target = forecast_target(workdir)
    return {*map(str, runs), *([] if target is None else [target])}


def forecast_target(workdir) -> str | None:
    """The fingerprint of the run that the forecast of `workdir` is about; None without a forecast."""
    target = _content(epath.Path(workdir).expanduser() / "forecast.json").get("target")
    return target.get("fingerprint") if isinstance(target, dict) else None


def load_planned(workdir) -> tuple[pd.DataFrame, int]:
    """(the records of the study of `workdir` as `records.load_records` gives them, the number of other records there)."""
    table, planned = records.load_records(workdir), planned_runs(workdir)
    if planned is None:
        return table, 0
    belongs = table["fingerprint"].isin(planned)
    return table[belongs].reset_index(drop=True), int((~belongs).sum())


def _content(path) -> dict:
    """The dict in a JSON file, {} where there is none. A damaged file is {} with a warning, since runs are chosen by it."""
    try:
        found = files.read_json(path) if path.exists() else {}
    except ValueError as error:
        warnings.warn(f"{error}. Which runs belong to the study is known in part only", stacklevel=4)
        return {}
    return found if isinstance(found, dict) else {}
