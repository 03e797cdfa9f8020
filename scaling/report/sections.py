"""What each section of the report says: captions, verdicts and table rows, computed from the study, as plain strings."""

from __future__ import annotations

import math

import pandas as pd

from scaling.report import figures as draw
from scaling.report import trends
from scaling.report.trends import DATA, PARAMS
from scaling.report.words import NOTHING, count, duration, label, missing, number, percent, plural, power, printable, short

# Record column -> heading and how its values are written, in the order of the table of runs.
RUN_COLUMNS = {
    PARAMS: ("Params", count), DATA: ("Tokens", count), "learning_rate": ("Learning rate", short),
    "loss": ("Nats/token", number), "bits_per_byte_package": ("By package", number), "flops": ("FLOPs", power),
    "flops_6nd": ("6ND", power), "tokens_unique": ("Unique", count), "params_total": ("Params, all", count),
    "steps": ("Steps", lambda v: NOTHING if missing(v) else f"{v:,.0f}"), "weight_decay": ("Decay", short),
    "seed": ("Seed", short), "seconds": ("Time", duration), "fingerprint": ("Fingerprint", lambda v: v[:10]),
}
TEXT_COLUMNS = ("fingerprint",)
PARAMETER = {"alpha": "α", "beta": "β"}


def content(study) -> dict:
    return {"title": (study.study or {}).get("title") or "Scaling study", "verdict": verdict(study), "facts": facts(study), "monotone": monotone(study), "law": law(study),
            "matrix": matrix(study), "columns": columns(study), "rows": rows(study), "samples": samples(study), "made": made(study),
            "diagnostics": diagnostics(study), "metric": label(study.metric)}


def figures(study, palette) -> dict[str, tuple]:
    """{name: (function that draws, accessible title, caption)}."""
    cells, runs, metric, fit = study.cells, study.runs, study.metric, study.fit
    rates = trends.learning_rates(runs, metric)
    targets = runs.loc[runs["role"] == "target", "fingerprint"]
    target = (study.forecast or {}).get("target", {}).get("fingerprint") or (targets.iloc[0] if len(targets) else None)
    dashed = " Dashed: the fitted law." if trends.predict(fit, 1.0, 1.0) is not None else ""
    return {
        "params": (lambda: draw.against_params(cells, metric, palette, fit), f"{label(metric)} against parameters",
                   _falls(cells, PARAMS, "data", metric, "size", "data") + dashed),
        "data": (lambda: draw.against_data(cells, metric, palette, fit), f"{label(metric)} against training tokens",
                 _falls(cells, "data", PARAMS, metric, "data", "size") + dashed),
        "verdict": (lambda: draw.verdict(cells, metric, palette, study.forecast, study.forecast_check),
                    f"forecast and observed {label(metric)}", _verdict_caption(study)),
        "compute": (lambda: draw.against_compute(cells, metric, palette, fit, study.forecast, study.forecast_check),
                    f"{label(metric)} against training compute", _compute_caption(study)),
        "curves": (lambda: draw.training_curves(cells, study.curves, palette, target),
                   "training loss against tokens", _curves_caption(study, target)),
        "learning-rate": (lambda: draw.against_learning_rate(runs, rates, metric, palette),
                          f"{label(metric)} against learning rate", _rates_caption(rates)),
        "residuals": (lambda: draw.residuals(fit, metric, palette), "residuals of the fit", _residuals_caption(study)),
    }


def _falls(cells, along, fixed, metric, more, same) -> str:
    found = trends.steps(cells, along, fixed, metric)
    if not found:
        return f"Loss at each {more}, tuned over learning rates."
    falls = sum(step.falls for step in found)
    return f"Tuned loss falls at {falls} of {plural(len(found), 'step')} to more {more} at fixed {same}." \
        .replace("more size", "larger size")


def _verdict_caption(study) -> str:
    if not study.forecast:
        return ""
    text = f"The band is the forecast's {percent(study.forecast['level'])} interval."
    drop = study.cells[study.metric].min() - (study.forecast_check or {}).get("observed", math.nan)
    if drop > 0:
        error = abs(study.forecast_check["observed"] - study.forecast["predicted"])
        text += f" The error is {percent(error / drop)} of the fall in loss from the best fitted run to the target."
    return text


def _compute_caption(study) -> str:
    text = "Each dot is a tuned run, each line a model size."
    if (study.fit or {}).get("frontier"):
        banded = {"lo", "hi"} <= set(study.fit["frontier"][0])
        text += " Dashed: the least loss that the law allows for each budget" + (", with its interval." if banded else ".")
    if study.forecast:
        ratio = study.forecast.get("compute_ratio")
        text += f" The forecast is for {short(ratio)} times the compute of the largest fitted run."
    return text


def _curves_caption(study, target) -> str:
    shown = [f for f in study.cells["fingerprint"] if f in study.curves]
    text = f"Training loss of {plural(len(shown), 'tuned run')}, coloured by size"
    text += ", and of the target" if target in study.curves else ""
    return text + f", from {short(100 * draw.CURVES_FROM)}% of the longest run on; points are averages over bins of equal width in log tokens."


def _rates_caption(rates) -> str:
    inside = int((rates["edge"] == "").sum())
    text = f"The best learning rate (ringed) has worse ones on both sides in {inside} of {plural(len(rates), 'sweep')}"
    if rates[PARAMS].nunique() > 1:
        ends = rates.sort_values([PARAMS, "data"]).groupby(PARAMS)["best"].last()
        text += f"; it goes from {short(ends.iloc[0])} at {count(ends.index[0])} to {short(ends.iloc[-1])} at {count(ends.index[-1])} parameters"
    return text + ". Each line is the sweep at the most data of that size; crosses diverged."


def _residuals_caption(study) -> str:
    table = draw.residual_table(study.fit, study.metric)
    if table is None:
        return ""
    worst = table.loc[table["relative"].abs().idxmax()]
    rms = math.sqrt((table["relative"] ** 2).mean())
    return (f"The law misses its {plural(len(table), 'point')} by {percent(rms)} (root mean square), and by "
            f"{percent(abs(worst['relative']))} at most, at {count(worst[PARAMS])} parameters and {count(worst[DATA])} tokens. "
            "Colour is tokens.")


def verdict(study) -> dict | None:
    """The headline: forecast against observed, or that the target has not been trained yet."""
    forecast, check = study.forecast, study.forecast_check
    if not forecast:
        return None
    low, high = forecast["interval"]
    text = {"predicted": number(forecast["predicted"]), "low": number(low), "high": number(high),
            "level": percent(forecast["level"]), "ratio": short(forecast.get("compute_ratio")),
            "params": count(forecast["target"][PARAMS]), "tokens": count(forecast["target"][DATA]), "held": None, "first": _written_first(study)}
    if check:
        error = check["observed"] - forecast["predicted"]
        side = "above" if error > 0 else "below"
        text |= {"observed": number(check["observed"]), "held": bool(check["inside"]),
                 "error": f"{number(abs(error), 2)} ({percent(abs(error) / forecast['predicted'])}) {side} the forecast"}
    return text


def _written_first(study) -> bool:
    """Whether the forecast's time lies before the end of the target's training."""
    ends = study.runs.loc[study.runs["fingerprint"] == study.forecast["target"].get("fingerprint"), "finished"]
    times = pd.to_datetime([study.forecast.get("time"), *ends[:1]], utc=True, errors="coerce", format="ISO8601")
    return len(times) == 2 and bool(times[0] < times[1])


def facts(study) -> list[tuple[str, str, str]]:
    """(name, value, note) of the key figures that are known."""
    runs, about = study.runs, study.study or {}
    plan, diverged = about.get("plan") or {}, int(study.runs["diverged"].sum())
    fitted = study.cells[PARAMS].nunique(), study.cells["data"].nunique()
    spans = [f"{short(column.max() / column.min(), 2)}×" for column in (study.cells[PARAMS], study.cells["data"]) if len(column)]
    out = []
    if len(runs):
        out += [("Runs", f"{len(runs):,}", f"{diverged} diverged" if diverged else "none diverged"),
                ("Sizes", f"{fitted[0]}", f"spanning {spans[0]}" if spans else ""),
                ("Data sizes", f"{fitted[1]}", f"spanning {spans[1]}" if spans else "")]
    if plan.get("programs"):
        out.append(("Programs", f"{plan['programs']:,}", "compiled once each"))
    if plan.get("flops") or runs["flops"].sum() > 0:
        out.append(("FLOPs", power(plan.get("flops") or runs["flops"].sum()), "planned" if plan.get("flops") else "sum over runs"))
    if about.get("seconds") or runs["seconds"].sum() > 0:
        planned = f"{duration(plan['seconds'])} planned" if plan.get("seconds") else ""
        out.append(("Time", duration(about.get("seconds") or float(runs["seconds"].sum())), planned if about.get("seconds") else "sum over runs"))
    if about.get("mfu"):
        rate = about.get("matmul_flops_per_second")
        out.append(("MFU", percent(about["mfu"]), f"of {number(rate / 1e9, 3)} GFLOP/s measured" if rate else ""))
    return out


def monotone(study) -> list[dict]:
    """Whether tuned loss falls at every step in size and in data; each step that does not is named."""
    out = []
    for along, fixed, name, held in ((PARAMS, "data", "size", "data"), ("data", PARAMS, "data", "size")):
        found = trends.steps(study.cells, along, fixed, study.metric)
        if not found:
            continue
        units = ("parameters", "tokens") if along == PARAMS else ("tokens", "parameters")
        against = [f"at {count(s.fixed)} {units[1]}, from {count(s.before)} to {count(s.after)} {units[0]}: "
                   f"{number(s.loss_before)} to {number(s.loss_after)}" for s in found if not s.falls]
        falls = len(found) - len(against)
        verdict = "yes" if not against else "no"
        out.append({"question": f"Does loss fall with {name} at fixed {held}?", "verdict": verdict, "against": against,
                    "tally": f"it falls at {falls} of {plural(len(found), 'step')}"})
    return out


def matrix(study) -> dict | None:
    """Tuned loss as a table: one row a size, one column an amount of data."""
    if study.cells.empty:
        return None
    table = study.cells.pivot(index=PARAMS, columns="data", values=study.metric)
    return {"columns": list(map(count, table.columns)), "rows": [(count(n), list(map(number, line))) for n, line in zip(table.index, table.to_numpy())]}


def diagnostics(study) -> list[str]:
    """Sentences about the sweep that a reader should hold against the fit."""
    out = list((study.fit or {}).get("diagnostics") or [])
    rates = trends.learning_rates(study.runs, study.metric)
    for _, edge in rates[rates["edge"] != ""].iterrows():
        out.append(f"At {count(edge[PARAMS])} parameters and {count(edge['data'])} tokens the best learning rate, {short(edge['best'])}, "
                   f"is the {edge['edge']} tried: a better one may lie beyond.")
    sweep = study.runs[study.runs["role"] == "sweep"]
    lost = sweep.groupby([PARAMS, "data"])["diverged"].all()
    out += [f"Every run at {count(n)} parameters and {count(d)} tokens diverged: the fit has no point there." for n, d in lost.index[lost]]
    return out


def law(study) -> list[dict]:
    """Rows of the table of fitted parameters."""
    intervals = (study.fit or {}).get("intervals") or {}
    return [{"name": PARAMETER.get(name, name), "value": number(value),
             "interval": " to ".join(map(number, intervals[name])) if name in intervals else NOTHING}
            for name, value in ((study.fit or {}).get("params") or {}).items()]


def columns(study) -> list[str]:
    return [label(study.metric).capitalize(), *(heading for heading, _ in _present(study).values())]


def _present(study) -> dict:
    return {name: how for name, how in RUN_COLUMNS.items() if name != study.metric and not study.runs[name].map(missing).all()}


def rows(study) -> list[dict]:
    """One row a run: cells of (text, sort key), the metric first; `note` says what is special about the run."""
    best, out = set(study.cells["fingerprint"]), []
    for _, run in study.runs.iterrows():
        step = "" if missing(run["diverged_step"]) else f" at step {run['diverged_step']:,.0f}"
        state = "diverged" if run["diverged"] else "target" if run["role"] == "target" else "tuned" if run["fingerprint"] in best else ""
        first = (f"diverged{step}" if run["diverged"] else number(run[study.metric]), _key(run[study.metric]))
        cells = [(write(run[name]), run[name] if name in TEXT_COLUMNS else _key(run[name])) for name, (_, write) in _present(study).items()]
        out.append({"state": state, "id": run["fingerprint"], "cells": [first, *cells]})
    return out


def _key(value) -> str:
    return "" if missing(value) else repr(float(value))


def samples(study) -> list[dict]:
    """For each prompt, what the smallest and the largest model that share it wrote."""
    found = study.samples or []
    sizes = sorted({sample[PARAMS] for sample in found})
    out = []
    for prompt in dict.fromkeys(sample.get("prompt") or "" for sample in found):
        sides = []
        for size in dict.fromkeys((sizes[0], sizes[-1])):
            sample = next((s for s in found if s[PARAMS] == size and (s.get("prompt") or "") == prompt), None)
            if sample:
                sides.append({"label": sample.get("label") or "", "size": count(size), "fingerprint": sample.get("fingerprint") or "",
                              "prompt": printable(prompt), "text": printable(sample["text"].removeprefix(prompt))})
        out += [sides] if sides else []
    return out


def made(study) -> dict:
    """Commands, versions and times: what another person needs to do it again."""
    about, runs = study.study or {}, study.runs
    versions = dict(about.get("versions") or {})
    for column in runs.columns:
        if column.startswith("versions."):
            versions.setdefault(column.removeprefix("versions."), ", ".join(sorted(map(str, runs[column].dropna().unique()))))
    commits = sorted(map(str, runs["git_commit"].dropna().unique())) if "git_commit" in runs else []
    facts = [("Configuration", about.get("config")), ("Commit", about.get("git_commit") or ", ".join(commits)),
             ("Data", ", ".join(sorted(map(str, runs["data_fingerprint"].dropna().unique()))) if "data_fingerprint" in runs else ""),
             ("Forecast written", (study.forecast or {}).get("time")), ("Forecast checked", (study.forecast_check or {}).get("time")),
             ("Forecast hash", (study.forecast or {}).get("hash"))]
    return {"command": about.get("command"), "facts": [(name, value) for name, value in facts if value],
            "versions": {name: value for name, value in versions.items() if value}}
