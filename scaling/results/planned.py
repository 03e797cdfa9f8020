"""The runs of a workdir that belong to its study: those that study.json plans, and the target of its forecast.

A workdir belongs to one study. Older versions let several studies share one, and people copy the records of shards
together, so records of other studies may lie beside those of the plan.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
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
    return {*map(str, runs), *forecast_targets(workdir)}


def forecast_targets(workdir) -> list[str]:
    """The fingerprints of the runs that the forecast of `workdir` is about; [] without a forecast."""
    return target_names(_content(epath.Path(workdir).expanduser() / "forecast.json").get("target"))


def target_names(target) -> list[str]:
    """The fingerprints of the target of a forecast: one, or one for each of its seeds. [] where nothing says it."""
    if not isinstance(target, dict):
        return []
    seeds = target.get("seeds")
    names = seeds if isinstance(seeds, list) and seeds else [target.get("fingerprint")]
    return [name for name in names if isinstance(name, str)]


def load_planned(workdir) -> tuple[pd.DataFrame, int]:
    """(the records of the study of `workdir` as `records.load_records` gives them, the number of records of other studies).

    Runs that those of the study begin with have records there too, and belong to neither.
    """
    table, planned = records.load_records(workdir), planned_runs(workdir)
    if planned is None:
        return table, 0
    belongs = table["fingerprint"].isin(planned)
    others = ~belongs & (table["role"] != "start")
    return with_asked_roles(table[belongs], planned).reset_index(drop=True), int(others.sum())


def with_asked_roles(table: pd.DataFrame, asked: Collection[str]) -> pd.DataFrame:
    """A table of records, in which runs that were trained for others to begin with are of the sweep if they are `asked` for
    now."""
    others = (table["role"] == "start") & table["fingerprint"].isin(asked)
    return table.assign(role=table["role"].mask(others, "sweep")) if others.any() else table


def _content(path) -> dict:
    """The dict in a JSON file, {} where there is none. A damaged file is {} with a warning, since runs are chosen by it."""
    try:
        found = files.read_json(path) if path.exists() else {}
    except ValueError as error:
        warnings.warn(f"{error}. Which runs belong to the study is known in part only", stacklevel=4)
        return {}
    return found if isinstance(found, dict) else {}
