"""Evaluating a finished run again: on other data of its kind, on more of its own, or as it was at an earlier step."""

import dataclasses
import datetime
from typing import Any

from scaling import families
from scaling.results import evaluations, records, tuned
from scaling.study.restored import RestoredRun, RestoreError


def with_data(run: RestoredRun, name: str | None = None, units: int | None = None) -> RestoredRun:
    """The run with other data of its kind, or with evaluation sets of so many `units` (tokens or examples; 0 is all).

    Raises a ConfigError for data that cannot be, and RestoreError for data whose tokens, classes or pixels mean something
    else than those that the model learned.
    """
    data, changes = run.experiment.data, {}
    if units is not None:
        changes[f"data.evaluation_{data.unit}"] = units
    if name is None or name == data.name:
        return dataclasses.replace(run, experiment=run.experiment.replace(changes))
    # How much the run trained on is no property of other data.
    changes |= {"data.name": name, f"data.unique_{data.unit}": 0}
    other = dataclasses.replace(run, experiment=run.experiment.replace(changes))
    cannot = f"run {run.fingerprint} cannot read {name}"
    if other.family != run.family:
        own, theirs = dataclasses.asdict(run.family), dataclasses.asdict(other.family)
        said = ", ".join(f"{name}={theirs[name]}, and the model {own[name]}" for name in own if own[name] != theirs[name])
        raise RestoreError(f"{cannot}, which has {said}; write other data")
    # A run has a tokenizer as its source has, and bytes need no data: those that it was trained on may be elsewhere.
    own, theirs = (each.experiment.data.vocabulary(each) for each in (run, other))
    if own != theirs and own.startswith("tokenizer"):
        raise RestoreError(f"{cannot}, because the tokenizers do not match: the {data.tokenizer} of {data.name} was "
                           f"trained on that text, and {name} has another; write {data.name}, or a run on bytes")
    if own != theirs:
        raise RestoreError(f"{cannot}: the model knows {own}, and these data have {theirs}; write other data")
    return other


def evaluate_run(run: RestoredRun, weights: dict[str, Any] | None = None) -> tuple[dict[str, Any], bool]:
    """(the evaluation of a run as it is, whether it was there already). It is in the workdir of the run afterwards.

    `weights` says what its parameters are where they are not its own; see `scaling.study.kept.with_weights`. An evaluation
    is {"run", "family", "params_non_embedding", "step", "data", "data_fingerprint", "unit", "evaluated" (units of each set,
    0 for all), "weights" if given, "metrics": {name: value, `<name>_se`: its standard error}, "judge" of samples,
    "versions", "git_commit", "finished"}.
    """
    experiment, workdir = run.experiment, run.runner.workdir
    if not run.source.splits:
        raise RestoreError(f"run {run.fingerprint} was trained elsewhere, on text that is not here; name other data, such "
                           "as --data=pycode/stdlib")
    what = {"run": run.fingerprint, "step": experiment.steps if run.step is None else run.step,
            "data_fingerprint": run.source.fingerprint, "evaluated": experiment.data.evaluated,
            **({"weights": weights} if weights else {})}
    there = evaluations.read_evaluation(workdir, what)
    if there is not None:
        return there, True
    judge = run.runner.judge(experiment)
    found = {**what, "family": families.name(run.family), tuned.PARAMS: run.record[tuned.PARAMS],
             "data": experiment.data.name, "unit": experiment.data.unit, "metrics": run.evaluate(),
             "judge": None if judge is None else judge.describe(),
             "versions": records.built_with(), "git_commit": records.git_commit(),
             "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
    evaluations.write_evaluation(workdir, found)
    return found, False
