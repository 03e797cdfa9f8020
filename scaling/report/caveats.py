"""What limits a study, in sentences for the top of its page: everything that a reader of the headline has to know."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from scaling.figures.words import count, listing, percent, plural, power, short
from scaling.report import tuning
from scaling.report.evaluation import too_coarse
from scaling.report.provenance import judges
from scaling.report.reading import StudyFiles
from scaling.results import tuned
from scaling.results.tuned import PARAMS

NOISE = 0.02      # samples near fewer real images than this share are noise or all alike; `families.gan` calls it collapse
SHOWN = 2         # warnings of the fit that stand at the top
FEW_STEPS = 200   # runs this short bend a law: their larger models gain more from data
REPEATED = 1.02   # epochs above which data count as repeated: batches rarely end on the same unit


def caveats(study: StudyFiles) -> list[str]:
    """Sentences about repeated data, learning rates at the edge, noise, diverged and unmeasured runs, and lost parts."""
    rates = tuned.bracketing(study.runs, study.cells)
    edges = " ".join(filter(None, [tuning.edge_summary(rates, study.unit), tuning.fate_of_edges(study)]))
    said = [*_repeats(study), edges, *_short_runs(study), *_noise(study),
            *_lost_runs(study), study.unsure, *_fit_warnings(study)]
    said += too_coarse(study)
    if (ways := len(judges(study.runs))) > 1:
        said.append(f"The samples were judged in {ways} different ways, so their distances cannot be compared.")
    if study.others:
        said.append(f"The workdir also holds {plural(study.others, 'record')} of other studies. This page leaves them out.")
    said += [f"A part of the study failed. {one}" for one in study.failed]
    return [*filter(None, said), *study.damaged]


def epochs(study: StudyFiles) -> pd.Series:
    """How often each run went through its unique data; NaN where that is not recorded."""
    runs = study.runs
    return (runs[study.unit.seen] / runs[study.unit.unique].where(runs[study.unit.unique] > 0)).astype(float)


def repeats_by_data(study: StudyFiles) -> list[tuple[float, float]]:
    """(amount of data, most epochs at that amount) of the runs, by amount; targets included."""
    table = study.runs.assign(epochs=epochs(study)).dropna(subset=["data", "epochs"])
    return [(float(data), float(most)) for data, most in table.groupby("data")["epochs"].max().items()]


def _repeats(study: StudyFiles) -> Iterator[str]:
    times = epochs(study)
    again = times > REPEATED
    if again.any():
        yield (f"Data repeat in {int(again.sum())} of {plural(len(times), 'run')}: these went through the same "
               f"{study.unit.name} up to {short(float(times.max()), 2)} times. Repeated data teach less than new data.")


def _short_runs(study: StudyFiles) -> Iterator[str]:
    steps = study.cells["steps"].dropna() if "steps" in study.cells else pd.Series(dtype=float)
    if len(steps) and steps.min() < FEW_STEPS and not study.solved:
        yield (f"The shortest runs have {plural(int(steps.min()), 'step')}. A law that fits runs of fewer than {FEW_STEPS} "
               "steps may not hold for longer ones.")


def _noise(study: StudyFiles) -> Iterator[str]:
    """Models whose samples are noise, and models that are no better than guessing."""
    cells = study.cells
    covered = cells["coverage"] if "coverage" in cells else 1 - cells["missed"] if "missed" in cells else None
    if covered is not None and (bad := covered <= NOISE).any():
        yield (f"The samples are noise, or all alike, in {int(bad.sum())} of {plural(len(cells), 'tuned run')}: at most "
               f"{percent(NOISE)} of the real images have one of them near by. These are {_where(study, cells[bad])}. "
               f"Their {study.measure.noun} says how far noise is from images, and not how well they draw.")
    guess = _guessing(study)
    if guess and (bad := cells[study.metric] >= guess).any():
        yield (f"{plural(int(bad.sum()), 'tuned run')} {'is' if bad.sum() == 1 else 'are'} no better than guessing at "
               f"random ({short(guess)} {study.measure.unit}): {_where(study, cells[bad])}.")


def _guessing(study: StudyFiles) -> float | None:
    """The metric of a uniform guess, where it is known."""
    if study.metric == "bits_per_byte":
        return 8.0
    levels = study.runs["data.levels"].dropna() if "data.levels" in study.runs else []
    return float(np.log2(float(levels.iloc[0]))) if study.metric == "bits_per_dim" and len(levels) else None


def _where(study: StudyFiles, cells: pd.DataFrame) -> str:
    return "; ".join(f"{count(size)} parameters on {listing([count(x) for x in data])} {study.unit.name}"
                     for size, data in cells.groupby(PARAMS)["data"])


def _lost_runs(study: StudyFiles) -> Iterator[str]:
    runs, cells, noun = study.runs, study.cells, study.measure.label
    sweep = runs[runs["role"] == "sweep"]
    if lost := int(runs["diverged"].sum()):
        yield f"{lost} of {plural(len(runs), 'run')} diverged."
    for (size, data), group in sweep.groupby([PARAMS, "data"]):
        if len(cells[(cells[PARAMS] == size) & (cells["data"] == data)]) or not group["diverged"].all():
            continue
        yield (f"Every run at {count(size)} parameters and {count(data)} {study.unit.name} diverged, so the fit has no "
               "point there.")
    if stopped := int((runs["stopped_because"] != "").sum()):
        about = (study.study or {}).get("stopping") or {}
        saved = (f" This saved {power(about['saved'])} of the {power(about['of'])} FLOPs of the sweep's models."
                 if about.get("runs") == stopped else "")
        yield (f"{stopped} of {plural(len(runs), 'run')} {'was' if stopped == 1 else 'were'} stopped early because shorter "
               f"runs of their rate were poor. No fit takes them.{saved}")
    unmeasured = runs[~runs["diverged"] & runs[study.metric].isna() & (runs["stopped_because"] == "")]
    if len(unmeasured) == len(runs) and len(runs):
        yield f"The {noun} was not measured in any run, so there is nothing to compare or to fit by it."
    elif len(unmeasured):
        yield f"The {noun} was not measured in {len(unmeasured)} of {plural(len(runs), 'run')}."


def _fit_warnings(study: StudyFiles) -> Iterator[str]:
    found = [one.get("message") or "" for one in (study.fit or {}).get("diagnostics") or []]
    said = [message.rstrip(".") for message in found[:SHOWN] if message]
    if said:
        more = " All of them stand under the fit." if len(found) > SHOWN else ""
        yield f"The fit has {plural(len(found), 'warning')}. {'. '.join(said)}.{more}"
