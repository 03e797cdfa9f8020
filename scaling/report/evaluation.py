"""What the runs of a study were evaluated on, and what errors that leaves."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from scaling.figures.words import number, percent, plural
from scaling.report.reading import StudyFiles
from scaling.results import tuned

SHARE = 1 / 3  # of the half-width of a forecast's interval: an evaluation should not be less certain than that
Z = 1.645      # standard errors on each side of a 90% interval


def evaluation(study: StudyFiles) -> list[str]:
    """What the runs were evaluated on, how uncertain the metric of one run is for that, and a difference of two."""
    runs, unit, said = study.runs, study.unit.name, []
    sizes = _numbers(runs, "evaluated")
    if len(sizes):
        said.append(f"Every run was evaluated on {_range(sizes)} {unit} that no run was trained on{_clusters(study)}.")
    else:
        asked = _numbers(runs, f"data.evaluation_{unit}")
        if len(asked):
            said.append(f"The study asked for an evaluation on {_range(asked)} {unit} that no run was trained on.")
    drawn = _numbers(runs, "judge.samples")
    if len(drawn):
        said.append(f"The samples of a run were judged by {_range(drawn)} of them.")
    errors = tuned.standard_error(study.cells, study.metric).dropna()
    errors = errors[errors > 0]
    if not len(errors):
        return [*said, f"No standard error of the {study.measure.noun} of a single run was recorded."]
    relative = (errors / study.cells.loc[errors.index, study.metric].abs()).median()
    share = f", {number(100 * relative, 2)}% of its value" if np.isfinite(relative) else ""
    said.append(f"The standard error (±) of the {study.measure.noun} of a tuned run is {number(errors.median(), 2)} in "
                f"the median{share}. All runs are evaluated on the same examples, so differences between runs are more "
                "certain than that.")
    return [*said, *_pairs(study)]


def too_coarse(study: StudyFiles) -> Iterator[str]:
    """A sentence if the evaluation is too uncertain for the interval of the forecast."""
    own = _own_error_of_target(study)
    if own is None:
        return
    low, high = study.forecast["interval"]
    half = (high - low) / 2 / abs(study.forecast["predicted"])
    if Z * own > SHARE * half:
        yield (f"The evaluation of the target is coarse: compared with the other runs it is uncertain by "
               f"±{percent(Z * own)}, more than a third of the forecast's ±{percent(half)}. Evaluate on more.")


def _pairs(study: StudyFiles) -> Iterator[str]:
    found, noun = study.errors, study.measure.noun
    if found is None:
        return
    differences = np.sqrt(2) * np.median([found.own[run] for run in study.cells["fingerprint"] if run in found.own])
    yield (f"{percent(found.common)} of the {noun} is an error that all runs share. The ratio of two tuned runs has a "
           f"standard error of {percent(differences)} in the median: this is what trends and laws are judged by.")
    own = _own_error_of_target(study)
    if own is not None:
        yield f"The target has an error of its own of {percent(own)}."


def _own_error_of_target(study: StudyFiles) -> float | None:
    target = ((study.forecast or {}).get("target") or {}).get("fingerprint")
    return None if study.errors is None or not study.forecast_check else study.errors.own.get(target)


def _clusters(study: StudyFiles) -> str:
    found = study.errors
    return f", in {plural(found.clusters, 'document')}" if found is not None and found.clusters < found.examples else ""


def _numbers(runs: pd.DataFrame, column: str) -> pd.Series:
    return pd.to_numeric(runs[column], errors="coerce").dropna() if column in runs else pd.Series(dtype=float)


def _range(values: pd.Series) -> str:
    low, high = values.min(), values.max()
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"
