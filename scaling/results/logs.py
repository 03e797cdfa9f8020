"""Logs of a run's metrics: always as JSON lines, and on request to TensorBoard and Weights & Biases.

    log = Logger(workdir, fingerprint, writers=("jsonl", "tensorboard"), resume_step=first_step)
    log.write(step, {"tokens": tokens, "loss": loss, "learning_rate": rate})
    log.close()

writes `workdir/curves/<fingerprint>.jsonl`, one line {"step", metrics...} per call, and
`workdir/tensorboard/<fingerprint>/`.
"""
import hashlib
import os
import time
import warnings
from typing import Any

import numpy as np
from etils import epath

from scaling.results.writers import WRITERS, LogError, TensorBoard, Wandb
from scaling.store import files

VALIDATION = "validation/"  # begins the names of metrics on evaluation data in the points of a curve


class Logger:
    """Writes a run's metrics. Usable as a context manager.

    `resume_step=k` says that this process resumes at step k (0 is the start): lines of an earlier attempt at step k or
    later are dropped, so that the log equals the log of one uninterrupted run. None keeps all lines and appends.
    `writers` are "jsonl" (always written), "tensorboard" and "wandb" (Weights & Biases; set WANDB_MODE=offline where
    there is no network). W&B shows `config` beside the run. `seal` is that of an earlier logger at the step where this
    one resumes: a warning says when the lines from before are no longer the same. Raises LogError for other writers, and
    when wandb is not installed.
    """

    def __init__(self, workdir, name, writers=("jsonl",), resume_step=None, config=None, directory="curves", seal=None):
        unknown = sorted(set(writers) - set(WRITERS))
        if unknown:
            raise LogError(f"unknown log writer {unknown[0]!r}: choose from {', '.join(WRITERS)}")
        workdir = epath.Path(workdir).expanduser()
        # JSON lines come first, because their error for a full disk is the clearest.
        path = workdir / directory / f"{name}.jsonl"
        lines = _AppendedLines if files.is_local(path) else _RewrittenLines
        self._lines = lines(path, resume_step, seal)
        self._writers: list[Any] = [self._lines]
        if "tensorboard" in writers:
            self._writers.append(TensorBoard(workdir / "tensorboard" / name, resume_step))
        if "wandb" in writers:
            self._writers.append(Wandb(workdir, name, config))

    def write(self, step: int, metrics: dict) -> None:
        """Logs `metrics`, a dict from name to number or 0-d array. Other JSON values reach only the JSON lines."""
        metrics = {k: _number(v) for k, v in metrics.items()}
        for writer in self._writers:
            writer.write(int(step), metrics)

    def seal(self) -> dict:
        """What tells later whether the lines up to now are whole; see `curve_seal`."""
        return self._lines.count.seal()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def read_curve(path, seal: dict | None = None) -> list[dict]:
    """The points of a curve, [] when there is no file. What is lost, see `examine_curve`, is said in a warning."""
    points, problem = examine_curve(path, seal)
    if problem:
        warnings.warn(problem, stacklevel=2)
    return points


def examine_curve(path, seal: dict | None = None) -> tuple[list[dict], str | None]:
    """(whole points of a JSON-lines file, a sentence on what it has lost, or None).

    `seal` is what `curve_seal` gave for the points when they were written; the "curve" of a run's record, for example.
    """
    path = epath.Path(path)
    try:
        points, damaged = _read(path)
    except OSError as error:
        points, damaged = [], f"it cannot be read ({error.strerror or error})"
    else:
        damaged = f"{damaged} torn or damaged line(s) skipped" if damaged else None
        if seal is not None and curve_seal(points)["digest"] != seal.get("digest"):
            number = seal.get("points")
            damaged = damaged or ("points were altered" if len(points) == number else "points are missing")
            damaged += f", and {len(points)} points of {number} are left"
        elif seal is not None:
            damaged = None  # a line beside its points
        if seal is not None and seal.get("lost"):
            damaged = f"{damaged + '; ' if damaged else ''}points were lost when training resumed"
    return points, damaged and f"{os.fspath(path)}: {damaged}"


def curve_seal(points, lost: int = 0) -> dict:
    """What tells whether a curve is whole: the number of its points and their digest.

    `lost` is the number of points that were lost while the run was trained; it is left out when it is 0.
    """
    found = hashlib.sha256()
    for point in points:
        found.update(files.dumps(point).encode() + b"\n")
    return _seal(len(points), found, lost)


def _seal(number, digest, lost):
    return {"points": number, "digest": digest.hexdigest()[:32]} | ({"lost": lost} if lost else {})


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


class _Counted:
    """The seal of a log that grows, which begins with the points that a resumed run keeps.

    Warns when these are not the points that `expected`, a seal, was made from.
    """

    def __init__(self, path, kept, expected):
        self._number, self._digest, self._lost = len(kept), hashlib.sha256(), (expected or {}).get("lost", 0)
        for point in kept:
            self._digest.update(files.dumps(point).encode() + b"\n")
        if expected is not None and self.seal()["digest"] != expected["digest"]:
            missing = max(1, expected["points"] - len(kept))
            self._lost += missing
            warnings.warn(f"the log {os.fspath(path)} is damaged: it lost {missing} or more of its {expected['points']} "
                          "points; training goes on, and the curve of the run stays without them", stacklevel=5)

    def add(self, line: str) -> None:
        self._number += 1
        self._digest.update(line.encode() + b"\n")

    def seal(self):
        return _seal(self._number, self._digest, self._lost)


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

    def __init__(self, path, resume_step, seal=None):
        self._path = path
        self.count = _Counted(path, _keep_lines(path, resume_step), seal)
        with files.disk_full(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115  # `close` closes it
            if self._file.tell() and not path.read_bytes().endswith(b"\n"):
                self._file.write(b"\n")  # the last line is whole but lacks its line end

    def write(self, step, metrics):
        line = files.dumps({"step": step, **metrics})
        self.count.add(line)
        data = f"{line}\n".encode()
        with files.disk_full(self._path):
            while data:  # an unbuffered write may be partial, for example when the disk fills up
                data = data[self._file.write(data):]

    def close(self):
        self._file.close()


class _RewrittenLines:
    """An object in a store that cannot append: it is written whole, at most every `every` seconds and on close."""

    def __init__(self, path, resume_step, seal=None, every=30.0):
        self._path, self._every, self._written = path, every, time.monotonic()
        kept = _keep_lines(path, resume_step)
        self.count = _Counted(path, kept, seal)
        self._lines = [files.dumps(point) for point in kept]

    def write(self, step, metrics):
        self._lines.append(files.dumps({"step": step, **metrics}))
        self.count.add(self._lines[-1])
        if time.monotonic() - self._written > self._every:
            self._flush()

    def _flush(self):
        self._written = time.monotonic()
        files.atomic_write(self._path, "".join(f"{line}\n" for line in self._lines))

    def close(self):
        self._flush()
