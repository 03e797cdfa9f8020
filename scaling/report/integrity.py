"""Whether the files of a forecast are evidence: unedited, registered before its target, and scored against its record."""

from __future__ import annotations

from scaling import laws
from scaling.store import files


def evidence_of(workdir, forecast: dict | None) -> tuple[list[str], list[str]]:
    """(why no verdict may be given on the forecast of a workdir, what a reader should know of it), in sentences.

    forecast: the content of forecast.json where it can be read. What cannot be compared speaks against a verdict.
    """
    try:
        found = laws.forecast.verify(workdir / "forecast.json")
    except (laws.LawError, OSError, files.DamagedFile, ArithmeticError, LookupError, TypeError, ValueError) as error:
        return ([f"The forecast cannot be compared with its log and records: {error}."] if forecast else []), []
    if not forecast:  # a forecast that is not there yet is no problem, but one that the log knows of is
        return (found.problems if found.registrations else []), []
    return found.problems, found.notes
