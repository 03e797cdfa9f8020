"""A study as its report sees it: what the files of a workdir hold, and why any of them could not be used."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from etils import epath

from scaling.laws import LawError, get_form
from scaling.report import pictures
from scaling.results import metrics, records, tuned
from scaling.store import files

FILES = ("study", "fit", "forecast", "forecast_check", "samples", "baselines", "pictures", "examine")


@dataclass
class Study:
    """What a workdir holds. `missing` says, for each file that could not be used, why."""
    runs: pd.DataFrame                                      # cleaned records, see trends.clean
    cells: pd.DataFrame                                     # the tuned runs of each (N, D), see trends.tuned
    metric: str                                             # column of both
    unit: metrics.Unit
    study: dict | None = None
    fit: dict | None = None
    fits: dict[str, dict] = field(default_factory=dict)     # of other metrics of the same runs
    forecast: dict | None = None
    forecast_check: dict | None = None
    samples: list | None = None
    baselines: dict | None = None
    pictures: list | None = None                            # with their bytes, see pictures.read
    examine: list | None = None
    curves: dict[str, pd.DataFrame] = field(default_factory=dict)  # columns data, and every loss
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def measure(self) -> metrics.Metric:
        return metrics.find_metric(self.metric)

    @property
    def beside(self) -> list[str]:
        """Metrics that are worth figures of their own beside the one that is fitted."""
        asked = (self.study or {}).get("beside", metrics.BESIDE)
        return [name for name in asked if name in self.cells and self.cells[name].notna().any()
                and not (name.startswith(self.metric) or self.metric.startswith(name))]

    def showing(self, metric: str) -> Study:
        """The same runs, tuned for what the study is fitted to, seen by another metric: with its law, if one
        was fitted, and without forecast."""
        return dataclasses.replace(self, metric=metric, fit=self.fits.get(metric), forecast=None,
                                   forecast_check=None)

    def law(self, params, data):
        """The fitted law at N and D; None where there is none in those."""
        return predict(self.fit, {tuned.PARAMS: params, self.unit.seen: data})


def read(workdir) -> Study:
    """Everything the report needs. An absent or damaged file leaves its part None, and `missing` says why."""
    workdir = epath.Path(workdir).expanduser()
    table = records.load_records(workdir)
    found, missing = {}, {}
    for name in FILES:
        path = workdir / f"{name}.json"
        try:
            found[name] = files.read_json(path) if path.exists() else None
        except ValueError as error:
            found[name], missing[name] = None, f"{name}.json cannot be read: {error.__cause__ or error}."
        if found[name] is None:
            missing.setdefault(name, f"{name}.json is not in the workdir yet.")
    try:
        found["fits"] = {path.stem: files.read_json(path) for path in sorted((workdir / "fits").glob("*.json"))}
    except ValueError as error:
        missing["fits"] = f"fits/ cannot be read: {error.__cause__ or error}."
    found["pictures"], lost = pictures.read(workdir, found["pictures"] or [])
    if lost:
        missing["some pictures"] = lost
    held = [name for name in metrics.METRICS if name in table and table[name].notna().any()]
    metric = (found["study"] or {}).get("metric") or (held or ["bits_per_byte"])[0]
    unit = metrics.find_unit(found["study"], table)
    runs = tuned.clean(table, metric, unit)
    curves = {fingerprint: curve for fingerprint in runs["fingerprint"]
              if (curve := _curve(workdir / "curves" / f"{fingerprint}.jsonl", unit)) is not None}
    if not curves:
        missing["curves"] = "There are no training curves in curves/ yet."
    if runs.empty:
        missing["records"] = "There are no records of runs in records/ yet."
    return Study(runs, tuned.tuned_cells(runs, metric), metric, unit, curves=curves, missing=missing, **found)


def _curve(path, unit: metrics.Unit) -> pd.DataFrame | None:
    """Points of one training curve. Lines without numbers, or torn by a killed run, are skipped."""
    if not path.exists():
        return None
    points = []
    for line in path.read_text().splitlines():
        try:
            point = files.loads(line)
            losses = {name: float(point[name]) for name in point if name.rpartition("/")[2] == "loss"}
            points.append({"data": float(point[unit.name]), **losses})
        except (ValueError, TypeError, KeyError):
            continue
    curve = pd.DataFrame(points)
    return curve.sort_values("data") if len(curve.columns) > 1 else None


def predict(fit: Mapping | None, columns: Mapping[str, object]):
    """The fitted law at {column: values}, broadcast together; None without a fit or one of the law's
    columns."""
    try:
        form = get_form((fit or {}).get("form"))
    except LawError:
        return None
    names = [(fit.get("columns") or {}).get(role) for role in form.inputs]
    if not set(names) <= set(columns):
        return None
    inputs = np.broadcast_arrays(*(np.atleast_1d(columns[name]) for name in names))
    logs = np.log(np.stack(inputs).astype(float))
    return form.predict(np.array([[fit["params"][name] for name in form.names]], float), logs)[0]
