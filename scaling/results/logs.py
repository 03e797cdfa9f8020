"""Logs of a run's metrics: always as JSON lines, and on request to TensorBoard and Weights & Biases.

    log = Logger(workdir, fingerprint, writers=("jsonl", "tensorboard"), resume_step=first_step)
    log.write(step, {"tokens": tokens, "loss": loss, "learning_rate": rate})
    log.close()

writes `workdir/curves/<fingerprint>.jsonl`, one line {"step", metrics...} per call, and
`workdir/tensorboard/<fingerprint>/`.
"""
import hashlib
import logging
import os
import time
import uuid
import warnings
from typing import Any

import numpy as np
from etils import epath

from scaling.store import files

VALIDATION = "validation/"  # begins the names of metrics on evaluation data in the points of a curve
WRITERS = ("jsonl", "tensorboard", "wandb")


class LogError(ValueError):
    """A log writer that does not exist or is not installed."""


class Logger:
    """Writes a run's metrics. Usable as a context manager.

    `resume_step=k` says that this process resumes at step k (0 is the start): lines of an earlier attempt at step k or
    later are dropped, so that the log equals the log of one uninterrupted run. None keeps all lines and appends.
    `writers` are "jsonl" (always written), "tensorboard" and "wandb" (Weights & Biases; set WANDB_MODE=offline where
    there is no network). W&B shows `config` beside the run. Raises LogError for other writers, and when wandb is not
    installed.
    """

    def __init__(self, workdir, name, writers=("jsonl",), resume_step=None, config=None, directory="curves"):
        unknown = sorted(set(writers) - set(WRITERS))
        if unknown:
            raise LogError(f"unknown log writer {unknown[0]!r}: choose from {', '.join(WRITERS)}")
        workdir = epath.Path(workdir).expanduser()
        # JSON lines come first, because their error for a full disk is the clearest.
        path = workdir / directory / f"{name}.jsonl"
        lines = _AppendedLines if files.is_local(path) else _RewrittenLines
        self._writers: list[Any] = [lines(path, resume_step)]
        if "tensorboard" in writers:
            self._writers.append(_TensorBoard(workdir / "tensorboard" / name, resume_step))
        if "wandb" in writers:
            self._writers.append(_Wandb(workdir, name, config))

    def write(self, step: int, metrics: dict) -> None:
        """Logs `metrics`, a dict from name to number or 0-d array. Other JSON values reach only the JSON lines."""
        metrics = {k: _number(v) for k, v in metrics.items()}
        for writer in self._writers:
            writer.write(int(step), metrics)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def read_curve(path) -> list[dict]:
    """The dicts of a JSON-lines file, [] when there is no file. Damaged lines are skipped with a warning."""
    lines, bad = _read(epath.Path(path))
    if bad:
        warnings.warn(f"{os.fspath(path)}: {bad} torn or damaged line(s) skipped", stacklevel=2)
    return lines


def write_curve(path, points) -> None:
    """Writes a whole JSON-lines file of dicts atomically, in place of an existing one."""
    files.atomic_write(path, "".join(files.dumps(p) + "\n" for p in points))


def _read(path):
    """(dicts, number of damaged lines) of a JSON-lines file."""
    try:
        raw = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], 0
    parsed = [files.loads_line(line) for line in raw if line]
    lines = [line for line in parsed if line is not None]
    return lines, len(parsed) - len(lines)


def _number(value):
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    value = np.asarray(value)
    return value.item() if value.ndim == 0 else value.tolist()


def _keep_lines(path, resume_step) -> list[dict]:
    """Drops damaged lines and the steps that a resumed run logs again from the file, and returns the others."""
    old, damaged = _read(path)
    kept = old if resume_step is None else [point for point in old if point.get("step", -1) < resume_step]
    if damaged or len(kept) < len(old):
        write_curve(path, kept)
    return kept


class _AppendedLines:
    """A local file that grows by one line per call, unbuffered."""

    def __init__(self, path, resume_step):
        self._path = path
        _keep_lines(path, resume_step)
        with files.disk_full(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115  # `close` closes it
            if self._file.tell() and not path.read_bytes().endswith(b"\n"):
                self._file.write(b"\n")  # the last line is whole but lacks its line end

    def write(self, step, metrics):
        data = f"{files.dumps({'step': step, **metrics})}\n".encode()
        with files.disk_full(self._path):
            while data:  # an unbuffered write may be partial, for example when the disk fills up
                data = data[self._file.write(data):]

    def close(self):
        self._file.close()


class _RewrittenLines:
    """An object in a store that cannot append: it is written whole, at most every `every` seconds and on close."""

    def __init__(self, path, resume_step, every=30.0):
        self._path, self._every, self._written = path, every, time.monotonic()
        self._lines = [files.dumps(point) for point in _keep_lines(path, resume_step)]

    def write(self, step, metrics):
        self._lines.append(files.dumps({"step": step, **metrics}))
        if time.monotonic() - self._written > self._every:
            self._flush()

    def _flush(self):
        self._written = time.monotonic()
        files.atomic_write(self._path, "".join(f"{line}\n" for line in self._lines))

    def close(self):
        self._flush()


class _TensorBoard:
    """Event files through tensorboardX. They only grow, so `purge_step` tells TensorBoard which steps to hide."""

    def __init__(self, path, resume_step):
        from tensorboardX import SummaryWriter
        with files.disk_full(path):
            # File names have a resolution of one second. Without the suffix a quick restart would overwrite the file.
            self._writer = SummaryWriter(os.fspath(path), purge_step=resume_step, flush_secs=30,
                                         filename_suffix=f".{uuid.uuid4().hex[:8]}")
        # tensorboardX would print a warning at every step of a diverged run.
        logging.getLogger("tensorboardX.x2num").setLevel(logging.ERROR)

    def write(self, step, metrics):
        for name, value in metrics.items():
            if isinstance(value, (bool, int, float)):
                self._writer.add_scalar(name, float(value), step)

    def close(self):
        self._writer.close()


class _Wandb:
    """One W&B run per name and workdir, in the group of the workdir. A restart continues the same W&B run."""

    def __init__(self, workdir, name, config):
        try:
            import wandb
        except ImportError:
            raise LogError("the log writer 'wandb' is not installed: `pip install wandb`, "
                           "or leave it out of the writers") from None
        where = os.fspath(workdir if not files.is_local(workdir) else workdir.resolve())
        identity = hashlib.sha256(f"{where}\n{name}".encode()).hexdigest()[:16]
        self._run = wandb.init(project="scaling", group=workdir.name, name=name, id=identity, resume="allow",
                               config=config, reinit="create_new",
                               dir=where if files.is_local(workdir) else None)

    def write(self, step, metrics):
        self._run.log({k: v for k, v in metrics.items() if isinstance(v, (bool, int, float))}, step=step)

    def close(self):
        self._run.finish()


