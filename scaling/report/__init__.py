"""The report of a study: one HTML file that opens offline, made from the files in its workdir alone.

    path = scaling.report.write(workdir)   # workdir/report/index.html; figures in report/figures/*.png
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
from dataclasses import dataclass, field

import jinja2
import pandas as pd
from etils import epath

from scaling import files, records
from scaling.report import captions, figures, sections, trends
from scaling.report.palette import Palette

FILES = ("study", "fit", "forecast", "forecast_check", "samples")


@dataclass
class Study:
    """What a workdir holds. `missing` says, for each file that could not be used, why."""
    runs: pd.DataFrame                                      # cleaned records, see trends.clean
    cells: pd.DataFrame                                     # the tuned run of each (N, D)
    metric: str
    study: dict | None = None
    fit: dict | None = None
    forecast: dict | None = None
    forecast_check: dict | None = None
    samples: list | None = None
    curves: dict[str, pd.DataFrame] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def read(workdir) -> Study:
    """Everything the report needs. An absent or damaged file leaves its part None, and `missing` says why."""
    workdir = epath.Path(workdir).expanduser()
    table = records.load(workdir)
    found, missing = {}, {}
    for name in FILES:
        path = workdir / f"{name}.json"
        try:
            found[name] = files.read_json(path) if path.exists() else None
        except ValueError as error:
            found[name], missing[name] = None, f"{name}.json cannot be read: {error.__cause__ or error}."
        if found[name] is None:
            missing.setdefault(name, f"{name}.json is not in the workdir yet.")
    metric = (found["study"] or {}).get("metric") or "bits_per_byte"
    runs = trends.clean(table, metric)
    curves = {fingerprint: curve for fingerprint in runs["fingerprint"]
              if (curve := _curve(workdir / "curves" / f"{fingerprint}.jsonl")) is not None}
    if not curves:
        missing["curves"] = "There are no training curves in curves/ yet."
    if runs.empty:
        missing["records"] = "There are no records of runs in records/ yet."
    return Study(runs, trends.tuned(runs, metric), metric, curves=curves, missing=missing, **found)


def _curve(path) -> pd.DataFrame | None:
    """Points of one training curve. Lines without numbers, or torn by a killed run, are skipped."""
    if not path.exists():
        return None
    points = []
    for line in path.read_text().splitlines():
        try:
            point = files.loads(line)
            points.append({name: float(point[name]) for name in ("tokens", "loss")})
        except (ValueError, TypeError, KeyError):
            continue
    return pd.DataFrame(points).sort_values("tokens") if points else None


def write(workdir) -> epath.Path:
    """Writes workdir/report/index.html (atomically) and report/figures/*.png; returns the path of the former.

    Whatever is not there yet (fit, forecast, samples, ...) is left out with a sentence that says so. Raises
    `records.WorkdirError` when `workdir` is not a directory.
    """
    workdir = epath.Path(workdir).expanduser()
    study = read(workdir)
    palette = colours(study)
    drawn = figures.render(captions.plans(study, palette), palette)
    for name, figure in drawn.items():
        files.atomic_write(workdir / "report" / "figures" / f"{name}.png", figure["png"])
    path = workdir / "report" / "index.html"
    files.atomic_write(path, render(study, palette, drawn))
    return path


def colours(study: Study) -> Palette:
    """One colour for each size and amount of data of the sweep, or of the fit where there are no records."""
    sweep = study.runs[study.runs["role"] == "sweep"]
    if sweep.empty and study.fit:
        sweep = pd.DataFrame(study.fit.get("points") or [], columns=[trends.PARAMS, trends.DATA])
        sweep["data"] = sweep[trends.DATA]
    return Palette(sweep[trends.PARAMS].dropna(), sweep["data"].dropna())


def render(study: Study, palette: Palette, drawn: dict[str, dict]) -> str:
    """The page. Its content security policy refuses every request, and every script but its own.

    That holds whatever a sample or a title contains, and comes on top of escaping them.
    """
    script = _text("sort.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _environment().get_template("report.html.j2").render(
        study=study, palette=palette, figures=drawn, style=_text("style.css"), script=script,
        script_digest=digest,
        **sections.content(study))


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(loader=jinja2.FunctionLoader(_text), autoescape=True,
                              undefined=jinja2.StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)


def _text(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
