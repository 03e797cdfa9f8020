"""The verdict on a study's forecast: whether it held, how sharp it was, and what had been said without the fit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from scaling import laws
from scaling.figures.words import count, interval, listing, number, percent, short, to_error
from scaling.report.reading import StudyFiles
from scaling.results import planned, tuned
from scaling.results.metrics import find_metric
from scaling.results.tuned import PARAMS


def verdict(study: StudyFiles) -> dict | None:
    """The headline: the forecast against the observed value. `held` is None while nothing was observed."""
    forecast, check = study.forecast, study.forecast_check
    if not forecast:
        return None
    low, high = forecast["interval"]
    half = (high - low) / 2
    amount, ratio, target = study.measure.amount, forecast.get("compute_ratio"), forecast["target"]
    at = [f"{count(target[column])} {name}" for column, name in ((PARAMS, "non-embedding parameters"),
                                                                  (study.unit.seen, study.unit.name))
          if target.get(column) is not None]
    text = {"predicted": amount(to_error(forecast["predicted"], half)), "interval": interval(low, high),
            "held": bool(check["inside"]) if check else None, "tampered": study.tampered,
            "level": percent(forecast["level"]), "at": listing(at) or "the target run",
            "ratio": short(ratio) if ratio else None, "first": _written_first(study), "sharp": list(_sharpness(study))}
    if check:
        error, of = check["observed"] - forecast["predicted"], abs(forecast["predicted"])
        text["observed"] = observed(study)
        share = f" ({percent(abs(error) / of)})" if of else ""
        text["error"] = f"{number(abs(error), 2)}{share} {'above' if error > 0 else 'below'} the forecast"
    return text


def observed(study: StudyFiles) -> str:
    """What the target run reached, to the digits of its standard error where that is recorded.

    Of a target with several seeds it is their mean. The standard error then counts their scatter too.
    """
    low, high = study.forecast["interval"]
    runs = study.runs[study.runs["fingerprint"].isin(planned.target_names(study.forecast["target"]))]
    errors, value = tuned.standard_error(runs, study.metric).dropna(), study.forecast_check["observed"]
    seeds = f" in the mean of {len(runs)} seeds" if len(runs) > 1 else ""
    if len(errors) and errors.iloc[0] > 0:
        error = float(np.hypot(errors.median(), runs[study.metric].sem() if seeds else 0.0))
        return study.measure.amount(f"{to_error(value, error)} ± {number(error, 2)}") + seeds
    return study.measure.amount(to_error(value, (high - low) / 2)) + seeds


def _written_first(study: StudyFiles) -> str:
    """When the forecast was written, as far as the files show it, or "".

    A forecast whose log shows no late registration was registered before the target's training began.
    """
    target = study.forecast["target"].get("fingerprint")
    ends = list(study.runs.loc[study.runs["fingerprint"] == target, "finished"])[:1]
    times = pd.to_datetime([study.forecast.get("time"), *ends], utc=True, errors="coerce", format="ISO8601")
    if len(times) < 2 or not times[0] < times[1]:
        return ""
    logged = "registration" in (study.forecast or {}) and not study.tampered
    return "registered before that run was trained" if logged else "written before that run finished"


def best_fitted(study: StudyFiles) -> float:
    """The best value of the tuned runs, NaN without any."""
    values = study.cells[study.metric]
    return float(values.max() if find_metric(study.metric).rises else values.min())


def _sharpness(study: StudyFiles) -> Iterator[str]:
    """Sentences about the width of the interval, the error in three units, and naive forecasts."""
    forecast, check = study.forecast or {}, study.forecast_check or {}
    known = {**forecast, **check}
    low, high = forecast["interval"]
    predicted, best = forecast["predicted"], best_fitted(study)
    width = known.get("width") if _is_number(known.get("width")) else (high - low) / abs(predicted) if predicted else None
    fall = abs(best - predicted)
    if width is not None:
        of_fall = f", and {percent((high - low) / fall)} of the change from the best fitted run to the forecast"
        yield "The interval covers the uncertainty of the law and the scatter of one run."
        yield f"It is as wide as {percent(width)} of the predicted value{of_fall if fall else ''}."
    if "observed" in check:
        yield from _errors(study, known, best)
    yield from _naive(study, known)
    yield from study.forecast_notes


def _errors(study: StudyFiles, known: dict, best: float) -> Iterator[str]:
    """The error in three units: the metric, the fall from the best fitted run, and compute."""
    errors = known["errors"] if isinstance(known.get("errors"), dict) else known
    predicted, seen = study.forecast["predicted"], known["observed"]
    relative = errors.get("relative", (seen - predicted) / abs(predicted) if predicted else None)
    of_fall = errors.get("of_fall", (seen - predicted) / abs(seen - best) if seen != best else None)
    parts = []
    if _is_number(relative):
        parts.append(f"{percent(abs(relative))} of the {study.measure.noun}")
    if _is_number(of_fall):
        parts.append(f"{percent(abs(of_fall))} of the {'rise' if study.measure.rises else 'fall'} from the best fitted run "
                     "to the target run")
    if parts:
        yield f"The error of the forecast is {listing(parts)}."
    left_out = known.get("errors_left_out")
    if _is_number(errors.get("compute")):
        yield (f"In units of compute: the law predicts the observed value for {short(errors['compute'])} times the "
               "compute of the target.")
    elif isinstance(left_out, dict) and left_out.get("compute"):
        yield f"In compute it has no value: {left_out['compute']}."


def _naive(study: StudyFiles, known: dict) -> Iterator[str]:
    """What other forecasters said, and how far they were off."""
    naive = {name: float(value) for name, value in (known.get("naive") or {}).items() if _is_number(value)} \
        if isinstance(known.get("naive"), dict) else {}
    if not naive and np.isfinite(best := best_fitted(study)):
        naive = {"best fitted run": best}
    if not naive:
        return
    half = (study.forecast["interval"][1] - study.forecast["interval"][0]) / 2
    seen = known.get("observed")
    off = {name: f" ({percent(abs(seen / value - 1))} off)" if seen is not None and value else ""
           for name, value in naive.items()}
    same = laws.forecast.same_as_law(naive, study.forecast["predicted"])
    said = [f"{_the(name)} gives {to_error(value, half)}{off[name]}" for name, value in naive.items()]
    yield f"Naive forecasts of the target, from the same runs: {listing(said)}."
    for name in same:
        yield f"Here {_the(name)} is the fitted law itself, whose E is 0."
    naive = {name: value for name, value in naive.items() if name not in same}
    if seen is not None:
        own = abs(study.forecast["predicted"] - seen)
        better = [name for name, value in naive.items() if abs(value - seen) <= own]
        inside = [name for name, value in naive.items() if _inside(study, value)]
        if inside and _inside(study, seen):
            yield (f"The interval also holds {listing(list(map(_the, inside)))}, so a forecast without the law would lie "
                   "inside as well.")
        if better:
            yield f"The forecast was no closer than {listing(list(map(_the, better)))}."


def _inside(study: StudyFiles, value: float) -> bool:
    low, high = study.forecast["interval"]
    return low <= value <= high


def _the(name: str) -> str:
    return name if name.startswith("the ") else f"the {name}"


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))
