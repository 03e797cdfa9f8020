"""The abstract of a study's page: question, data, models, budget and answer, in a few sentences computed from the study."""

from __future__ import annotations

from scaling.figures.words import (
    count,
    duration,
    interval,
    listing,
    plural,
    power,
    sentence,
    short,
)
from scaling.report import dataset, fitting, trends
from scaling.report import verdict as verdicts
from scaling.report.reading import StudyFiles
from scaling.results.tuned import PARAMS

FAMILIES = {"vae": "VAE", "gan": "GAN", "diffusion": "diffusion model", "fsq": "tokenizer", "ngram": "n-gram"}


def family_name(study: StudyFiles) -> str:
    """The family of a study's models in words: "Transformer", "VAE", or "" where nothing says it."""
    name = (study.study or {}).get("family")
    if not name and "family" in study.runs and len(recorded := study.runs["family"].dropna()):
        name = str(recorded.iloc[0])
    return FAMILIES.get(name or "", sentence(name or ""))


def abstract(study: StudyFiles) -> list[tuple[str, str]]:
    """(part, sentences) for question, data, models, budget and answer, as far as they are known. Empty without records."""
    if study.runs.empty:
        return []
    parts = (("Question", question(study)), ("Data", _data(study)), ("Models", _models(study)), ("Budget", _budget(study)),
             ("Answer", " ".join(_answer(study))))
    return [(name, text) for name, text in parts if text]


def question(study: StudyFiles) -> str:
    """What the study asks."""
    models, measure = f"{family_name(study)} models".strip(), study.measure
    name = f"{measure.noun} in {measure.unit}" if measure.unit else measure.label
    text = f"This study asks how the {name} of {models} changes with model size and with the amount of data"
    if study.forecast or (study.study or {}).get("target"):
        ratio = (study.forecast or {}).get("compute_ratio")
        size = f"of {short(ratio, 2)} times the compute" if ratio else "that is larger"
        text += f", and whether a law fitted to small models predicts a model {size}"
    return f"{text}."


def _data(study: StudyFiles) -> str:
    sets = dataset.data_sets(study)
    if not sets:
        return ""
    named = listing([one["name"] + (f" (fingerprint {one['fingerprint']})" if one["fingerprint"] else "") for one in sets])
    found = [fact for one in sets for fact in one["facts"] if fact.startswith("Found: ")]
    about = f": {found[0].removeprefix('Found: ').removesuffix('.')}" if len(sets) == 1 and found else ""
    return f"The data are {named}{about}."


def _models(study: StudyFiles) -> str:
    sweep = study.runs[study.runs["role"] == "sweep"]
    if sweep.empty:
        return ""
    text = (f"The sweep trained {plural(len(sweep), 'run')}: {_span(sweep[PARAMS], 'model size', 'parameters')}, "
            f"{_span(sweep['data'], 'amount', study.unit.name, 'of data')}")
    rates, seeds = sweep["learning_rate"].nunique(), sweep["seed"].nunique()
    tried = sweep.groupby([PARAMS, "data"])["learning_rate"].nunique().max()
    if tried == 1 < rates:  # by a rule
        text += ", with one learning rate for each size and amount"
    elif rates > 1:
        text += f", {plural(rates, 'learning rate')}"
    text += f" and {plural(seeds, 'seed')}" if seeds > 1 else ""
    if tried == 1:
        return f"{text}." + (" What follows is about means over seeds." if seeds > 1 else "")
    return f"{text}. What follows is about the tuned run of each size and amount, the one with {study.choice}."


def _span(values, noun: str, unit: str, of: str = "") -> str:
    values = values.dropna()
    known = f" ({count(values.min())} to {count(values.max())} {unit})" if len(values) and values.nunique() > 1 else \
        f" ({count(values.min())} {unit})" if len(values) else ""
    return " ".join(filter(None, (plural(values.nunique(), noun), of))) + known


def _budget(study: StudyFiles) -> str:
    about, runs = study.study or {}, study.runs
    flops = (about.get("plan") or {}).get("flops") or runs["flops"].sum()
    seconds = about.get("seconds") or runs["seconds"].sum()
    once = flops < 0.999 * runs["flops"].sum()
    shared = " (steps that runs of several lengths share count once)" if once else ""
    parts = [f"{power(flops)} FLOPs of the models{shared}"] if flops > 0 else []
    parts += [duration(seconds)] if seconds > 0 else []
    return f"Training takes {listing(parts)}." if parts else ""


def _answer(study: StudyFiles) -> list[str]:
    measure, said = study.measure, []
    for answer in trends.monotone(study):
        of = "model size" if answer["along"] == PARAMS else "more data"
        verdict = {"yes": f"The {measure.noun} {measure.falls} with {of}",
                   "no": f"The {measure.noun} does not {measure.fall} with {of} everywhere",
                   "not shown": f"That the {measure.noun} {measure.falls} with {of} is not shown"}[answer["verdict"]]
        said.append(f"{verdict}: {answer['effect'][:1].lower()}{answer['effect'][1:]}")
    exponents = fitting.exponents(study)
    if exponents:
        said.append(f"In the fitted law {listing([f'{symbol} is {value}' for symbol, value in exponents])}.")
    return [*said, *_forecast(study)]


def _forecast(study: StudyFiles) -> list[str]:
    forecast, check = study.forecast, study.forecast_check
    if not forecast:
        return []
    found = verdicts.verdict(study) or {}
    ends = interval(*forecast["interval"])
    text = f"The forecast for the target was {found['predicted']} ({found['level']} interval {ends})"
    if study.tampered:
        return [f"{text}, but it is no evidence: {' '.join(study.tampered)}"]
    if not check:
        return [f"{text}; the target is not trained yet."]
    held = "held" if check["inside"] else "missed"
    return [f"{text}; the target reached {found['observed']}, so the forecast {held}."]
