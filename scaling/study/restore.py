"""Finding a finished run in a workdir and reading it.

    run = scaling.restore("runs/quickstart")          # the best run; or a fingerprint, or the start of one
    texts = run.generate(["def ", "class "], tokens=200, temperature=0.8)
    metrics = run.evaluate()

A run is read from its record and its parameters. Its data are loaded when something first needs them.
"""

import os

import jax
from etils import epath

from scaling import experiment as experiments
from scaling.devices import chips
from scaling.fields import nearest
from scaling.results import metrics, planned, records, tuned
from scaling.store import checkpoint, files
from scaling.study.restored import RestoredRun, RestoreError
from scaling.sweeps.runner import Runner, TrainingOptions


def restore(workdir, run: str = "best") -> RestoredRun:
    """A finished run of `workdir`: "best", a fingerprint, or the start of a fingerprint that fits one run only.

    The best run is the one with the best value of the study's metric, the target included. Raises RestoreError where
    there is no such run, or its record or parameters are missing or damaged, and WorkdirError where `workdir` is no
    directory.
    """
    chips.leave_absent_tpus_alone()
    runner = Runner(epath.Path(workdir).expanduser(), TrainingOptions())
    fingerprint = best(runner.workdir) if run == "best" else find_run(runner.records, run)
    try:
        record = runner.records.read(fingerprint)
    except KeyError:
        raise RestoreError(f"the record of {fingerprint} in {_shown(runner)} is damaged; run the study again to "
                           "train it anew") from None
    return restore_record(runner, record)


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
    abstract = {"params": jax.eval_shape(experiment.family.init, jax.random.key(0))}
    try:
        params = checkpoint.restore_tree(path, abstract)[0]["params"]
    except (checkpoint.CheckpointError, checkpoint.NoCheckpoint) as error:
        raise RestoreError(f"the parameters of {fingerprint} cannot be read: {error}; {again}") from None
    return RestoredRun(record, experiment, params, runner)


def best(workdir) -> str:
    """The fingerprint of the run with the best value of the study's metric, among those that did not diverge.

    The metric is the one in study.json, or, before that is written, the first known one that the records hold.
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
    if metric not in table:
        raise RestoreError(f"no run in {os.fspath(workdir)} has the study's metric {metric!r}; "
                           f"{nearest(str(metric), held)}")
    finished = tuned.clean(table, metric).dropna(subset=[metric])
    if finished.empty:
        raise RestoreError(f"every finished run in {os.fspath(workdir)} diverged; name one by its fingerprint")
    order = finished.sort_values(metric, ascending=not metrics.find_metric(metric).rises, kind="stable")
    return order["fingerprint"].iloc[0]


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
    raise RestoreError(f"no finished run in {workdir} is called {start!r}; "
                       f"{nearest(start, known) if known else 'there is none yet'}")


def _names(folder) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def _some(names, most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _shown(runner) -> str:
    return os.fspath(runner.workdir)
