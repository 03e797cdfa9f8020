"""Finding a finished run in a workdir and reading it.

    run = scaling.restore("runs/quickstart")            # the best run; or a fingerprint, or the start of one
    run = scaling.restore("runs/quickstart", "N=3e5")   # the best of the runs nearest to so many parameters
    texts = run.generate(["def ", "class "], tokens=200, temperature=0.8)
    metrics = run.evaluate()

A run is read from its record and its parameters. Its data are loaded when something first needs them.
"""

import math
import os

import jax
import numpy as np
from etils import epath

from scaling import experiment as experiments
from scaling import families
from scaling.data.tokenizers import read_stored, store_tokenizer
from scaling.devices import chips
from scaling.fields import nearest
from scaling.figures import words
from scaling.results import metrics, planned, records, tuned
from scaling.store import checkpoint, files
from scaling.store.prepared import data_directory
from scaling.study import kept
from scaling.study.restored import RestoredRun, RestoreError
from scaling.sweeps.runner import Runner, TrainingOptions


def restore(workdir, run: str = "best", step: int | None = None) -> RestoredRun:
    """A finished run of `workdir`: "best", "N=3e5", a fingerprint, or the start of a fingerprint that fits one run only.

    The best run is the one with the best value of the study's metric, the target included, or the only one where no run has
    it. "N=3e5" is the best of the runs whose number of non-embedding parameters is nearest to that, by ratio. With `step`
    it has the parameters of an earlier step, where a checkpoint of it was kept; see `scaling.study.kept`.

    Raises RestoreError where there is no such run or step, or its record or parameters are missing or damaged, and
    WorkdirError where `workdir` is no directory.
    """
    chips.leave_absent_tpus_alone()
    runner = Runner(epath.Path(workdir).expanduser(), TrainingOptions())
    fingerprint = choose_run(runner.records, run)
    try:
        record = runner.records.read(fingerprint)
    except KeyError:
        raise RestoreError(f"the record of {fingerprint} in {_shown(runner)} is damaged; run the study again to "
                           "train it anew") from None
    restored = restore_record(runner, record)
    return restored if step is None else kept.at_step(restored, step)


def restore_record(runner: Runner, record: dict) -> RestoredRun:
    """The run of a record in the workdir of `runner`, which then shares its data with the runner's other runs."""
    fingerprint = record["fingerprint"]
    try:
        experiment = experiments.from_dict(record["experiment"])
    except (KeyError, TypeError, ValueError) as error:
        raise RestoreError(f"the experiment of {fingerprint} is not one that this version of scaling knows: "
                           f"{error}") from None
    path = runner.workdir / "params" / fingerprint
    again = (f"restore them, or delete {os.fspath(runner.records.path(fingerprint))} and run the study again, which trains "
             "the run anew")
    if not path.is_dir():
        raise RestoreError(f"the parameters of {fingerprint} are missing: there is no directory {os.fspath(path)}; {again}")
    _bring_tokenizer(runner.workdir, experiment.data)
    abstract = {"params": jax.eval_shape(experiment.family.init, jax.random.key(0))}
    try:
        params = checkpoint.restore_tree(path, abstract)[0]["params"]
    except (checkpoint.CheckpointError, checkpoint.NoCheckpoint) as error:
        raise RestoreError(f"the parameters of {fingerprint} cannot be read: {error}; {again}") from None
    return RestoredRun(record, experiment, params, runner)


def _bring_tokenizer(workdir, data) -> None:
    """Puts the tokenizer of an imported run, of which its workdir has a copy, where data are prepared."""
    kept = [path for path in (workdir / "tokenizers").glob("*.json") if path.stem in getattr(data, "tokenizer", "")]
    for path in kept:
        store_tokenizer(read_stored(path), data_directory(data.data_dir or None) / "tokenizers")


def titled(run: RestoredRun) -> str:
    """What messages to users call a run: "run 031f0c6c2a7e11aa (transformer N=150k)"."""
    return f"run {run.fingerprint} ({families.name(run.family)} N={words.count(run.record[tuned.PARAMS])})"


def choose_run(recorded: records.Records, run: str) -> str:
    """The fingerprint of the run that `run` names, as in `restore`."""
    if run == "best":
        return best(recorded.workdir)
    if not run.startswith("N="):
        return find_run(recorded, run)
    try:
        size = float(run.removeprefix("N="))
    except ValueError:
        size = math.nan
    return best(recorded.workdir, size)


def best(workdir, size: float | None = None) -> str:
    """The fingerprint of the run with the best value of the study's metric, among those that did not diverge.

    The metric is the one in study.json, or, before that is written, the first known one that the records hold. With `size`
    only the runs take part whose non-embedding parameters are nearest to it by ratio.
    """
    workdir = epath.Path(workdir).expanduser()
    table, _ = planned.load_planned(workdir)
    path = workdir / "study.json"
    held = [name for name in metrics.METRICS if name in table and table[name].notna().any()]
    if table.empty:
        raise RestoreError(f"{os.fspath(workdir)} has no finished run yet")
    try:
        metric = files.read_json(path).get("metric") if path.exists() else next(iter(held), None)
    except ValueError as error:
        raise RestoreError(f"{error}; or name a run by its fingerprint") from None
    if metric is None:  # as in a workdir of imported runs
        near = table if size is None else _of_size(table, size, os.fspath(workdir))
        if len(near) == 1:
            return near["fingerprint"].iloc[0]
        raise RestoreError(f"no run in {os.fspath(workdir)} has a metric, as none has that was imported; name one by its "
                           f"fingerprint: {_some(near['fingerprint'])}")
    if metric not in table:
        raise RestoreError(f"no run in {os.fspath(workdir)} has the study's metric {metric!r}; "
                           f"{nearest(str(metric), held)}")
    finished = tuned.clean(table, metric).dropna(subset=[metric])
    if finished.empty:
        raise RestoreError(f"every finished run in {os.fspath(workdir)} diverged; name one by its fingerprint")
    if size is not None:
        finished = _of_size(finished, size, os.fspath(workdir))
    order = finished.sort_values(metric, ascending=not metrics.find_metric(metric).rises, kind="stable")
    return order["fingerprint"].iloc[0]


def _of_size(table, size: float, workdir: str):
    """The runs of a table whose size, merged as in `tuned.merge_levels`, is nearest to `size`."""
    sizes = tuned.merge_levels(table[tuned.PARAMS])
    if not 0 < size < math.inf:
        there = ", ".join(f"N={float(f'{n:.3g}'):g}" for n in sorted(sizes.dropna().unique()))
        raise RestoreError(f"N= takes a number of non-embedding parameters above 0; runs in {workdir} have {there}")
    away = np.abs(np.log(sizes / size))
    return table[away == away.min()]


def find_run(recorded: records.Records, start: str) -> str:
    """The one fingerprint that begins with `start`; RestoreError where none or several do."""
    workdir = os.fspath(recorded.workdir)
    if not recorded.workdir.is_dir():
        raise files.WorkdirError(f"workdir {workdir!r} is not a directory: there is nothing to restore")
    known = recorded.fingerprints()
    found = [name for name in known if name.startswith(start)] if start else []
    if start in known or len(found) == 1:
        return start if start in known else found[0]
    if found:
        raise RestoreError(f"{len(found)} runs in {workdir} begin with {start!r}: {_some(found)}; write more letters")
    unfinished = {name.partition("-")[0] for folder in ("params", "logs") for name in _names(recorded.workdir / folder)}
    if start and any(name.startswith(start) for name in unfinished - {*known}):
        raise RestoreError(f"run {start!r} in {workdir} has not finished: it has no record yet")
    there = f"{nearest(start, known)}; or write best, or N= and a number of parameters" if known else "there is none yet"
    raise RestoreError(f"no finished run in {workdir} is called {start!r}; {there}")


def _names(folder) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def _some(names, most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _shown(runner) -> str:
    return os.fspath(runner.workdir)
