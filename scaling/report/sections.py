"""What each section of the report says besides its figures: verdicts, facts, table rows, as plain strings."""

from __future__ import annotations

import pandas as pd

from scaling.figures.words import (
    NOTHING,
    count,
    duration,
    measured,
    missing,
    number,
    percent,
    plural,
    power,
    printable,
    sentence,
    short,
)
from scaling.report import pictures, table
from scaling.report.captions import effect
from scaling.results import tuned
from scaling.results.tuned import PARAMS

SYMBOL = {"alpha": "α", "beta": "β"}


def content(study) -> dict:
    """Everything that the template shows, by the names that it uses."""
    return {"title": (study.study or {}).get("title") or "Scaling study", "measure": study.measure,
            "unit": study.unit, "verdict": verdict(study), "facts": facts(study), "matrix": matrix(study),
            "monotone": monotone(study), "beside": study.beside,
            "law": law(study), "others": others(study), "remarks": remarks(study), "diagnostics": diagnostics(study),
            "diverged": diverged(study), "samples": samples(study), "grids": pictures.grids(study),
            "examination": pictures.examination(study), "columns": table.columns(study),
            "rows": table.rows(study), "made": made(study)}


def verdict(study) -> dict | None:
    """The headline: forecast against observed; `held` is None as long as nothing was observed."""
    forecast, check = study.forecast, study.forecast_check
    if not forecast:
        return None
    low, high = forecast["interval"]
    amount = study.measure.amount
    text = {"predicted": amount(number(forecast["predicted"])), "low": number(low), "high": number(high),
            "held": None,
            "level": percent(forecast["level"]), "params": count(forecast["target"][PARAMS]),
            "data": f"{count(forecast['target'][study.unit.seen])} {study.unit.name}", "ratio": None,
            "first": _written_first(study)}
    if forecast.get("compute_ratio"):
        text["ratio"] = short(forecast["compute_ratio"])
    if check:
        error = check["observed"] - forecast["predicted"]
        text |= {"observed": sentence(amount(number(check["observed"]))), "held": bool(check["inside"]),
                 "error": f"{number(abs(error), 2)} ({percent(abs(error) / abs(forecast['predicted']))}) "
                          f"{'above' if error > 0 else 'below'} the forecast"}
    return text


def _written_first(study) -> bool:
    """Whether the forecast's time lies before the end of the target's training."""
    target = study.forecast["target"].get("fingerprint")
    ends = list(study.runs.loc[study.runs["fingerprint"] == target, "finished"])[:1]
    times = pd.to_datetime([study.forecast.get("time"), *ends], utc=True, errors="coerce", format="ISO8601")
    return len(times) == 2 and bool(times[0] < times[1])


def facts(study) -> list[tuple[str, str, str]]:
    """(name, value, note) of the key figures that are known."""
    runs, cells, about = study.runs, study.cells, study.study or {}
    plan, out = about.get("plan") or {}, []
    if len(runs):
        diverged = int(runs["diverged"].sum())
        out.append(("Runs", f"{len(runs):,}", f"{diverged} diverged" if diverged else "none diverged"))
    for name, column in (("Sizes", PARAMS), ("Data sizes", "data")) if len(cells) else ():
        span = cells[column].max() / cells[column].min()
        out.append((name, f"{cells[column].nunique()}", f"spanning {short(span, 2)}×"))
    if plan.get("programs"):
        out.append(("Programs", f"{plan['programs']:,}", "compiled once each"))
    if plan.get("flops"):
        out.append(("FLOPs", power(plan["flops"]), "planned"))
    elif runs["flops"].sum() > 0:
        out.append(("FLOPs", power(runs["flops"].sum()), "sum over runs"))
    if about.get("seconds"):
        out.append(("Time", duration(about["seconds"]),
                    f"{duration(plan['seconds'])} planned" if plan.get("seconds") else ""))
    elif runs["seconds"].sum() > 0:
        out.append(("Time", duration(runs["seconds"].sum()), "sum over runs"))
    if about.get("mfu"):
        rate = about.get("matmul_flops_per_second")
        note = f"of {number(rate / 1e9, 3)} GFLOP/s measured" if rate else ""
        out.append(("MFU", percent(about["mfu"]), note))
    return out


def matrix(study) -> dict | None:
    """The tuned metric as a table: one row a size, one column an amount of data."""
    cells = study.cells
    if cells.empty:
        return None
    text = map(measured, cells[study.metric], tuned.standard_error(cells, study.metric))
    return _table(cells.assign(text=list(text)))


def _table(cells: pd.DataFrame) -> dict:
    """Column `text` of `cells`, sizes down and data across."""
    table = cells.pivot(index=PARAMS, columns="data", values="text").fillna(NOTHING)
    return {"columns": list(map(count, table.columns)),
            "rows": [(count(size), list(line)) for size, line in zip(table.index, table.to_numpy())]}


def monotone(study) -> list[dict]:
    """Whether the tuned metric improves at every step in size and in data, and by how much over all of
    them."""
    out, measure, unit = [], study.measure, study.unit.name
    for along, fixed, question, of, at in (
            (PARAMS, "data", "with size at fixed data", "parameters", unit),
            ("data", PARAMS, "with data at fixed size", unit, "parameters")):
        found = tuned.growth_steps(study.cells, along, fixed, study.metric)
        against = [f"at {count(s.fixed)} {at}, from {count(s.before)} to {count(s.after)} {of}: "
                   f"{number(s.metric_before)} to {number(s.metric_after)}" for s in found if not s.better]
        overall = tuned.mean_effect(study.cells, along, fixed, study.metric)
        if found:
            out.append({"question": f"Does the {measure.noun} {measure.fall} {question}?",
                        "verdict": "no" if against else "yes", "against": against,
                        "effect": effect(overall, study, of) if overall else "",
                        "tally": f"it {measure.falls} at {len(found) - len(against)} of "
                                 f"{plural(len(found), 'step')}"})
    return out


def diverged(study) -> dict | None:
    """How many runs of the sweep diverged at each size and amount of data; None when none did."""
    found = tuned.count_diverged(study.runs)
    if found is None:
        return None
    text = [f"{bad} of {runs}" for bad, runs in zip(found["diverged"], found["runs"])]
    lost = study.runs[study.runs["diverged"] & (study.runs["role"] == "sweep")]
    return _table(found.assign(text=text)) | {
        "reasons": [f"{sentence(reason)}: {plural(times, 'run')}"
                    for reason, times in lost["diverged_because"].value_counts().items() if reason],
        "share": f"{found['diverged'].sum():,} of {plural(int(found['runs'].sum()), 'run')} of the sweep"}


def law(study) -> list[dict]:
    """Rows of the table of fitted parameters."""
    intervals = (study.fit or {}).get("intervals") or {}
    return [{"name": SYMBOL.get(name, name), "value": number(value),
             "interval": " to ".join(map(number, intervals[name])) if name in intervals else NOTHING}
            for name, value in ((study.fit or {}).get("params") or {}).items()]


def others(study) -> dict | None:
    """The same law of the metrics beside the one that is forecast: one row each, a column for each parameter."""
    if not study.fits:
        return None
    names = list(dict.fromkeys(name for fit in study.fits.values() for name in fit["params"]))
    seen = [study.showing(metric) for metric in study.fits]
    return {"columns": [SYMBOL.get(name, name) for name in names],
            "rows": [(one.measure.label, [_with_interval(one.fit, name) for name in names]) for one in seen]}


def _with_interval(fit, name) -> str:
    interval = (fit.get("intervals") or {}).get(name)
    value = number(fit["params"][name]) if name in fit["params"] else NOTHING
    return f"{value} ({' to '.join(map(number, interval))})" if interval else value


def remarks(study) -> list[str]:
    """What follows from the fit, in words."""
    fit, out = study.fit or {}, []
    if fit.get("points"):
        out.append(f"{plural(len(fit['points']), 'tuned run')} were fitted.")
    if fit.get("noise"):
        out.append(f"One run scatters by {percent(fit['noise'])} of its {study.measure.noun} about the law.")
    if fit.get("form") == "chinchilla":
        alpha, beta = fit["params"]["alpha"], fit["params"]["beta"]
        of_size, of_data = (number(x / (alpha + beta), 2) for x in (beta, alpha))
        out.append(f"Where compute C grows as N D, the best N grows as C to the {of_size}, and D as C to the "
                   f"{of_data}.")
    return out


def diagnostics(study) -> list[str]:
    """Sentences about the fit and the sweep that a reader should hold against them."""
    said = (study.fit or {}).get("diagnostics") or []
    out = [one["message"] if isinstance(one, dict) else str(one) for one in said]
    rates = tuned.learning_rates(study.runs, study.metric)
    for (size, side, best), at in rates[rates["edge"] != ""].groupby([PARAMS, "edge", "best"])["data"]:
        out.append(f"At {count(size)} parameters and {', '.join(map(count, at))} {study.unit.name} the best "
                   f"learning rate, {short(best)}, is the {side} tried: a better one may lie beyond.")
    sweep = study.runs[study.runs["role"] == "sweep"]
    lost = sweep.groupby([PARAMS, "data"])["diverged"].all()
    if (ways := len(_judges(study.runs))) > 1:
        out.append(f"Samples were judged in {ways} different ways: their distances do not compare.")
    return out + [f"Every run at {count(size)} parameters and {count(data)} {study.unit.name} diverged: "
                  "the fit has no point there."
                  for size, data in lost.index[lost]]


def samples(study) -> list[list[dict]]:
    """For each prompt, what the smallest and the largest model wrote."""
    found, out = study.samples or [], []
    sizes = sorted({sample[PARAMS] for sample in found})
    for prompt in dict.fromkeys(sample.get("prompt") or "" for sample in found):
        sides = []
        for size in dict.fromkeys((sizes[0], sizes[-1])):
            sample = next((s for s in found if s[PARAMS] == size and (s.get("prompt") or "") == prompt), None)
            if sample:
                sides.append({"label": sample.get("label") or "", "size": count(size),
                              "prompt": printable(prompt),
                              "text": printable(sample["text"].removeprefix(prompt)),
                              "fingerprint": sample.get("fingerprint") or ""})
        out += [sides] if sides else []
    return out


def made(study) -> dict:
    """Commands, versions and times: what another person needs to do it again."""
    about, runs, forecast = study.study or {}, study.runs, study.forecast or {}

    def seen(column: str) -> str:
        return ", ".join(sorted(map(str, runs[column].dropna().unique()))) if column in runs else ""

    versions = dict(about.get("versions") or {})
    for column in runs.columns:
        if column.startswith("versions."):
            versions.setdefault(column.removeprefix("versions."), seen(column))
    known = [("Configuration", about.get("config")),
             ("Commit", about.get("git_commit") or seen("git_commit")),
             ("Data", seen("data_fingerprint")), ("Samples judged by", "; ".join(_judges(runs))),
             ("Forecast written", forecast.get("time")),
             ("Forecast checked", (study.forecast_check or {}).get("time")),
             ("Forecast hash", forecast.get("hash"))]
    return {"command": about.get("command"), "facts": [(name, value) for name, value in known if value],
            "versions": {name: value for name, value in versions.items() if value}}


def _judges(runs: pd.DataFrame) -> list[str]:
    """How samples were judged, all that the records say of it; one text for each different way."""
    named = [name for name in runs if name.startswith("judge.")]
    ways = runs[named].dropna(how="all").astype(str).drop_duplicates()
    return [", ".join(f"{name.removeprefix('judge.').replace('_', ' ')} {value[:24]}"
                      for name, value in way.items() if not missing(value) and value != "nan")
            for _, way in ways.iterrows()]
