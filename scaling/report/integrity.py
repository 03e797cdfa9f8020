"""Whether the files of a forecast are evidence: unedited, registered before its target, and checked against its record."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from scaling import laws
from scaling.store import files


def tampering(workdir, found: Mapping, runs: pd.DataFrame, metric: str) -> list[str]:
    """Sentences about why a forecast that is there is no evidence; empty where it is.

    found: the contents of forecast.json and forecast_check.json under "forecast" and "forecast_check".
    """
    forecast, check = found["forecast"], found["forecast_check"]
    if not forecast:
        return []
    said = []
    try:
        laws.forecast.read(workdir / "forecast.json")
    except (laws.LawError, files.WorkdirError) as error:
        said.append(f"{str(error).replace(f'{workdir}/', '')}.")
    if forecast.get("registered_late"):
        why = forecast.get("registered_late_reason") or forecast["registered_late"]
        said.append(f"The forecast was registered late{f': {why}' if isinstance(why, str) else ''}.")
    if check:
        said += _of_check(forecast, check, runs, metric)
    return said


def _of_check(forecast: Mapping, check: Mapping, runs: pd.DataFrame, metric: str) -> list[str]:
    said = []
    low, high = forecast["interval"]
    if check.get("forecast_hash") != forecast.get("hash"):
        said.append("forecast_check.json belongs to another forecast than forecast.json.")
    elif check["predicted"] != forecast["predicted"] or check["inside"] != (low <= check["observed"] <= high):
        said.append("forecast_check.json was changed after it was written: it does not agree with forecast.json.")
    recorded = runs.loc[runs["fingerprint"] == forecast["target"].get("fingerprint"), metric].dropna()
    if len(recorded) and recorded.iloc[0] != check["observed"]:
        said.append(f"The record of the target says {recorded.iloc[0]:.6g}, and forecast_check.json says "
                    f"{check['observed']:.6g}: one of them was changed.")
    return said
