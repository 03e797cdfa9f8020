"""Which figures the report has, and under each a caption that says what is seen, computed from the study."""

from __future__ import annotations

import math
from functools import partial

from scaling.figures.words import count, number, percent, plural, sentence, short
from scaling.report import figures
from scaling.results import tuned
from scaling.results.tuned import PARAMS


def plans(study, palette) -> dict[str, tuple]:
    """{name: (function that draws, accessible title, caption)}, for `figures.render`."""
    measure, unit = study.measure.label, study.unit.name
    targets = list(study.runs.loc[study.runs["role"] == "target", "fingerprint"])
    target = (study.forecast or {}).get("target", {}).get("fingerprint") or (targets[0] if targets else None)
    rows = {
        "verdict": (figures.verdict, f"forecast and observed {measure}", _verdict(study)),
        "compute": (figures.against_compute, f"{measure} against training compute", _compute(study)),
        **_of_size_and_data(study),
        "unique": (figures.against_unique, f"{measure} against different {unit}", _unique(study)),
        "residuals": (figures.residuals, "residuals of the fit", _residuals(study)),
        "learning-rate": (figures.against_learning_rate, f"{measure} against learning rate", _rates(study)),
    }
    planned = {name: (partial(draw, study, palette), *words) for name, (draw, *words) in rows.items()}
    for metric in study.beside:
        view = study.showing(metric)
        planned |= {f"{name}-{metric}": (partial(draw, view, palette), *words)
                    for name, (draw, *words) in _of_size_and_data(view).items()}
    for loss in sorted({name for curve in study.curves.values() for name in curve if name != "data"}):
        name = "-".join(["curves", *loss.split("/")[:-1]])
        planned[name] = (partial(figures.training_curves, study, palette, target, loss),
                         f"training loss against {unit}", _curves(study, target, loss))
    return planned


def _of_size_and_data(study) -> dict[str, tuple]:
    label = study.measure.label
    return {"params": (figures.against_params, f"{label} against parameters",
                       _trend(study, PARAMS, "data", "a larger size at fixed data")),
            "data": (figures.against_data, f"{label} against training {study.unit.name}",
                     _trend(study, "data", PARAMS, "more data at fixed size") + _baselines(study))}


def _verdict(study) -> str:
    if not study.forecast:
        return ""
    text = f"The band is the forecast's {percent(study.forecast['level'])} interval."
    observed = (study.forecast_check or {}).get("observed", math.nan)
    drop = study.cells[study.metric].min() - observed
    if drop > 0:
        error = abs(observed - study.forecast["predicted"])
        text += (f" The error is {percent(error / drop)} of the fall in {study.measure.noun} from the best "
                 "fitted run to the target.")
    return text


def _compute(study) -> str:
    text = "Each dot is a tuned run, each line a model size."
    frontier = (study.fit or {}).get("frontier")
    if frontier:
        banded = ", with its interval" if {"lo", "hi"} <= set(frontier[0]) else ""
        text += f" Dashed: the least {study.measure.noun} that the law allows for each budget{banded}."
    if (study.forecast or {}).get("compute_ratio"):
        ratio = short(study.forecast["compute_ratio"])
        text += f" The forecast is for {ratio} times the compute of the largest fitted run."
    return text


def _trend(study, along: str, fixed: str, to: str) -> str:
    found = tuned.growth_steps(study.cells, along, fixed, study.metric)
    measure = study.measure
    text = f"Tuned {measure.noun}" + ("." if not found else
                                      f" {measure.falls} at {sum(step.better for step in found)} of "
                                      f"{plural(len(found), 'step')} to {to}.")
    if study.law(1.0, 1.0) is not None:
        text += " Dashed: the fitted law."
    return text + _spread(study, study.cells)


def _spread(study, cells) -> str:
    """What bars and small dots mean, where the figure has any."""
    text = ""
    if tuned.standard_error(cells, study.metric).gt(0).any():
        text += " Bars are one standard error."
    if (cells["seeds"] > 1).any():
        text += " Small dots are single seeds, of which a large dot is the mean."
    return text


def _baselines(study) -> str:
    known, text = study.baselines or {}, ""
    floor = (known.get("floor") or {}).get(study.metric)
    if floor is not None:
        text += f" Floor: real images against other real ones, {number(floor, 3)}."
    if any(study.metric in point for point in known.get("memoriser") or ()):
        text += " Memoriser: the first so many training images themselves, as samples."
    return text


def _unique(study) -> str:
    cells = tuned.repeated_cells(study.runs, study.metric)
    if cells.empty:
        return ""
    seen = ", ".join(sorted({count(value) for value in cells["data"]}))
    found = tuned.mean_effect(cells, "unique", PARAMS, study.metric)
    says = f" {sentence(effect(found, study, f'different {study.unit.name}'))}" if found else ""
    return (f"Models trained on {seen} {study.unit.name}, repeated where fewer were different.{says}"
            f"{_spread(study, cells)}{_baselines(study)}")


def effect(found: tuned.Effect, study, of: str) -> str:
    """What so many times more of `of` does to the metric, as a sentence."""
    change = percent(abs(found.ratio - 1))
    text = (f"{short(found.factor, 2)} times as many {of} {'raise' if found.ratio > 1 else 'lower'} "
            f"the {study.measure.noun} by {change} on average")
    if found.pairs > 1:
        low, high = ((f"{'+' if end > 1 else '−'}{percent(abs(end - 1))}") for end in (found.low, found.high))
        sure = "" if found.low > 1 or found.high < 1 else ", which leaves the sign open"
        text += f" (90% interval {low} to {high} over {found.pairs} pairs{sure})"
    return f"{text}."


def _curves(study, target, loss) -> str:
    shown = sum(loss in study.curves.get(name, ()) for name in study.cells["fingerprint"])
    return (f"Training loss of {plural(shown, 'tuned run')}, coloured by size"
            f"{', and of the target' if loss in study.curves.get(target, ()) else ''}, from "
            f"{short(100 * figures.CURVES_FROM)}% of "
            f"the longest run on; points are averages over bins of equal width in log {study.unit.name}.")


def _rates(study) -> str:
    rates = tuned.learning_rates(study.runs, study.metric)
    if rates.empty:
        return ""
    inside = int((rates["edge"] == "").sum())
    text = ("The best learning rate (ringed) has worse or diverged ones on both sides in "
            f"{inside} of {plural(len(rates), 'sweep')}")
    if rates[PARAMS].nunique() > 1:
        best = rates.sort_values([PARAMS, "data"]).groupby(PARAMS)["best"].last()
        text += (f"; it goes from {short(best.iloc[0])} at {count(best.index[0])} to {short(best.iloc[-1])} "
                 f"at {count(best.index[-1])} parameters")
    return (text + ". Each line is the sweep at the most data of that size; crosses diverged."
            + _spread(study, tuned.trials(study.runs, study.metric)))


def _residuals(study) -> str:
    table = figures.residual_table(study)
    if table is None:
        return ""
    worst = table.loc[table["relative"].abs().idxmax()]
    rms = math.sqrt((table["relative"] ** 2).mean())
    unit = study.unit
    return (f"The law misses its {plural(len(table), 'point')} by {percent(rms)} (root mean square), and by "
            f"{percent(abs(worst['relative']))} at most, at {count(worst[PARAMS])} parameters and "
            f"{count(worst[unit.seen])} {unit.name}. Colour is {unit.name}.")
