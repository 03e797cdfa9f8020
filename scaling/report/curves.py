"""Training curves as a report reads them: complete lines only, and a remark where lines or the end are lost."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import pandas as pd

from scaling.results import logs, metrics

SHORT = 0.9  # a curve that ends before this part of its run has lost its end; logs have a point every few steps


def curve_of_run(path, unit: metrics.Unit, seen: float, seal: dict | None = None) -> tuple[pd.DataFrame | None, str]:
    """(the points of one training curve, what is wrong with its file or "").

    Columns are `data`, every loss ("loss", "<player>/loss"), and every "validation/<metric>". seen: the units of data that
    the run was trained on. seal: what its record says of the whole curve, see `logs.curve_seal`; older records say nothing.
    """
    name = "/".join(os.fspath(path).split("/")[-2:])
    if not path.exists():
        return None, f"{name} is missing" if seal is not None else ""
    found, problem = logs.examine_curve(path, seal)
    curve, whole = curve_of_points(found, unit)
    if not whole:
        problem = problem or f"{name} has points without numbers"
    if problem:
        return curve, problem.replace(os.fspath(path), name)
    short = curve is None or (seen > 0 and len(curve) > 3 and curve["data"].iloc[-1] < SHORT * seen)
    return curve, f"{name} is cut off before the end of its run" if short and seal is None else ""


def curve_of_points(found: Iterable[Mapping], unit: metrics.Unit) -> tuple[pd.DataFrame | None, bool]:
    """(the columns of `curve_of_run` from points of a curve, None without any; whether all points have numbers)."""
    points, whole = [], True
    for point in found:
        try:
            kept = {name: float(point[name]) for name in point if _shown(name) and point[name] is not None}
            points.append({"data": float(point[unit.name]), **kept})
        except (ValueError, TypeError, KeyError):
            whole = False
    curve = pd.DataFrame(points)
    return curve.sort_values("data") if len(curve.columns) > 1 else None, whole


def _shown(name: str) -> bool:
    return name.rpartition("/")[2] == "loss" or name.startswith(logs.VALIDATION)
