"""Atomic writes, strict JSON, and errors of one sentence: a file exists whole or not at all.

Every path may be local or anything else that `etils.epath` takes (`gs://bucket/...`).
"""
import contextlib
import dataclasses
import errno
import json
import math
import os
import pathlib
import tempfile
import uuid

import numpy as np
from etils import epath

from scaling.fields import DataError


class WorkdirError(ValueError):
    """The workdir cannot be used: it is a file, is not writable, or does not exist."""


class DiskFull(OSError):
    """A file could not be written because the disk or the quota is full."""

    def __str__(self) -> str:
        return str(self.strerror)  # the sentence, without "[Errno 28]"


def is_local(path) -> bool:
    return "://" not in os.fspath(path)


def _says_full(error) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        # tensorstore, which orbax uses, passes on the system's message without its number.
        if "No space left on device" in str(error) or "Disk quota exceeded" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def disk_full(path):
    """Turns a "no space" error inside the block into one `DiskFull` that says what to do about `path`."""
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        if not _says_full(error):
            raise
        raise DiskFull(
            errno.ENOSPC, f"no space left to write {os.fspath(path)}. Finished work is not lost: "
            "free some space and run the same command again") from error


def open_workdir(path) -> epath.Path:
    """Creates the directory `path` and its parents, tests that it is writable, and returns it.

    Raises WorkdirError when it is a file, lies inside a file, or is not writable; DiskFull when the disk is full.
    """
    path = epath.Path(path).expanduser()
    shown = os.fspath(path)
    with disk_full(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
            if not path.is_dir():
                raise NotADirectoryError
            probe = path / f".probe-{uuid.uuid4().hex}"
            probe.write_bytes(b"probe")  # os.access ignores read-only mounts, quotas and buckets
            probe.unlink()
        except (FileExistsError, NotADirectoryError):
            raise WorkdirError(f"workdir {shown!r} is a file, or lies inside one: "
                               "name a directory; it is created when it does not exist") from None
        except ImportError as error:
            raise WorkdirError(f"workdir {shown!r} needs a package that is not installed: {error}") from None
        except OSError as error:
            if _says_full(error):
                raise
            raise WorkdirError(f"workdir {shown!r} cannot be written ({error.strerror or error}): "
                               "choose another --workdir or change its permissions") from None
    return path


def atomic_write(path, data, exclusive: bool = False) -> None:
    """Writes `data` (bytes, or str as UTF-8) so that readers see either the old file or the new one, never a part.

    A local write makes a temporary file in the same directory, fsyncs it, renames it and fsyncs the directory. A remote
    write is one object write, which object stores make atomic. With `exclusive`, raises FileExistsError when `path`
    exists: exactly one of several local writers succeeds, while remote writes only check just before they write.

    This is our own code because no library writes both atomically and exclusively through epath.
    """
    path = epath.Path(path)
    data = data.encode() if isinstance(data, str) else data
    with disk_full(path):
        if not is_local(path):
            if exclusive and path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(path))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = os.fspath(path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            with open(temporary, "wb") as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
            if exclusive:
                _link(temporary, os.fspath(path))
            else:
                os.replace(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _link(source, target):
    """Gives `source` the second name `target`; `link` fails in the same step when `target` exists."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.exists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
        os.rename(source, target)


def dumps(obj, indent=None) -> str:
    """Strict JSON, which browsers and jq can read.

    Takes dicts, lists, NumPy and JAX arrays and scalars, paths and dataclasses. JSON has no NaN and no infinity, so
    they are written as null, and the dict around them records them under the key "nonfinite":
    {"loss": NaN, "a": [1.0, inf]} becomes
    {"loss": null, "a": [1.0, null], "nonfinite": {"loss": "nan", "a": {"1": "inf"}}}. `loads` restores them.
    """
    value, marks = _encode(obj, "")
    if marks is not None:
        raise ValueError(f"JSON cannot hold NaN or infinity outside a dict: wrap {obj!r} in a dict")
    return json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)


def loads(text):
    """The values that `dumps` was given."""
    return json.loads(text, object_hook=_decode)


def loads_line(line: bytes) -> dict | None:
    """The dict on one line of a JSON-lines file, or None when the line is torn or damaged."""
    try:
        value = loads(line.decode())
    except (ValueError, AttributeError, LookupError, TypeError):
        return None
    return value if isinstance(value, dict) else None


def _encode(x, where):
    """(JSON value of x, marks). Marks are "nan", "inf" or "-inf" for such a float, {index: marks} for a list, else None."""
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        x = {f.name: getattr(x, f.name) for f in dataclasses.fields(x)}
    if x is None or isinstance(x, (bool, int, str)):
        return x, None
    if isinstance(x, float):
        return (float(x), None) if math.isfinite(x) else (None, str(float(x)))
    if isinstance(x, dict):
        pairs = {str(k): _encode(v, f"{where}.{k}") for k, v in x.items()}
        value = {k: v for k, (v, _) in pairs.items()}
        marks = {k: m for k, (_, m) in pairs.items() if m is not None}
        if "nonfinite" in value:
            raise ValueError(f"the key 'nonfinite' at {where.lstrip('.') or 'the top'} is reserved for NaN and infinity: "
                             "rename it")
        return ({**value, "nonfinite": marks} if marks else value), None
    if isinstance(x, (list, tuple)):
        pairs = [_encode(v, f"{where}.{i}") for i, v in enumerate(x)]
        marks = {str(i): m for i, (_, m) in enumerate(pairs) if m is not None}
        return [v for v, _ in pairs], marks or None
    if isinstance(x, os.PathLike):
        return os.fspath(x), None
    if hasattr(x, "isoformat"):
        return x.isoformat(), None
    if hasattr(x, "__array__"):
        return _encode(np.asarray(x).tolist(), where)
    raise TypeError(f"{type(x).__name__} at {where.lstrip('.') or 'the top'} has no JSON form: {x!r}")


def _decode(d):
    def put(value, marks):
        if isinstance(marks, str):
            return float(marks)
        value = list(value)
        for i, m in marks.items():
            value[int(i)] = put(value[int(i)], m)
        return value
    marks = d.pop("nonfinite", {})
    return {**d, **{k: put(d[k], m) for k, m in marks.items()}}


def write_json(path, obj) -> None:
    """Writes `obj` atomically as indented strict JSON; see `dumps`."""
    atomic_write(path, dumps(obj, indent=1) + "\n")


def read_json(path):
    """Reads a file of `write_json`. Raises ValueError, which names the file, when it is not JSON."""
    try:
        return loads(epath.Path(path).read_text())
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{os.fspath(path)} is not valid JSON ({error}): restore or delete it") from error


# ------------------------------------------------------------------------- prepared data


def data_directory(data_dir: str | os.PathLike | None = None) -> pathlib.Path:
    """`data_dir`, else $SCALING_DATA_DIR, else ~/.cache/scaling/data; created, and checked to be writable."""
    chosen = data_dir or os.environ.get("SCALING_DATA_DIR") or "~/.cache/scaling/data"
    path = pathlib.Path(chosen).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise DataError(f"data_dir {str(path)!r} cannot be written ({error.strerror}); "
                        "set data_dir= or $SCALING_DATA_DIR to a directory that can") from error
    return path


@contextlib.contextmanager
def data_room(path: pathlib.Path):
    """Says in one sentence that the disk is full; what is half written then is not there for any reader."""
    try:
        yield
    except Exception as error:  # array_record and TFDS raise their own kinds, with the system's words
        if getattr(error, "errno", None) == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error):
            raise DataError(f"no space is left on the disk of data_dir {str(path)!r}; free some, or set "
                            "data_dir= or $SCALING_DATA_DIR elsewhere; what is finished stays") from error
        raise


@contextlib.contextmanager
def locked(path: pathlib.Path):
    """Holds `path`.lock, so that two processes do the same work once; it is free again when its holder dies.

    Only a courtesy: where a file system has no locks both do the work, and the same bytes are renamed into
    place twice.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(path.name + ".lock"), "w") as handle:
        with contextlib.suppress(ImportError, OSError):
            import fcntl
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def replacing(path: pathlib.Path):
    """Gives a temporary path in the same directory; on success it is renamed to `path`, otherwise removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=path.name + ".", suffix=".part", dir=path.parent)
    os.close(handle)
    try:
        yield pathlib.Path(temporary)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def find_json(path: pathlib.Path) -> dict | None:
    """What `write_json` wrote, or None where there is nothing that can be read."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
