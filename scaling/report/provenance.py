"""The last section of a study's page: what another person needs to repeat the study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from scaling.figures.words import missing
from scaling.report.reading import StudyFiles


def provenance(study: StudyFiles) -> dict:
    """The command, the configuration, versions, hashes and times of a study, as the template shows them."""
    about, runs, forecast = study.study or {}, study.runs, study.forecast or {}
    config = about.get("config")

    def recorded(column: str) -> str:
        return ", ".join(sorted(map(str, runs[column].dropna().unique()))) if column in runs else ""

    versions = dict(about.get("versions") or {})
    for column in runs.columns:
        if column.startswith("versions."):
            versions.setdefault(column.removeprefix("versions."), recorded(column))
    known = [("Configuration", None if isinstance(config, Mapping) else config),
             ("Commit", about.get("git_commit") or recorded("git_commit")),
             ("Data", recorded("data_fingerprint")), ("Samples judged by", "; ".join(judges(runs))),
             ("Forecast written", forecast.get("time")),
             ("Forecast checked", (study.forecast_check or {}).get("time")),
             ("Forecast hash", forecast.get("hash"))]
    return {"command": about.get("command"), "facts": [(name, value) for name, value in known if value],
            "config": "\n".join(_config_lines(config)) if isinstance(config, Mapping) else "",
            "versions": [(name, value) for name, value in versions.items() if value]}


def _config_lines(config: Mapping, within: str = "") -> Iterator[str]:
    """The fields of a nested configuration, one line each: data.batch = 8."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _config_lines(value, f"{within}{name}.")
        else:
            yield f"{within}{name} = {value!r}"


def judges(runs: pd.DataFrame) -> list[str]:
    """The ways in which samples were judged, as the records describe them: one text for each different way."""
    columns = [name for name in runs if name.startswith("judge.")]
    ways = runs[columns].dropna(how="all").astype(str).drop_duplicates()
    return [", ".join(f"{name.removeprefix('judge.').replace('_', ' ')} {value[:24]}"
                      for name, value in way.items() if not missing(value) and value != "nan")
            for _, way in ways.iterrows()]
