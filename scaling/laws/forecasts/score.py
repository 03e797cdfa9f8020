"""The score of a forecast: its error in three units, its place in the interval, and the errors of naive forecasters."""
from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from scaling.laws.forecasts.naive import crossing, same_as_law
from scaling.laws.forecasts.prediction import in_space
from scaling.laws.forms.form import LawError


def score(content: Mapping, observed: float) -> dict:
    """The score of a forecast (from `forecast.write`) against the observed metric, as plain values.

    error is observed minus predicted. errors has it in three units: relative to the prediction; of_fall, relative to the
    fall from the best fitted run to the observed value; and compute, the multiple of the target's compute at which the law
    has the observed value. A unit that does not exist is None, and errors_left_out says why. z is the distance from the
    median of the predictive distribution in units of its spread, rank the share of it below the observation. naive_errors
    has relative and of_fall for each naive forecaster; naive_same lists those that are the law itself, naive_best is the
    closest of the others (or None), and naive_inside lists the others that lie in the interval.

    Forecasts of older versions have no naive forecasters. Raises LawError if the observation is no possible value.
    """
    predicted, (low, high), kept = content["predicted"], content["interval"], content["distribution"]
    if not math.isfinite(observed) or (kept["space"] == "log" and observed <= 0):
        wanted = "positive and finite" if kept["space"] == "log" else "finite"
        raise LawError(f"the observed {content['metric']} must be {wanted}, got {observed}")
    median = kept["values"][kept["levels"].index(0.5)]
    off = float(np.subtract(*in_space(kept["space"], [observed, median])))
    z = off / kept["spread"] if kept["spread"] else math.copysign(math.inf, off) if off else 0.0
    found = {"observed": observed, "predicted": predicted, "interval": [low, high], "level": content["level"],
             "error": observed - predicted, "relative_error": _relative(observed, predicted),
             "inside": low <= observed <= high, "z": z,
             "rank": float(np.interp(observed, kept["values"], kept["levels"], left=0.0, right=1.0))}
    if "naive" in content:
        found |= _sharpness(content, observed)
    return found | {"verdict": _verdict(content, found)}


def _sharpness(content: Mapping, observed: float) -> dict:
    best, (low, high) = content["best_fitted"], content["interval"]
    fall = observed - best if content["rises"] else best - observed
    ray = content["ray"]
    multiple, why = crossing(ray, observed)
    left_out = {}
    if fall <= 0:
        left_out["of_fall"] = "the target is not better than the best fitted run"
    if ray and ray["of"] != "compute":
        multiple, why = None, f"the law is in {ray['of']} and not in compute"
    if why:
        left_out["compute"] = why

    def units(value):
        return {"relative": _relative(observed, value), "of_fall": (observed - value) / fall if fall > 0 else None}
    naive, same = content["naive"], same_as_law(content["naive"], content["predicted"])
    others = [name for name in naive if name not in same]
    return {"width": content["width"], "errors": {**units(content["predicted"]), "compute": multiple},
            "errors_left_out": left_out, "naive": naive, "naive_same": same,
            "naive_errors": {name: units(value) for name, value in naive.items()},
            "naive_best": min(others, key=lambda name: abs(observed - naive[name]), default=None),
            "naive_inside": [name for name in others if low <= naive[name] <= high]}


def _relative(observed: float, value: float) -> float | None:
    return (observed - value) / abs(value) if value else None


def _verdict(content: Mapping, found: Mapping) -> str:
    """The score in a few sentences, of which the last says whether the forecast held."""
    observed, predicted, (low, high), z = (found[name] for name in ("observed", "predicted", "interval", "z"))
    errors = found.get("errors") or {"relative": found["relative_error"]}
    said = [f"{errors['relative']:+.2%}" if errors["relative"] is not None else f"{found['error']:+.3g}"]
    if errors.get("of_fall") is not None:
        share, way = abs(errors["of_fall"]), "rise" if content["rises"] else "fall"
        said.append(f"{f'{share:.0%} of' if share < 10 else f'{share:.3g} times'} the {way} from the best fitted run")
    if errors.get("compute") is not None:
        said.append(f"the law predicts this value for {errors['compute']:.3g} times the compute")
    elif why := found.get("errors_left_out", {}).get("compute"):
        said.append(why)
    width = f", {found['width']:.2g} of the prediction wide" if found.get("width") and found["width"] >= 1 else (
        f", {found['width']:.1%} wide" if found.get("width") else "")
    text = (f"{content['metric']} was forecast as {predicted:.5g} and observed as {observed:.5g} ({'; '.join(said)}): "
            f"{'inside' if found['inside'] else 'outside'} the {content['level']:.0%} interval "
            f"[{low:.5g}, {high:.5g}]{width}, "
            f"{abs(z):.1f} standard deviations {'above' if z > 0 else 'below'} its middle.")
    if found.get("naive_best"):
        text += f" {_of_naive(found)}"
    for name in found.get("naive_same", ()):
        text += f" The {name} is the fitted law itself, whose E is 0."
    return f"{text} The forecast {'held' if found['inside'] else 'missed'}."


def _of_naive(found: Mapping) -> str:
    name = found["naive_best"]
    value, error = found["naive"][name], found["naive_errors"][name]["relative"]
    closer = abs(found["observed"] - value) < abs(found["error"])
    text = (f"The best naive forecaster, the {name}, said {value:.5g}"
            f"{f' ({error:+.2%})' if error is not None else ''}{', which is closer' if closer else ''}.")
    if (inside := found["naive_inside"]) and found["inside"]:
        text += (f" The interval also holds the {' and the '.join(inside)}: a forecast without the law would lie "
                 "inside as well.")
    return text
