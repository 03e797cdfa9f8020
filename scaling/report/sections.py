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
from scaling.report import collapsing, dataset, evaluation, fitting, pictures, rivals, run_table, sounds, tuning
from scaling.report.abstract import abstract
from scaling.report.caveats import caveats
from scaling.report.provenance import provenance
from scaling.report.reading import StudyFiles, made_or_said
from scaling.report.trends import monotone
from scaling.report.verdict import verdict
from scaling.results import tuned
from scaling.results.tuned import PARAMS


def page_content(study: StudyFiles) -> dict:
    """Everything that the template report.html.j2 shows, by the names that it uses.

    A part that fails, because a file holds what no check foresaw, is empty, and `study.broken` says why.
    """
    parts: dict[str, tuple] = {  # name: (how it is made, what it is when that fails)
        "abstract": (abstract, []), "caveats": (caveats, []), "verdict": (verdict, None), "facts": (key_facts, []),
        "matrix": (tuned_table, None), "monotone": (monotone, []), "law": (lambda study: fitting.law_rows(study.fit), []),
        "other_laws": (fitting.other_laws, None), "remarks": (fitting.remarks, []), "methods": (fitting.methods, []),
        "rivals": (rivals.rivals, None), "choice": (rivals.choice, []), "parts": (rivals.interval_parts, []),
        "two_ways": (rivals.two_ways, []), "collapse": (collapsing.collapse_sentences, []),
        "diagnostics": (diagnostics, []), "rate_rule": (tuning.rate_of_target, ""), "edges": (unbracketed, []),
        "data_sets": (dataset.data_sets, []), "repetition": (dataset.repetition, ""),
        "evaluation": (evaluation.evaluation, []), "diverged": (diverged_table, None), "samples": (text_samples, []),
        "grids": (pictures.grids, []), "sounds": (sounds.sounds, []), "examination": (pictures.examination, None),
        "headings": (run_table.table_headings, []), "rows": (run_table.table_rows, []),
        "splits": (run_table.other_sets, []),
        "provenance": (provenance, {"command": "", "facts": [], "config": "", "versions": []})}
    made = {name: made_or_said(study, name, make, empty) for name, (make, empty) in parts.items()}
    if study.broken:
        made["caveats"] = [*made["caveats"], *study.broken.values()]
    return made | {"title": (study.study or {}).get("title") or "Scaling study", "measure": study.measure,
                   "unit": study.unit, "beside": study.beside}


def unbracketed(study: StudyFiles) -> list[str]:
    """A sentence for each cell whose best learning rate is at an end of those that were tried, one about whether the fit
    takes these cells, and one about the runs that such cells asked for."""
    said = tuning.edge_sentences(tuned.bracketing(study.runs, study.cells), study.unit)
    return [*said, *filter(None, [tuning.fate_of_edges(study), tuning.asked_for(study)])]


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
        facts.append(("Model FLOPs", power(plan["flops"]), f"{study.passes}, planned"))
    elif plan.get("flops"):  # results version 2 planned with the FLOPs that training executes
        facts.append(("FLOPs executed", power(plan["flops"]), "planned"))
    elif runs["flops"].sum() > 0:
        facts.append(("Model FLOPs", power(runs["flops"].sum()), f"{study.passes}, all runs"))
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


def diagnostics(study: StudyFiles) -> list[str]:
    """Sentences about problems of the fit, which make the law less certain."""
    problems = (study.fit or {}).get("diagnostics") or []
    return [one["message"] if isinstance(one, dict) else str(one) for one in problems]


def text_samples(study: StudyFiles) -> list[list[dict]]:
    """For each prompt, the text of the smallest and of the largest model; of a pair, its own target as well."""
    found, out = study.samples or [], []
    sizes = sorted({sample[PARAMS] for sample in found})
    for prompt in dict.fromkeys(sample.get("prompt") or "" for sample in found):
        sides = []
        for size in dict.fromkeys((sizes[0], sizes[-1])):
            sample = next((s for s in found if s[PARAMS] == size and (s.get("prompt") or "") == prompt), None)
            if sample:
                pair = "target" in sample
                sides.append({"label": sample.get("label") or "", "size": count(size),
                              "prompt": printable(prompt),
                              "text": printable(sample["text"] if pair else sample["text"].removeprefix(prompt)),
                              "pair": pair, "target": printable(sample.get("target") or ""),
                              "fingerprint": sample.get("fingerprint") or ""})
        if sides:
            out.append(sides)
    return out
