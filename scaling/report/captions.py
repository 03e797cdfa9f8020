"""The figures of a study's page, and the caption of each: sentences computed from the study."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from scaling.figures.palette import Palette
from scaling.figures.words import count, number, percent, plural, sentence, short
from scaling.report import collapsing, plots, training_plots
from scaling.report.plots import PlannedFigure
from scaling.report.reading import StudyFiles, made_or_said
from scaling.report.trends import effect_sentence
from scaling.results import tuned
from scaling.results.tuned import PARAMS


def study_figures(study: StudyFiles, palette: Palette) -> dict[str, PlannedFigure]:
    """{name: figure} of every figure that the page may have, for `plots.draw_all`."""
    measure, unit = study.measure.label, study.unit.name
    targets = list(study.runs.loc[study.runs["role"] == "target", "fingerprint"])
    target = (study.forecast or {}).get("target", {}).get("fingerprint") or (targets[0] if targets else None)

    def planned(draw: Callable, title: str, caption: Callable[..., str], *about) -> PlannedFigure:
        return _planned(study, palette, draw, title, caption, *about)

    figures = {
        "verdict": planned(plots.draw_verdict, f"forecast and observed {measure}", _verdict),
        "compute": planned(plots.draw_compute, f"{measure} against training compute", _compute),
        **_size_and_data(study, palette),
        "unique": planned(plots.draw_unique, f"{measure} against unique {unit}", _unique),
        "residuals": planned(plots.draw_residuals, "residuals of the fit", _residuals),
        "learning-rate": planned(training_plots.draw_learning_rates, f"{measure} against learning rate", _learning_rates),
    }
    figures["collapse"] = planned(collapsing.draw_collapse, "collapse of the training curves", _collapse)
    for metric in study.beside:
        for name, figure in _size_and_data(study.showing(metric), palette).items():
            figures[f"{name}-{metric}"] = figure
    columns = {str(name) for curve in study.curves.values() for name in curve if not str(name).startswith("validation/")}
    for loss in sorted(columns - {"data"}):
        name = "-".join(["curves", *loss.split("/")[:-1]])
        draw = partial(training_plots.draw_curves, target=target, loss=loss)
        validated = training_plots.curve_column(study, loss) != loss
        title = f"{measure} on evaluation data" if validated else "training loss"
        figures[name] = planned(draw, f"{title} against {unit}", _curves, target, loss)
    return figures


def _planned(study: StudyFiles, palette: Palette, draw: Callable, title: str, caption: Callable[..., str],
             *about) -> PlannedFigure:
    """A figure of `study` with its caption, "" where a damaged file leaves none."""
    said = made_or_said(study, f"caption: {title}", lambda study: caption(study, *about), "")
    return PlannedFigure(partial(draw, study, palette), title, said)


def _size_and_data(study: StudyFiles, palette: Palette) -> dict[str, PlannedFigure]:
    """The metric that `study` shows against model size, and against data."""
    label, unit = study.measure.label, study.unit.name

    def against_data(study: StudyFiles) -> str:
        return _trend(study, "data", PARAMS, "more data at the same model size") + _baselines(study)

    return {
        "params": _planned(study, palette, plots.draw_params, f"{label} against parameters",
                           _trend, PARAMS, "data", "a larger model on the same amount of data"),
        "data": _planned(study, palette, plots.draw_data, f"{label} against training {unit}", against_data)}


def _verdict(study: StudyFiles) -> str:
    if not study.forecast:
        return ""
    return (f"The band is the {percent(study.forecast['level'])} interval of the forecast. “Best fitted” is the best "
            "tuned run of the sweep.")


def _compute(study: StudyFiles) -> str:
    text = "Each dot is a tuned run, and each line joins the runs of one model size."
    frontier = (study.fit or {}).get("frontier")
    if frontier:
        text += f" The dashed line is the lowest {study.measure.noun} that the law predicts for each budget"
        level = percent((study.fit or {}).get("level") or 0.9)
        known = {"lo", "hi"} <= set(frontier[0])
        text += f"; the grey band is its {level} interval." if known else ", of which no interval is known."
    if (study.forecast or {}).get("compute_ratio"):
        ratio = short(study.forecast["compute_ratio"])
        text += f" The forecast is for {ratio} times the compute of the largest fitted run."
        text += _off_frontier(study, frontier)
    if study.compute == "flops":
        return text + f" Compute is the FLOPs of the model, {study.passes}."
    return text + " Compute is the FLOPs that training executed, as in the fit."


def _off_frontier(study: StudyFiles, frontier) -> str:
    """A sentence for a target whose size is not the best for its compute, so that its forecast is off the line."""
    table = pd.DataFrame(frontier or [])
    budget, target = study.target_compute, study.forecast["predicted"]
    columns = ["flops", "loss"]
    if not set(columns) <= set(table) or not budget or (table[columns] <= 0).any(axis=None) or target <= 0:
        return ""
    best = float(np.exp(np.interp(np.log(budget), np.log(table["flops"]), np.log(table["loss"]))))
    if abs(best / target - 1) < 0.02:
        return ""
    return (" It lies off the dashed line, since the target's size is not the best for its compute: there the law predicts "
            f"{number(best, 3)}.")


def _trend(study: StudyFiles, along: str, fixed: str, to: str) -> str:
    found = tuned.growth_steps(study.cells, along, fixed, study.metric)
    measure = study.measure
    text = f"{sentence(measure.noun)} of the tuned runs."
    if found:
        better = sum(step.better for step in found)
        text = (f"The {measure.noun} of the tuned runs {measure.falls} in {better} of {plural(len(found), 'step')} "
                f"to {to}.")
    if study.law(1.0, 1.0) is not None:
        text += " Dashed lines are the fitted law."
    return text + _spread(study, study.cells)


def _spread(study: StudyFiles, cells: pd.DataFrame) -> str:
    """What error bars and small dots mean, where the figure has any."""
    text = ""
    if tuned.standard_error(cells, study.metric).gt(0).any():
        text += " Bars are one standard error."
    if (cells["seeds"] > 1).any():
        text += " Small dots are single seeds; a large dot is their mean."
    return text


def _baselines(study: StudyFiles) -> str:
    known, text = study.baselines or {}, ""
    floor = (known.get("floor") or {}).get(study.metric)
    if floor is not None:
        text += f" The floor is the value for held-out data compared with other held-out data, {number(floor, 3)}."
    if any(study.metric in point for point in known.get("memoriser") or ()):
        text += " The memoriser is the value for the first training data themselves, used as samples."
    if any(study.metric in point for point in known.get("ngram") or ()):
        text += " The n-gram line is a Kneser-Ney model of order 6 that counts the same data."
    return text


def _unique(study: StudyFiles) -> str:
    cells = tuned.repeated_cells(study.runs, study.metric)
    if cells.empty:
        return ""
    seen = ", ".join(sorted({count(value) for value in cells["data"]}))
    unit = study.unit.name
    found = tuned.mean_effect(cells, "unique", PARAMS, study.metric)
    says = f" {sentence(effect_sentence(found, study, f'unique {unit}', sizes=True))}" if found else ""
    return (f"The models were trained on {seen} {unit}. Where fewer {unit} were unique, they were repeated.{says}"
            f"{_spread(study, cells)}{_baselines(study)}")


def _curves(study: StudyFiles, target: str | None, loss: str) -> str:
    column = training_plots.curve_column(study, loss)
    shown = sum(column in study.curves.get(name, ()) for name in study.cells["fingerprint"])
    of = f"of {plural(shown, 'tuned run')}{' and of the target run' if column in study.curves.get(target, ()) else ''}"
    start = f"The curves start at {short(100 * training_plots.CURVES_FROM)}% of the longest run."
    if column == loss:
        return (f"Training loss {of}. Colour is model size. {start} Each point is an average over a bin; bins have equal "
                f"width in log {study.unit.name}.")
    return (f"{sentence(study.measure.noun)} on evaluation data {of}, measured on the way. Colour is model size. {start} "
            "Points are measured on the first part of the evaluation set; one factor for each run makes the last one its "
            "result on the whole set.")


def _collapse(study: StudyFiles) -> str:
    noun = study.measure.noun
    return (f"Training {noun} of the tuned runs above the law's E, divided by the {noun} above E at the end, against the "
            "part of the training compute. Colour is model size. Curves of well-tuned sizes lie on each other where the "
            "two terms of the law have equal shares.")


def _learning_rates(study: StudyFiles) -> str:
    rates = tuned.bracketing(study.runs, study.cells)
    if rates.empty:
        return ""
    inside = int((rates["edge"] == "").sum())
    text = ("A ring marks the best learning rate. In "
            f"{inside} of {plural(len(rates), 'sweep')}, the rates on both sides of it were worse or diverged.")
    if rates[PARAMS].nunique() > 1:
        best = rates.sort_values([PARAMS, "data"]).groupby(PARAMS)["best"].last()
        text += (f" The best rate is {short(best.iloc[0])} at {count(best.index[0])} parameters and "
                 f"{short(best.iloc[-1])} at {count(best.index[-1])} parameters.")
    text += " Each line is the sweep at the largest amount of data of one model size."
    if (study.runs["diverged"] & (study.runs["role"] == "sweep")).any():
        text += " Crosses mark rates at which every run diverged."
    return text + _spread(study, tuned.trials(study.runs, study.metric))


def _residuals(study: StudyFiles) -> str:
    table = plots.residual_table(study)
    if table is None:
        return ""
    worst = table.loc[table["relative"].abs().idxmax()]
    rms = math.sqrt((table["relative"] ** 2).mean())
    unit = study.unit
    return (f"The law misses its {plural(len(table), 'point')} by {percent(rms)} (root mean square) and by at most "
            f"{percent(abs(worst['relative']))}, at {count(worst[PARAMS])} parameters and {count(worst[unit.seen])} "
            f"{unit.name}. Colour is the number of {unit.name}.")
