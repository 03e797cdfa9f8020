"""How sharp a forecast is: its width, what forecasters without a law would have said, and the law around the target.

All of it is computed when the forecast is written, from the runs that the law was fitted to.
"""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from scaling.laws.fitting.search import fit_again
from scaling.laws.forecasts.twostep import TwoStep
from scaling.laws.forms.form import LawError
from scaling.laws.runs import GUESSES
from scaling.results import metrics

BEST, LINE, POWER = "best fitted run", "line through the last two", "power law with E = 0"
APART = 1.25  # the last two runs of the frontier differ by this factor in compute: a shorter line would follow the noise
SAME = 1e-3  # relative: a power law with E = 0 this close to the law is the law, found by another search
SCALES = np.geomspace(1e-4, 1e4, 97)  # times the target's compute, at which a forecast keeps the law's value


def sharpness(fit, at: Mapping[str, float], ratio: float | None, predicted: float, interval) -> dict:
    """The width of a forecast, naive forecasts of the same run, and the law along a line through the target.

    fit: a Fit or a TwoStep. at: {input: value} of the target. ratio: its compute over the largest run's, or None.

    In the result, width is that of the interval relative to the prediction. naive is {forecaster: value}:

    - the best of the fitted runs;
    - the line through the last two runs of the frontier, which are the run with the most compute among those that no
      cheaper run beats, and the one before it with at most 1 / 1.25 of its compute; in logarithms of both, or of compute
      alone for a metric that is not positive. A law of one input has its input in place of an unknown compute;
    - the same law with E held at 0. For a law without E, and for a metric that rises, it is a power law in compute through
      the runs of the frontier, by least squares of logarithms.

    naive_left_out is {forecaster: why} of the others. best_fitted and rises say where a fall is counted from. ray has the
    law's values at multiples of the target's compute, "scale", that keep the target's shape: N and D grow by equal factors.
    """
    y = np.asarray(fit.y, float)
    rises = _rises(fit)
    best = float(y.max() if rises else y.min())
    said: dict[str, float] = {BEST: best}
    why: dict[str, str] = {}
    axis = _axis(fit, at, ratio)
    for name, ask in ((LINE, lambda: _line(axis, rises)), (POWER, lambda: _power(fit, at, axis, rises))):
        try:
            value = float(ask())
            if not math.isfinite(value):
                raise LawError("it has no finite value at the target")
            said[name] = value
        except LawError as error:
            why[name] = str(error)
    low, high = interval
    return {"width": (high - low) / abs(predicted) if predicted else None, "naive": said, "naive_left_out": why,
            "best_fitted": best, "rises": rises, "ray": _ray(fit, at),
            "compute_counted_as": fit.runs.columns.get("C", "6 N D") if ratio else None}


def crossing(ray: Mapping | None, observed: float) -> tuple[float | None, str]:
    """(the multiple of the target's compute at which the law has the observed value, "") or (None, why there is none).

    Of several multiples it is the one nearest to 1.
    """
    if not ray:
        return None, "the law has no input that grows with compute"
    scale, values = np.log(ray["scale"]), np.array(ray["values"], float)
    off = values - observed
    found = [scale[i] for i in np.flatnonzero(off == 0)]
    for i in np.flatnonzero(off[:-1] * off[1:] < 0):
        found.append(scale[i] + (scale[i + 1] - scale[i]) * off[i] / (off[i] - off[i + 1]))
    if not found:
        most, least = max(ray["scale"]), min(ray["scale"])
        return None, (f"the law does not have this value anywhere between {least:g} and {most:g} times the compute "
                      "of the target")
    return float(np.exp(min(found, key=abs))), ""


def _rises(fit) -> bool:
    """True if more is better: as the metric is known, or else as the runs go with the law's first input or compute."""
    name = fit.runs.columns["y"]
    if metrics.base_of(name):
        return metrics.find_metric(name).rises
    if isinstance(fit, TwoStep):  # the metric is an error, which falls as the loss does
        return bool(np.corrcoef(_ranks(fit.link.logs[0]), _ranks(fit.y))[0, 1] < 0)
    try:
        x = fit.runs.flops
    except LawError:
        x = fit.logs[0]
    x = x if np.isfinite(x).all() and np.ptp(x) > 0 else fit.logs[0]
    return bool(np.corrcoef(_ranks(x), _ranks(fit.y))[0, 1] > 0)


def _ranks(values) -> np.ndarray:
    return np.argsort(np.argsort(values)).astype(float)


def same_as_law(naive: Mapping[str, float], predicted: float) -> list[str]:
    """The power law with E = 0, in a list, where it is the fitted law itself since E = 0 fits best; else nothing."""
    return [name for name in naive if name == POWER and abs(naive[name] - predicted) < SAME * abs(predicted)]


def _axis(fit, at: Mapping, ratio: float | None) -> tuple[np.ndarray, np.ndarray, float] | None:
    """(compute [n], metric [n], compute of the target), or the only input of a law in place of an unknown compute."""
    runs = fit.link.runs if isinstance(fit, TwoStep) else fit.runs
    if ratio:
        x, most = runs.flops, float(np.max(fit.runs.flops))
        if np.isfinite(x).all() and (x > 0).all():
            return x, np.asarray(fit.y, float), ratio * most
    if len(fit.form.inputs) == 1 and not isinstance(fit, TwoStep):
        return np.exp(fit.logs[0]), np.asarray(fit.y, float), at[fit.form.inputs[0]]
    return None


def _frontier(x, y, rises: bool) -> np.ndarray:
    """Positions of the runs that no run of less or equal compute beats, in the order of compute."""
    order = np.lexsort((-y if rises else y, x))
    value = -y[order] if rises else y[order]
    before = np.concatenate([[np.inf], np.minimum.accumulate(value)[:-1]])
    return order[value < before]


def _line(axis, rises: bool) -> float:
    if axis is None:
        raise LawError("the compute of the runs or of the target is not known")
    x, y, target = axis
    on = _frontier(x, y, rises)
    last = on[-1]
    before = [i for i in on[:-1] if x[i] * APART <= x[last]]
    if not before:
        raise LawError("only one run has less loss than all runs of less compute" if not rises
                       else "only one run is better than all runs of less compute")
    pair = np.array([before[-1], last])
    return _extend(np.log(x[pair]), y[pair], math.log(target))


def _extend(log_x, y, at: float) -> float:
    """The straight line through points, least squares for more than two, in log y where all y are positive."""
    positive = bool((y > 0).all())
    slope, start = np.polyfit(log_x - log_x[-1], np.log(y) if positive else y, 1)
    value = start + slope * (at - log_x[-1])
    return math.exp(min(value, 700.0)) if positive else float(value)


def _power(fit, at: Mapping, axis, rises: bool) -> float:
    law = fit.law if isinstance(fit, TwoStep) else fit
    form = law.form
    floor = next((a for a in form.amplitudes if a.name == "E" and a.sign > 0), None)
    if floor is not None and "E" in form.free and not rises and (np.asarray(law.y) > 0).all():
        again = fit_again(law, law.runs, fix={**law.settings["fix"], "E": 0.0}, quick=True,
                          bounds={k: v for k, v in law.settings["bounds"].items() if k != "E"})
        return (dataclasses.replace(fit, law=again) if isinstance(fit, TwoStep) else again).predict(**at)
    if axis is None:
        raise LawError("the law has no E that could be 0, and the compute of the runs or of the target is not known")
    x, y, target = axis
    on = _frontier(x, y, rises)
    if not (y > 0).all():
        raise LawError("a power law takes a positive metric")
    if len(on) < 2:
        raise LawError("only one run is better than all runs of less compute")
    return _extend(np.log(x[on]), y[on], math.log(target))


def _ray(fit, at: Mapping) -> dict | None:
    """The law at multiples of the target's compute. `of` is "compute", or the input that is multiplied."""
    def grown(names, power):
        return {name: at[name] * (SCALES ** power if name in names else np.ones_like(SCALES)) for name in at}
    columns = fit.runs.columns
    if "C" in at:
        inputs, of = grown({"C"}, 1.0), "compute"
    elif {"N", "D"} <= set(at):
        inputs, of = grown({"N", "D", "U"}, 0.5), "compute"
    elif one := next((name for name in ("x", "N", "D") if name in at), None):
        column = columns.get(one, one)
        inputs = grown({one}, 1.0)
        of = "compute" if column in (columns.get("C"), *GUESSES["C"]) else column
    else:
        return None
    with np.errstate(all="ignore"):
        values = np.asarray(fit.predict(**inputs), float)
    good = np.isfinite(values)
    return {"of": of, "scale": SCALES[good].tolist(), "values": values[good].tolist()} if good.any() else None
