"""The fitted law in words: its parameters with intervals, what they imply, and how they were estimated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from scaling.figures.words import (
    NOTHING,
    interval,
    number,
    percent,
    plural,
    power,
    short,
    to_error,
    with_interval,
)
from scaling.report import bootstraps
from scaling.report.reading import StudyFiles

SYMBOL = {"alpha": "α", "beta": "β"}
BEYOND_ENTROPY = ("bits_per_byte", "bits_per_dim", "excess")  # metrics whose smallest value the entropy says
TUKEY = 1.345  # Huber's delta over the noise that `laws.fit(delta="noise")` takes (Huber 1981)
SPACES = {"log": "the logarithm of the {}", "log1p": "the logarithm of 1 + the {}", "linear": "the {}"}


def ends_of(fit: Mapping, name: str) -> tuple[float | None, float | None]:
    """The interval of a quantity of a fit, (None, None) where it is not known."""
    low, high = (fit.get("intervals") or {}).get(name) or (None, None)
    return low, high


def law_rows(fit: Mapping | None) -> list[dict]:
    """The rows of the table of fitted parameters, with as many digits as the intervals allow."""
    return [{"name": SYMBOL.get(name, name), "value": rounded(fit, name), "interval": interval(*ends_of(fit, name))}
            for name in ((fit or {}).get("params") or {})]


def rounded(fit: Mapping, name: str) -> str:
    """A parameter to two digits of the half-width of its interval."""
    low, high = ends_of(fit, name)
    known = low is not None and high is not None
    return to_error(fit["params"][name], (high - low) / 2) if known else number(fit["params"][name])


def other_laws(study: StudyFiles) -> dict | None:
    """The same law fitted to other metrics, as a table: one row for each metric, one column for each parameter."""
    if not study.fits:
        return None
    names = list(dict.fromkeys(name for fit in study.fits.values() for name in fit["params"]))
    seen = [study.showing(metric) for metric in study.fits]
    return {"columns": [SYMBOL.get(name, name) for name in names],
            "rows": [(one.measure.label, [_cell(one.fit, name) for name in names]) for one in seen]}


def _cell(fit: Mapping, name: str) -> str:
    if name not in fit["params"]:
        return NOTHING
    ends = interval(*ends_of(fit, name))
    return rounded(fit, name) if ends == NOTHING else f"{rounded(fit, name)} ({ends})"


def exponents(study: StudyFiles) -> list[tuple[str, str]]:
    """(symbol, value with its interval) of each exponent of the law."""
    fit = study.fit or {}
    return [(SYMBOL.get(name, name), with_interval(fit["params"][name], *ends_of(fit, name), fit.get("level") or 0.9))
            for name in fit.get("params") or {} if name in SYMBOL]


def remarks(study: StudyFiles) -> list[str]:
    """Sentences about what the fit implies."""
    fit, said = study.fit or {}, []
    if fit.get("points"):
        said.append(f"The law was fitted to {plural(len(fit['points']), 'tuned run')}.")
    if fit.get("noise"):
        said.append(f"A single run scatters about the law by about {_scatter(study, fit)}, a robust estimate that allows "
                    "for the number of parameters.")
    params = fit.get("params") or {}
    if fit.get("form") == "chinchilla" and {"alpha", "beta"} <= set(params) and params["alpha"] + params["beta"] > 0:
        share = params["beta"] / (params["alpha"] + params["beta"])
        low, high = ends_of(fit, "a_N")
        rest = (None, None) if low is None or high is None else (1 - high, 1 - low)
        level = fit.get("level") or 0.9
        said.append(f"If compute C is proportional to N × D, the best N for a budget grows as C to the power of "
                    f"{with_interval(share, low, high, level)}, and the best D as C to the power of "
                    f"{with_interval(1 - share, *rest, level)}.")
    return [*said, *_known_entropy(study, fit), *([study.unsure] if study.unsure else [])]


def _known_entropy(study: StudyFiles, fit: Mapping) -> Iterator[str]:
    """Whether the fitted E is the entropy of the data, where that is known."""
    sets = (study.study or {}).get("data") or []
    known = ((sets[0].get("contents") or {}).get("entropy") or {}) if len(sets) == 1 else {}
    if "bits" not in known or "E" not in (fit.get("params") or {}) or study.metric not in BEYOND_ENTROPY:
        return
    true, error = (0.0, 0.0) if study.metric == "excess" else (known["bits"], known.get("error") or 0.0)
    low, high = ends_of(fit, "E")
    exact = f"{to_error(true, error)} ± {number(error, 2)}" if error else number(true, 5)
    said = f"E is known: it is {exact}, and the fit has {rounded(fit, 'E')}"
    if low is None or high is None:
        yield f"{said}."
    else:
        covers = "covers" if low <= true + 2 * error and high >= true - 2 * error else "does not cover"
        yield f"{said}, whose {percent(fit.get('level') or 0.9)} interval {interval(low, high)} {covers} it."


def _scatter(study: StudyFiles, fit: Mapping) -> str:
    if fit.get("space") in (None, "log"):
        return f"{percent(fit['noise'])} of its {study.measure.noun}"
    return f"{number(fit['noise'], 2)} in {SPACES.get(fit['space'], '{}').format(study.measure.noun)}"


def methods(study: StudyFiles) -> list[str]:
    """How the law was estimated, in sentences: objective, weights, intervals, compute."""
    fit = study.fit
    if not fit:
        return []
    said = [*_objective(study, fit), *_weights(fit), bootstraps.description(fit)]
    return [*said, compute_convention(study)]


def _objective(study: StudyFiles, fit: Mapping) -> Iterator[str]:
    kind = (fit.get("loss") or "").partition("_")[0]
    of = SPACES.get(fit.get("space") or "", "the {}").format(study.measure.noun)
    delta, noise = fit.get("delta"), fit.get("noise")
    if kind == "huber" and delta:
        yield (f"Objective: the sum over runs of Huber's penalty of the residual in {of}. Residuals up to delta = "
               f"{number(delta, 2)} count as squares, larger ones in proportion to their size.")
        if noise:
            asked = (fit.get("settings") or {}).get("delta")
            measured = asked == "noise" or (asked is None and abs(delta / noise / TUKEY - 1) < 1e-3)
            yield (f"Delta is {short(delta / noise)} times the scatter of a single run"
                   f"{', as measured from the residuals' if measured else ''}.")
    elif kind in ("mse", "absolute"):
        yield f"Objective: the sum over runs of the {'square' if kind == 'mse' else 'size'} of the residual in {of}."
    if fit.get("quantile") not in (None, 0.5):
        yield f"The law is the {percent(fit['quantile'])} quantile of the runs, not their middle."


def _weights(fit: Mapping) -> Iterator[str]:
    weights = fit.get("weights") or []
    if weights:
        equal = np.ptp(weights) == 0
        yield "All runs have equal weights." if equal else (
            f"Weights of runs differ, by up to a factor of {short(max(weights) / min(weights), 2)}: those with more seeds "
            "count more." if min(weights) > 0 else "Weights of runs differ.")


def compute_convention(study: StudyFiles) -> str:
    """What is counted as compute C, with the FLOPs that were executed beside those of the models."""
    runs = study.runs
    executed = runs["flops_executed"].sum() if "flops_executed" in runs else 0
    of_model = runs["flops"].sum()
    if study.solved:
        return "Compute C is the FLOPs of solving for the model: of an n-gram model, an addition for each token and order."
    if study.compute == "flops_executed":
        return "Compute C is the FLOPs that training executed, recomputation and optimiser included."
    text = ("Compute C is the FLOPs of the model's forward and backward pass. It is the same on all hardware, because "
            "recomputation and the optimiser do not count.")
    if executed > 0 and of_model > 0:
        text += (f" The FLOPs executed, which include both, are {short(executed / of_model)} times as many "
                 f"({power(executed)} against {power(of_model)}, summed over runs, each counted in full).")
    return text
