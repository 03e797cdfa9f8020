"""Which figures the report has, and under each a caption that says what is seen, computed from the study."""

from __future__ import annotations

import math

from scaling.report import figures, trends
from scaling.report.trends import DATA, PARAMS
from scaling.report.words import count, label, percent, plural, short


def plans(study, palette) -> dict[str, tuple]:
    """{name: (function that draws, accessible title, caption)}, for `figures.render`."""
    cells, runs, metric, fit = study.cells, study.runs, study.metric, study.fit
    forecast, check = study.forecast, study.forecast_check
    rates, loss = trends.learning_rates(runs, metric), label(metric)
    targets = list(runs.loc[runs["role"] == "target", "fingerprint"])
    target = (forecast or {}).get("target", {}).get("fingerprint") or (targets[0] if targets else None)
    return {
        "verdict": (lambda: figures.verdict(cells, metric, palette, forecast, check),
                    f"forecast and observed {loss}", _verdict(study)),
        "compute": (lambda: figures.against_compute(cells, metric, palette, fit, forecast, check),
                    f"{loss} against training compute", _compute(study)),
        "params": (lambda: figures.against_params(cells, metric, palette, fit),
                   f"{loss} against parameters",
                   _falls(study, PARAMS, "data", "a larger size at fixed data")),
        "data": (lambda: figures.against_data(cells, metric, palette, fit),
                 f"{loss} against training tokens", _falls(study, "data", PARAMS, "more data at fixed size")),
        "residuals": (lambda: figures.residuals(fit, metric, palette), "residuals of the fit",
                      _residuals(study)),
        "learning-rate": (lambda: figures.against_learning_rate(runs, rates, metric, palette),
                          f"{loss} against learning rate", _rates(rates)),
        "curves": (lambda: figures.training_curves(cells, study.curves, palette, target),
                   "training loss against tokens", _curves(study, target)),
    }


def _verdict(study) -> str:
    if not study.forecast:
        return ""
    text = f"The band is the forecast's {percent(study.forecast['level'])} interval."
    observed = (study.forecast_check or {}).get("observed", math.nan)
    drop = study.cells[study.metric].min() - observed
    if drop > 0:
        error = abs(observed - study.forecast["predicted"])
        text += (f" The error is {percent(error / drop)} of the fall in loss from the best fitted run "
                 "to the target.")
    return text


def _compute(study) -> str:
    text = "Each dot is a tuned run, each line a model size."
    frontier = (study.fit or {}).get("frontier")
    if frontier:
        banded = ", with its interval" if {"lo", "hi"} <= set(frontier[0]) else ""
        text += f" Dashed: the least loss that the law allows for each budget{banded}."
    if (study.forecast or {}).get("compute_ratio"):
        ratio = short(study.forecast["compute_ratio"])
        text += f" The forecast is for {ratio} times the compute of the largest fitted run."
    return text


def _falls(study, along: str, fixed: str, to: str) -> str:
    found = trends.steps(study.cells, along, fixed, study.metric)
    dashed = " Dashed: the fitted law." if trends.predict(study.fit, 1.0, 1.0) is not None else ""
    if not found:
        return "Loss tuned over learning rates." + dashed
    falls = sum(step.falls for step in found)
    return f"Tuned loss falls at {falls} of {plural(len(found), 'step')} to {to}." + dashed


def _curves(study, target) -> str:
    shown = sum(name in study.curves for name in study.cells["fingerprint"])
    return (f"Training loss of {plural(shown, 'tuned run')}, coloured by size"
            f"{', and of the target' if target in study.curves else ''}, from "
            f"{short(100 * figures.CURVES_FROM)}% of "
            "the longest run on; points are averages over bins of equal width in log tokens.")


def _rates(rates) -> str:
    inside = int((rates["edge"] == "").sum())
    text = ("The best learning rate (ringed) has worse or diverged ones on both sides in "
            f"{inside} of {plural(len(rates), 'sweep')}")
    if rates[PARAMS].nunique() > 1:
        best = rates.sort_values([PARAMS, "data"]).groupby(PARAMS)["best"].last()
        text += (f"; it goes from {short(best.iloc[0])} at {count(best.index[0])} to {short(best.iloc[-1])} "
                 f"at {count(best.index[-1])} parameters")
    return text + ". Each line is the sweep at the most data of that size; crosses diverged."


def _residuals(study) -> str:
    table = figures.residual_table(study.fit, study.metric)
    if table is None:
        return ""
    worst = table.loc[table["relative"].abs().idxmax()]
    rms = math.sqrt((table["relative"] ** 2).mean())
    return (f"The law misses its {plural(len(table), 'point')} by {percent(rms)} (root mean square), and by "
            f"{percent(abs(worst['relative']))} at most, at {count(worst[PARAMS])} parameters and "
            f"{count(worst[DATA])} tokens. Colour is tokens.")
