"""Trends found small hold when large: the registered forecasts of this repository, and what came of them."""

import json
import math
import pathlib

import numpy as np
from scipy import stats

from scaling.claims import BUDGETS, LEVEL, Claim, Criterion, Estimate, Finding, Line, Panel, Part, Trained, statistics
from scaling.report import forecast_table

RECORD = pathlib.Path(__file__).parents[2] / "docs" / "forecasts.json"


def entries(family: str) -> list[dict]:
    """The forecasts of a family with a verdict, in the order of their registration."""
    return [entry for entry in forecast_table.with_verdict(json.loads(RECORD.read_text())) if entry["family"] == family]


def parts(budget):
    del budget
    families = sorted({entry["family"] for entry in forecast_table.with_verdict(json.loads(RECORD.read_text()))})
    return {family: Part([], "") for family in families}


def analyse(name: str, part: Trained) -> Finding:
    del part
    found = entries(name)
    errors = np.abs([entry["relative_error"] for entry in found])
    held = statistics.share(sum(bool(entry["inside"]) for entry in found), len(found))
    middle = stats.bootstrap((errors,), np.median, confidence_level=LEVEL, method="percentile", rng=0)
    low, high = middle.confidence_interval
    groups: dict[int, list[tuple[float, float]]] = {}  # by half decades: 10, 30, 100, 300 times
    for size, entry in zip(errors, found):
        groups.setdefault(round(2 * math.log10(entry["ratio"])), []).append((entry["ratio"], size))
    ratios, by_ratio = zip(*[map(float, np.median(group, axis=0)) for _, group in sorted(groups.items())])
    return Finding(
        {"held": held, "error": Estimate(float(np.median(errors)), float(low), float(high), len(found))},
        Panel("compute of the target over the largest fitted", "median size of the relative error",
              [Line("forecasts", list(ratios), list(by_ratio))]),
        f"{len(found)} forecasts that were registered before their targets were trained, those of plans that were given up "
        "included.")


CLAIM = Claim(
    id="far", statement="Trends found small hold when large.",
    source="Kaplan et al. 2020, arXiv:2001.08361; OpenAI 2023, arXiv:2303.08774, section 3 (a loss forecast at 1,000 times "
           "the compute)",
    published={"": "within 0.2% at 300 times the compute, one language model"},
    rules={"held": Criterion("the share of observed values in the 90% interval of their forecast", low=0.75,
                             why="An interval of 90% that holds three quarters is still of use."),
           "error": Criterion("the median size of the relative error", high=0.03,
                              why="Three percent of the loss is about a third of the compute at this scale.")},
    parts=parts, analyse=analyse, cost=dict.fromkeys(BUDGETS, "no run: docs/forecasts.json"),
    more="Other designs of the fitted runs, and larger ones: docs/forecasts.md says what the errors come from.")
