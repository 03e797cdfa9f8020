"""Whether the tuned metric improves with size and with data, as a question, a verdict and an effect with its interval."""

from __future__ import annotations

import math

from scaling.figures.words import count, number, percent, plural, short
from scaling.report.reading import StudyFiles
from scaling.results import tuned
from scaling.results.tuned import PARAMS

GOOD = {"yes": "good", "not shown": "bad", "no": "bad"}  # the class of a verdict on the page


def monotone(study: StudyFiles) -> list[dict]:
    """Whether the tuned metric improves in every step in size and in data, and by how much over all steps.

    `verdict` is "no" where a step goes the other way by more than the error of the evaluation, "yes" where no step does go
    the other way and the interval of the effect leaves one sign, and else "not shown".
    """
    answers, measure, unit = [], study.measure, study.unit.name
    for along, fixed, question, of, at in (
            (PARAMS, "data", "with model size at a fixed amount of data", "parameters", unit),
            ("data", PARAMS, "with the amount of data at a fixed model size", unit, "parameters")):
        found = tuned.growth_steps(study.cells, along, fixed, study.metric)
        if not found:
            continue
        worse = [step for step in found if not step.better]
        unclear = [step for step in worse if _within_error(study, step)]
        against = [f"at {count(s.fixed)} {at}, from {count(s.before)} to {count(s.after)} {of}: {number(s.metric_before)} "
                   f"to {number(s.metric_after)}{', within the error of the evaluation' if s in unclear else ''}"
                   for s in worse]
        overall = tuned.mean_effect(study.cells, along, fixed, study.metric)
        shown = overall is not None and overall.shown and (overall.ratio > 1) == measure.rises
        verdict = "no" if len(worse) > len(unclear) else "yes" if shown and not unclear else "not shown"
        answers.append({"question": f"Does the {measure.noun} {measure.fall} {question}?", "along": along,
                        "verdict": verdict, "class": GOOD[verdict], "against": against,
                        "effect": effect_sentence(overall, study, of, sizes=fixed == PARAMS) if overall else
                        f"No interval of the effect is known, because the {measure.noun} is not positive everywhere or no "
                        "size has both ends.",
                        "tally": f"it {measure.falls} in {len(found) - len(against)} of {plural(len(found), 'step')}"})
    return answers


def _within_error(study: StudyFiles, step: tuned.GrowthStep) -> bool:
    """Whether the evaluation, on the same examples, cannot tell the two runs of a step apart: within 2 standard errors."""
    own = study.errors.own if study.errors is not None else {}
    if not set(step.runs) <= set(own) or min(step.metric_before, step.metric_after) <= 0:
        return False
    return abs(math.log(step.metric_after / step.metric_before)) <= 2 * math.hypot(*(own[run] for run in step.runs))


def effect_sentence(found: tuned.Effect, study: StudyFiles, of: str, sizes: bool) -> str:
    """A sentence that says how the metric changes when `of` grows by the factor of the effect.

    sizes: True if the mean is over model sizes, False if it is over amounts of data.
    """
    change = percent(abs(found.ratio - 1))
    text = (f"{short(found.factor, 2)} times as many {of} {'raise' if found.ratio > 1 else 'lower'} "
            f"the {study.measure.noun} by {change} on average")
    if found.low != found.low:
        one = "size" if sizes else "amount of data"
        return f"{text} (from one {one} without standard errors, so no interval is known)."
    low, high = ((f"{'+' if end > 1 else '−'}{percent(abs(end - 1))}") for end in (found.low, found.high))
    sure = "" if found.shown else ", so the sign is uncertain"
    over = plural(found.pairs, "model size") if sizes else f"{plural(found.pairs, 'amount')} of data"
    return f"{text} (90% interval: {low} to {high}, from {over}{sure})."
