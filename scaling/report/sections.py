"""The content of each section of a study's page beside its figures: verdicts, facts and table rows, as texts."""

from __future__ import annotations

import pandas as pd

from scaling.figures.words import (
    NOTHING,
    count,
    duration,
    number,
    percent,
    plural,
    power,
    printable,
    sentence,
    short,
    with_error,
)
from scaling.report import pictures, run_table
from scaling.report.captions import effect_sentence
from scaling.report.provenance import judges, provenance
from scaling.report.reading import StudyFiles
from scaling.results import tuned
from scaling.results.tuned import PARAMS

SYMBOL = {"alpha": "α", "beta": "β"}


def page_content(study: StudyFiles) -> dict:
    """Everything that the template report.html.j2 shows, by the names that it uses."""
    return {"title": (study.study or {}).get("title") or "Scaling study", "measure": study.measure,
            "unit": study.unit, "verdict": verdict(study), "facts": key_facts(study), "matrix": tuned_table(study),
            "monotone": monotone(study), "beside": study.beside,
            "law": law_rows(study), "other_laws": other_laws(study), "remarks": remarks(study),
            "diagnostics": diagnostics(study), "diverged": diverged_table(study), "samples": text_samples(study),
            "grids": pictures.grids(study), "examination": pictures.examination(study),
            "headings": run_table.table_headings(study), "rows": run_table.table_rows(study),
            "provenance": provenance(study)}


def verdict(study: StudyFiles) -> dict | None:
    """The headline: the forecast against the observed value. `held` is None while nothing was observed."""
    forecast, check = study.forecast, study.forecast_check
    if not forecast:
        return None
    low, high = forecast["interval"]
    amount, ratio = study.measure.amount, forecast.get("compute_ratio")
    text = {"predicted": amount(number(forecast["predicted"])), "low": number(low), "high": number(high),
            "held": bool(check["inside"]) if check else None,
            "level": percent(forecast["level"]), "params": count(forecast["target"][PARAMS]),
            "data": f"{count(forecast['target'][study.unit.seen])} {study.unit.name}",
            "ratio": short(ratio) if ratio else None, "first": _written_first(study)}
    if check:
        error = check["observed"] - forecast["predicted"]
        text["observed"] = amount(number(check["observed"]))
        text["error"] = (f"{number(abs(error), 2)} ({percent(abs(error) / abs(forecast['predicted']))}) "
                         f"{'above' if error > 0 else 'below'} the forecast")
    return text


def _written_first(study: StudyFiles) -> bool:
    """True when the forecast was written before the target run finished."""
    target = study.forecast["target"].get("fingerprint")
    ends = list(study.runs.loc[study.runs["fingerprint"] == target, "finished"])[:1]
    times = pd.to_datetime([study.forecast.get("time"), *ends], utc=True, errors="coerce", format="ISO8601")
    return len(times) == 2 and bool(times[0] < times[1])


def key_facts(study: StudyFiles) -> list[tuple[str, str, str]]:
    """(name, value, note) of each key figure that is known."""
    runs, cells, about = study.runs, study.cells, study.study or {}
    plan, facts = about.get("plan") or {}, []
    if len(runs):
        diverged = int(runs["diverged"].sum())
        facts.append(("Runs", f"{len(runs):,}", f"{diverged} diverged" if diverged else "none diverged"))
    if len(cells):
        for name, column in (("Model sizes", PARAMS), ("Amounts of data", "data")):
            span = cells[column].max() / cells[column].min()
            facts.append((name, f"{cells[column].nunique()}", f"a range of {short(span, 2)}×"))
    if plan.get("programs"):
        facts.append(("Programs", f"{plan['programs']:,}", "each compiled once"))
    if plan.get("flops_executed"):
        facts.append(("Model FLOPs", power(plan["flops"]), "forward and backward, planned"))
    elif plan.get("flops"):  # results version 2 planned with the FLOPs that training executes
        facts.append(("FLOPs executed", power(plan["flops"]), "planned"))
    elif runs["flops"].sum() > 0:
        facts.append(("Model FLOPs", power(runs["flops"].sum()), "forward and backward, all runs"))
    if about.get("seconds"):
        facts.append(("Time", duration(about["seconds"]),
                      f"{duration(plan['seconds'])} planned" if plan.get("seconds") else ""))
    elif runs["seconds"].sum() > 0:
        facts.append(("Time", duration(runs["seconds"].sum()), "sum over all runs"))
    if about.get("mfu"):
        facts.append(("MFU", percent(about["mfu"]), _utilisation_note(about)))
    return facts


def _utilisation_note(about: dict) -> str:
    """The rate that MFU is a share of, and the utilisation by executed FLOPs."""
    rate, executed = about.get("matmul_flops_per_second"), about.get("hardware_utilisation")
    peak = [f"of {number(rate / 1e9, 3)} GFLOP/s measured"] if rate else []
    # MFU counts the FLOPs of the model, except in workdirs of results version 2, which lack hardware_utilisation.
    counted = f"{percent(executed)} by FLOPs executed" if executed else "by FLOPs executed"
    return "; ".join([*peak, counted])


def tuned_table(study: StudyFiles) -> dict | None:
    """The tuned metric as a table: one row for each model size, one column for each amount of data."""
    cells = study.cells
    if cells.empty:
        return None
    text = map(with_error, cells[study.metric], tuned.standard_error(cells, study.metric))
    return _size_by_data(cells.assign(text=list(text)))


def _size_by_data(cells: pd.DataFrame) -> dict:
    """The column `text` of `cells` as a table, with sizes down and data across."""
    table = cells.pivot(index=PARAMS, columns="data", values="text").fillna(NOTHING)
    return {"columns": list(map(count, table.columns)),
            "rows": [(count(size), list(line)) for size, line in zip(table.index, table.to_numpy())]}


def monotone(study: StudyFiles) -> list[dict]:
    """Whether the tuned metric improves in every step in size and in data, and by how much over all steps."""
    answers, measure, unit = [], study.measure, study.unit.name
    for along, fixed, question, of, at in (
            (PARAMS, "data", "with model size at a fixed amount of data", "parameters", unit),
            ("data", PARAMS, "with the amount of data at a fixed model size", unit, "parameters")):
        found = tuned.growth_steps(study.cells, along, fixed, study.metric)
        if not found:
            continue
        against = [f"at {count(s.fixed)} {at}, from {count(s.before)} to {count(s.after)} {of}: "
                   f"{number(s.metric_before)} to {number(s.metric_after)}" for s in found if not s.better]
        overall = tuned.mean_effect(study.cells, along, fixed, study.metric)
        answers.append({"question": f"Does the {measure.noun} {measure.fall} {question}?",
                        "verdict": "no" if against else "yes", "against": against,
                        "effect": effect_sentence(overall, study, of) if overall else "",
                        "tally": f"it {measure.falls} in {len(found) - len(against)} of {plural(len(found), 'step')}"})
    return answers


def diverged_table(study: StudyFiles) -> dict | None:
    """How many runs of the sweep diverged at each size and amount of data, and why. None when no run diverged."""
    found = tuned.count_diverged(study.runs)
    if found is None:
        return None
    text = [f"{bad} of {runs}" for bad, runs in zip(found["diverged"], found["runs"])]
    lost = study.runs[study.runs["diverged"] & (study.runs["role"] == "sweep")]
    return _size_by_data(found.assign(text=text)) | {
        "reasons": [f"{sentence(reason)}: {plural(times, 'run')}"
                    for reason, times in lost["diverged_because"].value_counts().items() if reason],
        "share": f"{found['diverged'].sum():,} of {plural(int(found['runs'].sum()), 'run')} of the sweep"}


def law_rows(study: StudyFiles) -> list[dict]:
    """The rows of the table of fitted parameters."""
    intervals = (study.fit or {}).get("intervals") or {}
    return [{"name": SYMBOL.get(name, name), "value": number(value),
             "interval": " to ".join(map(number, intervals[name])) if name in intervals else NOTHING}
            for name, value in ((study.fit or {}).get("params") or {}).items()]


def other_laws(study: StudyFiles) -> dict | None:
    """The same law fitted to other metrics, as a table: one row for each metric, one column for each parameter."""
    if not study.fits:
        return None
    names = list(dict.fromkeys(name for fit in study.fits.values() for name in fit["params"]))
    seen = [study.showing(metric) for metric in study.fits]
    return {"columns": [SYMBOL.get(name, name) for name in names],
            "rows": [(one.measure.label, [_with_interval(one.fit, name) for name in names]) for one in seen]}


def _with_interval(fit, name: str) -> str:
    interval = (fit.get("intervals") or {}).get(name)
    value = number(fit["params"][name]) if name in fit["params"] else NOTHING
    return f"{value} ({' to '.join(map(number, interval))})" if interval else value


def remarks(study: StudyFiles) -> list[str]:
    """Sentences about what the fit implies."""
    fit, said = study.fit or {}, []
    if fit.get("points"):
        said.append(f"The law was fitted to {plural(len(fit['points']), 'tuned run')}.")
    if fit.get("noise"):
        said.append(f"A single run scatters about the law by {percent(fit['noise'])} of its {study.measure.noun}.")
    if fit.get("form") == "chinchilla":
        alpha, beta = fit["params"]["alpha"], fit["params"]["beta"]
        of_size, of_data = (number(x / (alpha + beta), 2) for x in (beta, alpha))
        said.append(f"If compute C is proportional to N × D, the best N for a budget grows as C to the power of "
                    f"{of_size}, and the best D as C to the power of {of_data}.")
    return said


def diagnostics(study: StudyFiles) -> list[str]:
    """Sentences about problems of the fit and of the sweep, which make the law less certain."""
    problems = (study.fit or {}).get("diagnostics") or []
    said = [one["message"] if isinstance(one, dict) else str(one) for one in problems]
    rates = tuned.learning_rates(study.runs, study.metric)
    for (size, side, best), at in rates[rates["edge"] != ""].groupby([PARAMS, "edge", "best"])["data"]:
        said.append(f"At {count(size)} parameters and {' and '.join(map(count, at))} {study.unit.name}, the best "
                    f"learning rate ({short(best)}) is the {side} one tried, so a better one may lie beyond it.")
    if (ways := len(judges(study.runs))) > 1:
        said.append(f"The samples were judged in {ways} different ways, so their distances cannot be compared.")
    sweep = study.runs[study.runs["role"] == "sweep"]
    lost = sweep.groupby([PARAMS, "data"])["diverged"].all()
    return said + [f"Every run at {count(size)} parameters and {count(data)} {study.unit.name} diverged, "
                   "so the fit has no point there."
                   for size, data in lost.index[lost]]


def text_samples(study: StudyFiles) -> list[list[dict]]:
    """For each prompt, the text of the smallest and of the largest model."""
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
        if sides:
            out.append(sides)
    return out
