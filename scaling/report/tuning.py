"""The learning rates of a study in words: cells whose best rate is not bracketed, and the rate of the target."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scaling.figures.words import count, listing, plural, power, short
from scaling.report.reading import StudyFiles
from scaling.results import metrics, rates, tuned
from scaling.results.tuned import PARAMS


def edge_sentences(table: pd.DataFrame, unit: metrics.Unit) -> list[str]:
    """A sentence for every cell of `tuned.bracketing` whose best rate is the lowest or the highest one tried.

    Cells of one size with the same best rate share a sentence.
    """
    return [f"At {count(size)} parameters and {listing(list(map(count, at)))} {unit.name}, the best learning rate "
            f"({short(best)}) is the {side} one tried, so a better one may lie beyond it."
            for (size, side, best), at in table[table["edge"] != ""].groupby([PARAMS, "edge", "best"])["data"]]


def fate_sentence(at_edge: int, left_out: int, cells: int, fit_edges: bool) -> str:
    """Whether the fit takes the cells that are `at_edge`, of all `cells`, and why."""
    these = f"the {plural(at_edge, 'cell')} whose best learning rate is at the edge"
    if left_out:
        return f"The fit leaves out {these}, and takes the other {cells - left_out} (fit_edges=True takes all)."
    if fit_edges:
        return f"The fit takes {these}, as fit_edges asks."
    return f"The fit takes {these}: without them, too few of the {plural(cells, 'cell')} would be left for the law."


def fate_of_edges(study: StudyFiles) -> str:
    """`fate_sentence` of a study, as its fit.json has it; "" without a fit, or for one of an older version."""
    config, points = (study.study or {}).get("config"), (study.fit or {}).get("points") or []
    table = tuned.bracketing(study.runs, study.cells)
    at_edge = study.cells.loc[table.index[table["edge"] != ""]]
    if not points or at_edge.empty or not isinstance(config, dict) or "fit_edges" not in config:
        return ""
    left_out = ~at_edge["fingerprint"].isin([point.get("fingerprint") for point in points])
    return fate_sentence(len(at_edge), int(left_out.sum()), len(study.cells), bool(config["fit_edges"]))


def fitted_cells(study: StudyFiles) -> pd.DataFrame:
    """The tuned runs that the fit took; all of them where that is not known."""
    names = [point.get("fingerprint") for point in (study.fit or {}).get("points") or []]
    cells = study.cells[study.cells["fingerprint"].isin(names)]
    return cells if len(cells) else study.cells


def asked_for(study: StudyFiles) -> str:
    """A sentence about the runs that cells at an edge asked for, or "" where there are none."""
    about, config = ((study.study or {}).get(name) for name in ("bracketing", "config"))
    if not about or not about.get("runs"):
        return ""
    asked, cost = plural(len(about["runs"]), "run"), ""
    if about.get("budget") and about.get("spent"):
        share = config.get("tune") if isinstance(config, dict) else None
        of = f" that tune={share:g} allows" if isinstance(share, (int, float)) else ""
        cost = f" They cost {power(about['spent'])} of the {power(about['budget'])} FLOPs{of}."
    if sampler := about.get("sampler"):
        return ("Cells asked for more learning rates: those at an edge for the next one, and bracketed ones for what "
                f"{sampler.get('name')} (optuna {sampler.get('version')}) proposed between the neighbours of their best: "
                f"{asked} beyond the sweep.{cost}")
    return f"Cells whose best learning rate was at the edge asked for the next rates: {asked} beyond the sweep.{cost}"


def edge_summary(table: pd.DataFrame, unit: metrics.Unit) -> str:
    """One sentence that names all cells of `edge_sentences`, or ""."""
    parts = []
    for side in ("lowest", "highest"):
        at = table[table["edge"] == side]
        cells = [f"{count(size)} parameters on {listing([count(x) for x in data])} {unit.name}"
                 for size, data in at.groupby(PARAMS)["data"]]
        if cells:
            parts.append(f"the {side} one tried at {'; '.join(cells)}")
    if not parts:
        return ""
    lost = int((table["edge"] != "").sum())
    return (f"In {lost} of {plural(len(table), 'sweep')} of the learning rate the best rate is at the edge: it is "
            f"{', and '.join(parts)}. These cells may not be fully tuned.")


def rate_of_target(study: StudyFiles) -> str:
    """Sentences about the learning rate of the target: what the rule gives, with its interval, and why."""
    target = (study.forecast or {}).get("target") or {}
    rate, size, seen = (target.get(name) for name in ("learning_rate", PARAMS, study.unit.seen))
    runs = study.runs[study.runs["fingerprint"] == target.get("fingerprint")]
    rate = float(runs["learning_rate"].iloc[0]) if rate is None and len(runs) else rate
    cells = fitted_cells(study).dropna(subset=[PARAMS, study.unit.seen, "learning_rate"])
    if not all(isinstance(x, (int, float)) and np.isfinite(x) and x > 0 for x in (rate, size, seen)) or cells.empty:
        return ""
    rule = rates.target_rate(cells, size, seen, study.unit.seen)
    if abs(rule.rate / rate - 1) > 0.01:
        return (f"The learning rate of the target is {short(rate)}, which the study's config chose. The best rates of the "
                f"tuned runs would give {short(rule.rate)} ({short(rule.low)} to {short(rule.high)}).")
    return rule.sentence
