"""Sends the records and curves of a workdir to the writers that training knows, after the fact and each run once.

    upload_runs("runs/quickstart", ("tensorboard", "wandb"))
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import uuid
from collections.abc import Sequence

from etils import epath

from scaling.results import logs
from scaling.results.records import Records
from scaling.results.writers import WRITERS, LogError, TensorBoard, Wandb
from scaling.store import files, locks

FOLDER = "uploads"  # of a workdir: uploads/<writer>/<run>.json says that a run was sent
SENDING = tuple(name for name in WRITERS if name != "jsonl")


def upload_runs(workdir, writers: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """{writer: {"sent": runs, "there": runs that were sent before}}. Each run is sent under its own name, with its config.

    A call that was killed is continued by the next one; a run of which half was sent is not there twice then, because
    event files are complete or absent, and W&B takes no step twice. Runs without a record are left to a later call. Raises
    LogError for other writers, for one that is not installed, and while another process sends to the same writer;
    WorkdirError where the workdir is no directory.
    """
    workdir = epath.Path(workdir).expanduser()
    for name in writers:
        if name == "jsonl":
            raise LogError("the JSON lines are in the workdir already, in curves/ and records/: choose tensorboard or "
                           "wandb")
        if name not in SENDING:
            raise LogError(f"unknown log writer {name!r}: choose from {', '.join(SENDING)}")
    if not workdir.is_dir():
        raise files.WorkdirError(f"workdir {os.fspath(workdir)!r} is not a directory: name one that holds runs")
    return {name: _send_all(workdir, name) for name in dict.fromkeys(writers)}


def _send_all(workdir, writer: str) -> dict[str, list[str]]:
    held, done = Records(workdir), {"sent": [], "there": []}
    lock = locks.acquire(workdir / "locks" / f"{FOLDER}-{writer}")
    if lock is None:
        raise LogError(f"another process sends the runs of {os.fspath(workdir)} to {writer} now: wait until it has ended")
    try:
        for name in held.fingerprints():
            mark = workdir / FOLDER / writer / f"{name}.json"
            if mark.exists():
                done["there"].append(name)
            elif held.finished(name):
                record = held.read(name)
                points = logs.read_curve(workdir / "curves" / f"{name}.jsonl", record.get("curve"))
                _send(workdir, writer, record, points)
                files.write_json(mark, {"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                                        "points": len(points)})
                done["sent"].append(name)
    finally:
        lock.release()
    return done


def _send(workdir, writer: str, record: dict, points: list[dict]) -> None:
    config, results = record.get("experiment") or {}, results_of(record)
    step = max([record.get("steps") or 0, *(point.get("step", 0) for point in points)])
    with _opened(workdir, writer, record["fingerprint"], config) as to:
        for point in points:
            to.write(point["step"], {name: value for name, value in point.items() if name != "step"})
        to.conclude(config, results, step)


@contextlib.contextmanager
def _opened(workdir, writer, name, config):
    """The writer of a run. The folder of event files becomes that of the run when the block succeeds."""
    if writer == "wandb":
        with contextlib.closing(Wandb(workdir, name, config)) as to:
            yield to
        return
    folder = workdir / "tensorboard" / name
    half = folder.parent / f".{name}.{uuid.uuid4().hex}.tmp" if files.is_local(folder) else folder
    try:
        with contextlib.closing(TensorBoard(half, None)) as to:
            yield to
        if half != folder:
            if folder.exists():  # of a call that was killed before it made its mark
                shutil.rmtree(folder)
            os.replace(half, folder)
    finally:
        if half != folder:
            shutil.rmtree(half, ignore_errors=True)


def results_of(record: dict) -> dict[str, float]:
    """The numbers of a record: its size, its data, its cost and its metrics."""
    return {name: value for name, value in record.items() if isinstance(value, (bool, int, float))}
