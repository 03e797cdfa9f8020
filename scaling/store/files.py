"""Atomic writes, strict JSON, and errors of one sentence: a file exists whole or not at all.

Every path may be local or anything else that `etils.epath` takes (`gs://bucket/...`).
"""
import contextlib
import errno
import os
import pathlib
import re
import uuid
from typing import Any

from etils import epath

from scaling.store import leftovers, strict_json
from scaling.store.strict_json import dumps, dumps_line, loads, loads_line  # noqa: F401 - part of this module's face

_SCHEME = re.compile("[a-z][a-z0-9+.-]*:")


class WorkdirError(ValueError):
    """The workdir cannot be used: it is a file, is not writable, or does not exist."""


class DamagedFile(ValueError):
    """A file is not what was written: it is cut, altered or unreadable. The message names it and says what to do."""


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


def check_path(path) -> None:
    """Raises WorkdirError for a directory that checkpoints cannot be read from.

    tensorstore takes `[` for a pattern, a backslash for a slash and `gs:` for the start of a URL, wherever they stand.
    """
    shown = os.fspath(path)
    if not is_local(path):
        return
    path = os.path.realpath(os.path.expanduser(shown))
    found = next((f"the character {c!r}" for c in "[\\" if c in path), None)
    found = found or next((f"the part {p!r}" for p in path.split(os.sep) if _SCHEME.fullmatch(p)), None)
    found = found or (None if _decodes(path) else "bytes that are not UTF-8")
    if found:
        raise WorkdirError(f"the path {path!r} has {found}, with which checkpoints cannot be read back: choose another "
                           "directory, or rename this one")


def _decodes(path):
    try:
        path.encode()
        return True
    except UnicodeEncodeError:
        return False


def open_workdir(path) -> epath.Path:
    """Creates the directory `path` and its parents, tests that it is writable, and returns it.

    Temporary files that killed processes left behind in it are removed; see `scaling.store.leftovers`.

    Raises WorkdirError when it is a file, lies inside a file, is not writable, or has a path of which checkpoints cannot be
    read; DiskFull when the disk is full.
    """
    path = epath.Path(path).expanduser()
    shown = os.fspath(path)
    check_path(path)
    with disk_full(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
            if not path.is_dir():
                raise NotADirectoryError
            probe = path / f".probe-{uuid.uuid4().hex}"
            probe.write_bytes(b"probe")  # os.access ignores read-only mounts, quotas and buckets
            probe.unlink()
            if is_local(path):
                leftovers.sweep(path)
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

    The file and its directory are synced to disk. It gets the mode that the umask gives, whatever writes it. When the block
    fails, the temporary file is removed and `path` stays as it was. With `exclusive`, raises FileExistsError when `path`
    exists.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        with open(temporary, "xb") as file, leftovers.owned(file):
            yield temporary
            mode = os.fstat(file.fileno()).st_mode
        if temporary.stat().st_mode != mode:  # some libraries write a file of their own, for its owner alone
            temporary.chmod(mode)
        _sync(temporary)
        if exclusive:
            _link(temporary, path)
        else:
            os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_directory(path) -> None:
    """Writes the names in a local directory to the disk; other stores do it by themselves."""
    if is_local(path) and os.path.isdir(path):
        _sync(path)


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


def write_json(path, obj, exclusive: bool = False) -> None:
    """Writes `obj` as indented strict JSON with its digest; see `scaling.store.strict_json` and `atomic_write`."""
    atomic_write(path, strict_json.dumps_sealed(obj, indent=1) + "\n", exclusive)


def read_json(path) -> Any:
    """What `write_json` was given; a file without a digest is read as it is.

    Raises FileNotFoundError where there is no file, and DamagedFile where it is not JSON, cannot be read, or was altered.
    """
    shown, again = os.fspath(path), "restore it, or delete it and run the command that wrote it again"
    try:
        return strict_json.loads_sealed(epath.Path(path).read_text())
    except FileNotFoundError:
        raise
    except strict_json.SealError as error:
        raise DamagedFile(f"{shown} is not as it was written ({error}): {again}; if it was edited on purpose, delete its "
                          f"key {strict_json.KEY!r}") from error
    except OSError as error:
        raise DamagedFile(f"{shown} cannot be read ({error.strerror or error}): {again}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFile(f"{shown} is not valid JSON ({error}): {again}") from error
