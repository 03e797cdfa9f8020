"""Metrics as they come: JSON lines always, TensorBoard and Weights & Biases when asked for; a progress bar.

    log = Logger(workdir, fingerprint, writers=("jsonl", "tensorboard"), resume_step=first_step)
    log.write(step, {"tokens": tokens, "loss": loss, "learning_rate": rate})
    log.close()

writes `workdir/curves/<fingerprint>.jsonl`, one line {"step", metrics...} a call, and
`workdir/tensorboard/<fingerprint>/`.
"""
import hashlib
import logging
import os
import time
import uuid
import warnings

import numpy as np
from etils import epath

from scaling.store import files

WRITERS = ("jsonl", "tensorboard", "wandb")


class LogError(ValueError):
    """A writer that does not exist or is not installed."""


class Logger:
    """Writes a run's metrics. Usable as a context manager.

    `resume_step=k` says that this process goes on from step k (0: from the start): what an earlier attempt
    logged at step k or later is dropped, so that the log is that of one uninterrupted run. None keeps
    everything and appends. `writers` from "jsonl" (there even if not named), "tensorboard", "wandb" (Weights
    & Biases; set WANDB_MODE=offline where there is no network); `config` is shown there beside the run.
    Raises LogError for others, and when wandb is not installed.
    """

    def __init__(self, workdir, name, writers=("jsonl",), resume_step=None, config=None, directory="curves"):
        unknown = sorted(set(writers) - set(WRITERS))
        if unknown:
            raise LogError(f"unknown log writer {unknown[0]!r}: choose from {', '.join(WRITERS)}")
        workdir = epath.Path(workdir).expanduser()
        # JSON lines come first: when the disk is full, this one says so clearly.
        self._writers = [_Lines(workdir / directory / f"{name}.jsonl", resume_step)]
        if "tensorboard" in writers:
            self._writers.append(_TensorBoard(workdir / "tensorboard" / name, resume_step))
        if "wandb" in writers:
            self._writers.append(_Wandb(workdir, name, config))

    def write(self, step: int, metrics: dict) -> None:
        """Logs `metrics`: names to numbers or 0-d arrays (other JSON values reach the JSON lines only)."""
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
    """The lines of a JSON-lines file, [] when there is no file. Damaged lines are skipped with a warning."""
    lines, bad = _read(epath.Path(path))
    if bad:
        warnings.warn(f"{os.fspath(path)}: {bad} torn or damaged line(s) skipped", stacklevel=2)
    return lines


def write_curve(path, points) -> None:
    """A whole JSON-lines file of dicts at once, atomically; replaces what was there."""
    files.atomic_write(path, "".join(files.dumps(p) + "\n" for p in points))


def _read(path):
    try:
        raw = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], 0
    lines, bad = [], 0
    for line in filter(None, raw):
        try:
            value = files.loads(line.decode())
            if not isinstance(value, dict):
                raise ValueError("not an object")
            lines.append(value)
        except (ValueError, AttributeError, LookupError, TypeError):
            bad += 1
    return lines, bad


def _number(value):
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    value = np.asarray(value)
    return value.item() if value.ndim == 0 else value.tolist()


class _Lines:
    """Appends, a line at a time and flushed. Object stores cannot append: there the whole object is written
    again, but not more than every `every` seconds, and when closed.
    """

    def __init__(self, path, resume_step, every=30.0):
        self._path, self._every, self._written = path, every, time.monotonic()
        old, bad = _read(path)
        kept = old if resume_step is None else [p for p in old if p.get("step", -1) < resume_step]
        if bad or len(kept) < len(old):
            write_curve(path, kept)
        self._file = self._pending = None
        if not files.is_local(path):
            self._pending = [files.dumps(p) for p in kept]
            return
        with files.disk_full(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "ab", buffering=0)
            if self._file.tell() and not path.read_bytes().endswith(b"\n"):
                self._file.write(b"\n")  # whole but for its line end

    def write(self, step, metrics):
        line = files.dumps({"step": step, **metrics})
        if self._file is not None:
            with files.disk_full(self._path):
                data = f"{line}\n".encode()
                while data:  # an unbuffered write may be partial, as when the disk fills up
                    data = data[self._file.write(data):]
            return
        self._pending.append(line)
        if time.monotonic() - self._written > self._every:
            self._flush()

    def _flush(self):
        self._written = time.monotonic()
        files.atomic_write(self._path, "".join(f"{line}\n" for line in self._pending))

    def close(self):
        if self._file is not None:
            self._file.close()
        else:
            self._flush()


class _TensorBoard:
    """Event files through tensorboardX. They only grow: `purge_step` has TensorBoard hide dropped steps."""

    def __init__(self, path, resume_step):
        from tensorboardX import SummaryWriter
        with files.disk_full(path):
            # Its file names hold the second only: without the suffix a quick restart would overwrite.
            self._writer = SummaryWriter(os.fspath(path), purge_step=resume_step, flush_secs=30,
                                         filename_suffix=f".{uuid.uuid4().hex[:8]}")
        # NaN is worth showing once a run diverges, not worth a line on the terminal a step.
        logging.getLogger("tensorboardX.x2num").setLevel(logging.ERROR)

    def write(self, step, metrics):
        for name, value in metrics.items():
            if isinstance(value, (bool, int, float)):
                self._writer.add_scalar(name, float(value), step)

    def close(self):
        self._writer.close()


class _Wandb:
    """One W&B run per name and workdir, in the group of the workdir; the same run goes on after a restart."""

    def __init__(self, workdir, name, config):
        try:
            import wandb
        except ImportError:
            raise LogError("the log writer 'wandb' is asked for but not installed: `pip install wandb`, "
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


