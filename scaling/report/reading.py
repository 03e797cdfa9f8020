"""The files of a workdir, as a report uses them: their content, and for each missing or damaged file the reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from etils import epath

from scaling.laws import LawError, get_form
from scaling.report import pictures
from scaling.results import logs, metrics, planned, records, tuned
from scaling.store import files

FILES = ("study", "fit", "forecast", "forecast_check", "samples", "baselines", "pictures", "examine")


@dataclass
class StudyFiles:
    """The content of a workdir. `missing` holds a sentence for each file that could not be used.

    A part whose file is absent or damaged is None.
    """
    runs: pd.DataFrame                                      # cleaned records, see tuned.clean
    cells: pd.DataFrame                                     # the tuned runs of each (N, D), see tuned.tuned_cells
    metric: str                                             # a column of both tables
    unit: metrics.Unit
    study: dict | None = None
    fit: dict | None = None
    fits: dict[str, dict] = field(default_factory=dict)     # of other metrics of the same runs
    forecast: dict | None = None
    forecast_check: dict | None = None
    samples: list | None = None
    baselines: dict | None = None
    pictures: list | None = None                            # with their bytes, see pictures.read_pictures
    examine: list | None = None
    curves: dict[str, pd.DataFrame] = field(default_factory=dict)  # by fingerprint: columns data, and every loss
    missing: dict[str, str] = field(default_factory=dict)
    others: int = 0                                         # records in the workdir that are not of this study

    @property
    def failed(self) -> list[str]:
        """A sentence for each part that could not be made when the study ended, such as its samples."""
        return list((self.study or {}).get("failed") or [])

    @property
    def measure(self) -> metrics.Metric:
        return metrics.find_metric(self.metric)

    @property
    def compute(self) -> str:
        """The column of FLOPs that the fit and the forecast count in: "flops", those of the model, or "flops_executed".

        Results version 2 fitted with the FLOPs that training executed. The fit of such a workdir keeps them.
        """
        points = pd.DataFrame((self.fit or {}).get("points") or [])
        if not {"fingerprint", "flops"} <= set(points) or "flops_executed" not in self.runs:
            return "flops"
        recorded = self.runs.set_index("fingerprint").loc[lambda runs: ~runs.index.duplicated()]
        recorded = recorded.reindex(points["fingerprint"])
        of_model, executed = (np.allclose(points["flops"].to_numpy(float), recorded[column].to_numpy(float), rtol=1e-6)
                              for column in ("flops", "flops_executed"))
        return "flops_executed" if executed and not of_model else "flops"

    @property
    def target_compute(self) -> float | None:
        """FLOPs of the target run in the column `compute`: as recorded or, before it was trained, as forecast."""
        target = (self.forecast or {}).get("target") or {}
        recorded = self.runs.loc[self.runs["fingerprint"] == target.get("fingerprint"), self.compute].dropna()
        return float(recorded.iloc[0]) if len(recorded) else target.get("flops")

    @property
    def beside(self) -> list[str]:
        """The metrics that get figures of their own beside the metric that is fitted."""
        asked = (self.study or {}).get("beside", metrics.BESIDE)
        return [name for name in asked if name in self.cells and self.cells[name].notna().any()
                and not (name.startswith(self.metric) or self.metric.startswith(name))]

    def showing(self, metric: str) -> StudyFiles:
        """The same tuned runs, shown by another metric, with the law of that metric if one was fitted.

        The runs stay tuned for the metric of the study. The result has no forecast."""
        return dataclasses.replace(self, metric=metric, fit=self.fits.get(metric), forecast=None,
                                   forecast_check=None)

    def law(self, params, data):
        """The fitted law at N and D; None without a fit, or where the law has other inputs."""
        return law_values(self.fit, {tuned.PARAMS: params, self.unit.seen: data})


def read_study(workdir) -> StudyFiles:
    """Everything that the report of `workdir` needs. Raises `files.WorkdirError` when it is not a directory."""
    workdir = epath.Path(workdir).expanduser()
    table, others = planned.load_planned(workdir)
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
    found["pictures"], lost = pictures.read_pictures(workdir, found["pictures"] or [])
    if lost:
        missing["some pictures"] = lost
    held = [name for name in metrics.METRICS if name in table and table[name].notna().any()]
    metric = (found["study"] or {}).get("metric") or (held or ["bits_per_byte"])[0]
    unit = metrics.find_unit(found["study"], table)
    runs = tuned.clean(table, metric, unit)
    damaged: list[str] = []
    curves = {fingerprint: curve for fingerprint, seal in zip(runs["fingerprint"], records.curve_seals(runs), strict=True)
              if (curve := _curve(workdir / "curves" / f"{fingerprint}.jsonl", unit, seal, damaged)) is not None}
    if damaged:
        missing["some curves"] = "; ".join(damaged) + "."
    if not curves:
        missing["curves"] = "there are no training curves in curves/ yet."
    if runs.empty:
        missing["records"] = "there are no records of runs in records/ yet."
    return StudyFiles(runs, tuned.tuned_cells(runs, metric), metric, unit, curves=curves, missing=missing, others=others,
                      **found)


def _curve(path, unit: metrics.Unit, seal, damaged: list) -> pd.DataFrame | None:
    """The points of one training curve. Points without numbers are skipped; a sentence on damage is added to `damaged`."""
    if not path.exists():
        if seal is not None:
            damaged.append(f"the curve {path} is missing")
        return None
    found, problem = logs.examine_curve(path, seal)
    damaged += [problem] if problem else []
    points = []
    for point in found:
        try:
            losses = {name: float(point[name]) for name in point
                      if name.rpartition("/")[2] == "loss" or name.startswith(logs.VALIDATION)}
            points.append({"data": float(point[unit.name]), **losses})
        except (ValueError, TypeError, KeyError):
            continue
    curve = pd.DataFrame(points)
    return curve.sort_values("data") if len(curve.columns) > 1 else None


def law_values(fit: Mapping | None, columns: Mapping[str, object]) -> np.ndarray | None:
    """The fitted law at {column: values}, which are broadcast together.

    None without a fit, for a law that is not in `laws.FORMS`, and where a column of the law is not given.
    """
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
