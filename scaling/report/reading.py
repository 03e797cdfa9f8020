"""The files of a workdir, as a report uses them: their content, and for each missing or damaged file the reason."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from etils import epath

from scaling.figures import words
from scaling.laws import LawError, get_form
from scaling.report import bootstraps, curves, pictures
from scaling.report.integrity import evidence_of
from scaling.report.shapes import SHAPES, fault
from scaling.results import metrics, pairs, planned, records, tuned
from scaling.store import files

YET = " yet."  # ends the sentence about a file that a later stage of the study will write
FILES = ("study", "fit", "forecast", "forecast_check", "samples", "baselines", "pictures", "sounds", "examine",
         "positions")


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
    pictures: list | None = None                            # with their bytes, see pictures.read_listed
    sounds: list | None = None                              # with their bytes, likewise
    examine: list | None = None
    positions: list | None = None
    curves: dict[str, pd.DataFrame] = field(default_factory=dict)  # by fingerprint, see curves.curve_of_run
    missing: dict[str, str] = field(default_factory=dict)
    others: int = 0                                         # records in the workdir that are not of this study
    errors: pairs.EvaluationErrors | None = None                      # of the evaluation of tuned runs and target
    tampered: list[str] = field(default_factory=list)       # why there is no verdict, see integrity.evidence_of
    forecast_notes: list[str] = field(default_factory=list)
    unsure: str = ""                                        # why the fit has no intervals
    broken: dict[str, str] = field(default_factory=dict)    # a sentence for each part of the page that could not be made

    @property
    def failed(self) -> list[str]:
        """A sentence for each part that could not be made when the study ended, such as its samples."""
        failed = (self.study or {}).get("failed") or []
        return [f"{name}: {why}" for name, why in failed.items()] if isinstance(failed, dict) else list(failed)

    @property
    def damaged(self) -> list[str]:
        """A sentence for each file that is there and could not be used."""
        return [said for said in self.missing.values() if not said.endswith(YET)]

    @property
    def measure(self) -> metrics.Metric:
        return metrics.find_metric(self.metric)

    @property
    def solved(self) -> bool:
        """Whether the models were solved for, such as n-gram models, so that no learning rate was tuned."""
        return "solved" in self.runs and bool((self.runs["solved"] == True).all())  # noqa: E712, a column of objects

    @property
    def choice(self) -> str:
        """What the tuned run of a cell is the best of."""
        return "the best settings" if self.solved else "the best learning rate"

    @property
    def passes(self) -> str:
        """What the FLOPs of the model are spent on."""
        return "for counting or solving" if self.solved else "forward and backward"

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
    """Everything that the report of `workdir` needs. Raises `files.WorkdirError` when it is not a directory.

    Records that do not belong to the study, as study.json lists its runs, are left out and counted in `others`.
    """
    workdir = epath.Path(workdir).expanduser()
    table, others, missing = _records(workdir)
    found = {name: _content(workdir / f"{name}.json", SHAPES[name], missing) for name in FILES}
    fits = {path.stem: _content(path, SHAPES["fit"], missing) for path in sorted((workdir / "fits").glob("*.json"))}
    for name, kind in (("pictures", "png"), ("sounds", "wav")):
        found[name], lost = pictures.read_listed(workdir, found[name] or [], kind)
        if lost:
            missing[f"some {name}"] = lost
    study = found["study"]
    held = [name for name in metrics.METRICS if name in table and table[name].notna().any()]
    metric = (study or {}).get("metric") or (held or ["bits_per_byte"])[0]
    unit = metrics.find_unit(study, table)
    runs = tuned.clean(table, metric, unit)
    read = {fingerprint: curves.curve_of_run(workdir / "curves" / f"{fingerprint}.jsonl", unit, seen, seal)
            for fingerprint, seen, seal in zip(runs["fingerprint"], runs[unit.seen], records.curve_seals(runs))}
    kept = {fingerprint: curve for fingerprint, (curve, _) in read.items() if curve is not None}
    torn = [why for _, why in read.values() if why]
    if not kept:
        missing["curves"] = "there are no training curves in curves/ yet."
    if torn:
        missing["some curves"] = f"{words.listing(torn[:3])}{f', and {len(torn) - 3} more' if len(torn) > 3 else ''}."
    if runs.empty:
        missing.setdefault("records", "there are no records of runs in records/ yet.")
    found["fit"], found["unsure"] = bootstraps.without_failed_intervals(found["fit"])
    fits = {name: bootstraps.without_failed_intervals(fit)[0] for name, fit in fits.items() if fit is not None}
    tampered, notes = evidence_of(workdir, found["forecast"])
    cells = tuned.tuned_cells(runs, metric)
    targets = planned.target_names((found["forecast"] or {}).get("target"))
    names = [*cells["fingerprint"], *runs.loc[runs["fingerprint"].isin(targets), "fingerprint"]]
    return StudyFiles(runs, cells, metric, unit, errors=pairs.read_errors(workdir, names, metric), curves=kept,
                      missing=missing, fits=fits, others=others, tampered=tampered, forecast_notes=notes, **found)


def made_or_said(study: StudyFiles, name: str, make: Callable, empty):
    """`make(study)`; or `empty`, with a sentence in `study.broken`, where the files hold what no check foresaw.

    A page that lacks a part is worth more than no page. The sentence stands at its top.
    """
    try:
        return make(study)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        study.broken[name] = (f"The part {name!r} of this page is left out, because a file of the workdir has damaged or "
                              f"unknown content ({type(error).__name__}: {error}).")
        return empty


def _records(workdir) -> tuple[pd.DataFrame, int, dict[str, str]]:
    """(the records of the study, how many others there are, {"some records": sentence} about those that cannot be read)."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        table, others = planned.load_planned(workdir)
    torn = [str(one.message) for one in said if "records" in str(one.message)]
    for one in said:
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if "fingerprint" not in table:
        table["fingerprint"] = pd.Series(dtype=str)
    named = table["fingerprint"].map(lambda name: isinstance(name, str))
    if not named.all():
        torn.append(f"{words.plural(int((~named).sum()), 'record')} without a fingerprint")
    return table[named].reset_index(drop=True), others, {"some records": f"{'; '.join(torn)}."} if torn else {}


def _content(path, shape, missing: dict[str, str]):
    """The content of a JSON file that has the shape, or None with a sentence in `missing` under the file's name."""
    name = path.stem if path.parent.name != "fits" else f"fits/{path.stem}"
    try:
        if not path.exists():
            missing[name] = f"{name}.json is not in the workdir yet."
            return None
        content = files.read_json(path)
    except (ValueError, OSError) as error:
        missing[name] = f"{str(error).replace(os.fspath(path), f'{name}.json')}."
        return None
    if wrong := fault(content, shape):
        missing[name] = f"{name}.json cannot be used: {wrong}. Restore or delete it."
        return None
    return content


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
