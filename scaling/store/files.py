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
import uuid

import numpy as np
from etils import epath


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
def disk_full(path, remedy=None):
    """Turns "no space" errors inside the block into one `DiskFull` that names `path` and says what to do.

    `remedy` is the advice where there is a better one than to run the command again. It also replaces the advice
    of a `DiskFull` that the block itself raises.
    """
    try:
        yield
    except Exception as error:
        if not _says_full(error) or (isinstance(error, DiskFull) and remedy is None):
            raise
        raise DiskFull(errno.ENOSPC, f"no space left to write {os.fspath(path)}. Finished work is not lost: "
                                     f"{remedy or 'free some space and run the same command again'}") from error


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

    A local write goes through `replacing`. A remote write is one object write, which object stores make atomic. With
    `exclusive`, raises FileExistsError when `path` exists: exactly one of several local writers succeeds, while remote
    writes only check just before they write.

    This is our own code because no library writes both atomically and exclusively through epath.
    """
    path = epath.Path(path)
    data = data.encode() if isinstance(data, str) else data
    with disk_full(path):
        if is_local(path):
            with replacing(path, exclusive) as temporary:
                temporary.write_bytes(data)
            return
        if exclusive and path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@contextlib.contextmanager
def replacing(path, exclusive: bool = False):
    """Yields a temporary path beside the local `path`. The file written there becomes `path` when the block succeeds.

    The file and its directory are synced to disk. When the block fails, the temporary file is removed and `path`
    stays as it was. With `exclusive`, raises FileExistsError when `path` exists.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        yield temporary
        _sync(temporary)
        if exclusive:
            _link(temporary, path)
        else:
            os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(source, target):
    """Gives `source` the second name `target`; `link` fails in the same step when `target` exists."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.exists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target)) from None
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
