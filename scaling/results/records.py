"""The results of runs: one small file per run, keyed by fingerprint, never overwritten.

    frame = scaling.results.records.load_records(workdir)   # a tidy DataFrame with one row per run

`workdir/records/<fingerprint>.jsonl` holds the record with its digest as JSON on its last line. `workdir/locks/` keeps
processes that share a workdir from training the same run. Paths may be anything that `etils.epath` takes (`gs://...`).
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
import subprocess
import warnings
from typing import TYPE_CHECKING

from etils import epath

from scaling.store import files, locks
from scaling.store.files import WorkdirError, atomic_write
from scaling.store.strict_json import is_sealed

if TYPE_CHECKING:
    import pandas as pd

# An empty table has these columns too, so that selecting a column works before the first run has finished.
COLUMNS = (
    "fingerprint", "family", "role", "params_total", "params_non_embedding", "params_active", "tokens_seen",
    "tokens_unique", "flops", "flops_executed", "flops_6nd", "steps", "learning_rate", "weight_decay", "seed", "loss",
    "bits_per_byte", "bits_per_byte_package", "diverged", "diverged_step", "seconds", "data_fingerprint", "git_commit",
    "finished")

COMPILER_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "JAX_DEFAULT_MATMUL_PRECISION")  # environment variables

# A record without a digest, of an older version or written by hand, has at least these.
REQUIRED = ("family", "role", "diverged", "experiment")


class RecordError(ValueError):
    """A record has no usable fingerprint, or a record with other content exists already."""


class Records:
    """The records of one workdir. Fingerprints are strings of letters, digits, `.`, `_` and `-`.

    Runs that a rule stopped early have theirs in `stopped/`. With `stopping` they count as done; without it they are
    trained to their end, and the record of a finished run takes the place of that in `stopped/`.
    """

    def __init__(self, workdir, stopping: bool = False):
        self.workdir, self.stopping = epath.Path(workdir).expanduser(), stopping
        self._warned = set()

    def path(self, fingerprint) -> epath.Path:
        return self.workdir / "records" / f"{_checked(fingerprint)}.jsonl"

    def done(self, fingerprint) -> bool:
        """True if there is a whole record of this run. A damaged one does not count: its run is trained again."""
        return self.finished(fingerprint) or self.stopping and _read(self._stopped(fingerprint), self._warned) is not None

    def finished(self, fingerprint) -> bool:
        """True if there is a whole record of this run, which was trained to its end."""
        return _read(self.path(fingerprint), self._warned) is not None

    def stop(self, record: dict) -> None:
        """Adds the record of a run that was stopped early, which has no results."""
        atomic_write(self._stopped(record["fingerprint"]), files.dumps_line(record))

    def go_on(self, fingerprint) -> None:
        """Takes back that a run was stopped early, so that it is trained to its end."""
        self._stopped(fingerprint).unlink(missing_ok=True)

    def stopped(self) -> list[dict]:
        """The whole records of runs that were stopped early and have not been trained to their end since."""
        folder = self.workdir / "stopped"
        paths = sorted(folder.glob("*.jsonl")) if folder.exists() else []
        found = [_read(path, self._warned) for path in paths]
        return [record for record in found if record is not None and not self.path(record["fingerprint"]).exists()]

    def _stopped(self, fingerprint) -> epath.Path:
        return self.workdir / "stopped" / f"{_checked(fingerprint)}.jsonl"

    def read(self, fingerprint) -> dict:
        """The record. Raises KeyError when there is none."""
        record = _read(self.path(fingerprint), self._warned)
        if record is None:
            raise KeyError(f"no record of {fingerprint} in {os.fspath(self.workdir / 'records')}")
        return record

    def write(self, record: dict) -> None:
        """Adds `record`, which must hold its "fingerprint", atomically.

        Writing the same content again does nothing. Raises RecordError for other content under the same fingerprint,
        and DiskFull.
        """
        if "fingerprint" not in record:
            raise RecordError("a record needs the key 'fingerprint'")
        path = self.path(record["fingerprint"])
        line = files.dumps_line(record)
        try:
            return atomic_write(path, line, exclusive=True)
        except FileExistsError:
            pass
        old, new = _read(path, self._warned), files.loads(files.dumps(record))
        if old is None:  # the existing record is torn; append to it, so that the torn line stays for inspection
            torn = path.read_bytes()
            if torn and not torn.endswith(b"\n"):
                torn += b"\n"
            atomic_write(path, torn + line.encode())
            return
        differs = [k for k in sorted(old.keys() | new.keys())
                   if k not in old or k not in new or files.dumps({k: old[k]}) != files.dumps({k: new[k]})]
        if differs:
            raise RecordError(f"{os.fspath(path)} already holds another result (it differs in "
                              f"{', '.join(differs)}); records are never overwritten: if that file is wrong, "
                              "delete it first")

    def claim(self, fingerprint):
        """The right to train this run: an object with `held` and `release()`. Release it only after `write`.

        None when the run is done or another live process has the claim. The claim of a killed process is free at once on
        local file systems, and after five minutes on remote ones; `scaling.store.locks` says what each can promise.
        """
        if self.done(fingerprint):
            return None
        lock = locks.acquire(self.workdir / "locks" / _checked(fingerprint))
        # The previous owner may have written the record between the check above and the lock.
        if lock is not None and self.done(fingerprint):
            lock.release()
            return None
        return lock

    def fingerprints(self) -> list[str]:
        """The fingerprints of all record files, readable or not, sorted."""
        directory = self.workdir / "records"
        if not directory.exists():
            return []
        return sorted(p.name.removesuffix(".jsonl") for p in directory.iterdir()
                      if p.name.endswith(".jsonl") and not p.name.startswith("."))


def load_records(workdir) -> pd.DataFrame:
    """The records as a table, one row each, sorted by fingerprint. Nested dicts become dotted columns.

    The fields of "experiment" have no prefix ("family.width", "optim.learning_rate"); the record's own fields win where
    names clash. Other dicts keep their prefix ("versions.jax"). `flops` are the model's, also for a record of an older
    version, which held the executed ones. Runs that were stopped early have no results, but `stopped_step` and
    `stopped_because`. Unreadable files are skipped with a warning. Raises WorkdirError when `workdir` is not a directory.
    """
    import pandas as pd

    records = Records(workdir)
    if not records.workdir.is_dir():
        raise WorkdirError(f"workdir {os.fspath(records.workdir)!r} is not a directory: name one that holds runs")
    rows = [_read(records.path(fp), records._warned) for fp in records.fingerprints()]
    rows = [_row(_with_active(_with_model_flops(r))) for r in [*rows, *records.stopped()] if r is not None]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(COLUMNS))


def curve_seals(frame: pd.DataFrame) -> list[dict | None]:
    """What each record of a table of `load_records` says about the run's curve, see `logs.curve_seal`; None for nothing."""
    import pandas as pd

    columns = [name for name in ("curve.points", "curve.digest", "curve.lost") if name in frame]
    rows = frame[columns].to_dict("records") if columns else [{}] * len(frame)
    found = [{k.removeprefix("curve."): v for k, v in row.items() if pd.notna(v)} for row in rows]
    return [{k: v if k == "digest" else int(v) for k, v in seal.items()} or None for seal in found]


def _with_model_flops(record):
    """The record with the model's FLOPs under "flops", where results version 2 recorded the executed ones."""
    if "flops" not in record or "flops_executed" in record:
        return record
    from scaling.experiment import legacy  # it imports JAX, which tables of newer runs do not need
    return legacy.with_model_flops(record)


def _with_active(record):
    """The record with the parameters that a token uses under "params_active"; older ones are of models that use all."""
    if "params_active" in record or "params_non_embedding" not in record:
        return record
    return {**record, "params_active": record["params_non_embedding"]}


def _row(record):
    experiment = record.get("experiment")
    experiment = experiment if isinstance(experiment, dict) else {}
    own = {k: v for k, v in record.items() if k != "experiment" and not isinstance(v, dict)}
    nested = {k: v for k, v in record.items() if k != "experiment" and isinstance(v, dict)}
    return {**own, **{k: v for k, v in _flat(experiment) if k not in own}, **dict(_flat(nested))}


def _flat(tree, prefix=""):
    for k, v in tree.items():
        if isinstance(v, dict):
            yield from _flat(v, f"{prefix}{k}.")
        else:
            yield f"{prefix}{k}", v


def _checked(fingerprint):
    if not isinstance(fingerprint, str) or not re.fullmatch(r"\w[\w.-]*", fingerprint, re.ASCII):
        raise RecordError(f"not a fingerprint: {fingerprint!r} (letters, digits, '.', '_' and '-' only)")
    return fingerprint


def _read(path, warned):
    """The record on the last whole line, or None. Warns once per bad file."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return None
    except OSError as error:
        lines, why = [], str(error)
    else:
        why = "torn or damaged last line"
    parsed = [_whole(line, path.name.removesuffix(".jsonl")) for line in lines]
    record = next((found for found in reversed(parsed) if found is not None), None)
    damaged = not parsed or parsed[-1] is None
    if damaged and path not in warned:
        warned.add(path)
        then = "this run will be trained again" if record is None else "the line before it is used"
        warnings.warn(f"{os.fspath(path)}: {why}, skipped; {then}", stacklevel=3)
    return record


def _whole(line, fingerprint) -> dict | None:
    """The record of a run on a line, or None where it fits neither its digest nor the run, or lacks a field."""
    record = files.loads_line(line)
    if record is None or record.get("fingerprint") != fingerprint:
        return None
    return record if is_sealed(line) or all(name in record for name in REQUIRED) else None


@functools.cache
def versions(packages=("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scaling")) -> dict:
    """Versions of Python and of packages, by default those that results depend on; None for what is not installed.

    Nothing is imported for this.
    """
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package.removesuffix("-checkpoint")] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package.removesuffix("-checkpoint")] = None
    return found


def compiler_flags() -> dict[str, str]:
    """The environment variables in force that choose what XLA makes of a program, such as how it overlaps collectives with
    computing, and the precision of products. They change speed, and results to rounding."""
    return {name: " ".join(os.environ[name].split()) for name in COMPILER_FLAGS if os.environ.get(name, "").strip()}


def built_with() -> dict:
    """What results depend on beside the code and the experiment: `versions`, and `compiler_flags`."""
    return versions() | compiler_flags()


@functools.cache
def git_commit() -> str | None:
    """The commit of this code, with "-dirty" when tracked files differ from it; None outside a checkout."""
    def git(*args):
        return subprocess.run(("git", *args), cwd=os.path.dirname(os.path.abspath(__file__)), check=True,
                              timeout=10, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True).stdout.strip()
    try:
        # This fails for an installed copy inside another repository.
        git("ls-files", "--error-unmatch", os.path.basename(__file__))
        return git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None
