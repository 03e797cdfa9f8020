"""Prepared data on disk: their directory, locks for the processes that prepare them, and their index files."""
import contextlib
import errno
import hashlib
import os
import pathlib
import tempfile
import warnings

import filelock

from scaling.fields import DataError
from scaling.store import files
from scaling.store.locks import NO_FLOCK

# What `files.disk_full` advises when the disk of prepared data is full.
REMEDY = "free some space, or set data_dir= or $SCALING_DATA_DIR to a directory on another disk"


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
def preparing(root: pathlib.Path):
    """Turns a full disk (DiskFull) and a file of another user that cannot be written (DataError) into one sentence."""
    with files.disk_full(root, REMEDY):
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            raise DataError(f"{error.filename or root} cannot be used ({error.strerror}); give those who share this data "
                            "directory the right to write in it, or set data_dir= or $SCALING_DATA_DIR to another "
                            "directory") from error


@contextlib.contextmanager
def locked(path: pathlib.Path):
    """Holds the lock `path`.lock, so that two processes do not do the same work. A killed holder frees it.

    Where a file system has no locks, both processes do the work, and each renames the same bytes into place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without fallback_to_soft=False, filelock would create a lock that outlives a killed holder.
    lock = filelock.FileLock(path.with_name(path.name + ".lock"), fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
    try:
        yield
    finally:
        lock.release()


def find_index(path: pathlib.Path, *keys: str) -> dict | None:
    """The index of prepared data, as `files.write_json` wrote it, with `keys`; None where it is missing or damaged.

    Callers prepare the data again when there is none. A damaged one is said in a warning.
    """
    try:
        found = files.read_json(path)
        if isinstance(found, dict) and all(key in found for key in keys):
            return found
        problem = f"it lacks {', '.join(key for key in keys if not isinstance(found, dict) or key not in found)}"
    except FileNotFoundError:
        return None
    except ValueError as error:
        problem = str(error)
    say_damaged(path, problem)
    return None


def say_damaged(path, problem) -> None:
    """Warns that the prepared data in `path` are damaged, and are prepared again."""
    lines = str(problem).strip().splitlines() or [type(problem).__name__]
    warnings.warn(f"{os.fspath(path)} is damaged and is prepared again ({lines[0][:200]})", stacklevel=3)


def file_digest(path: pathlib.Path) -> str:
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damaged_file(directory: pathlib.Path, digests: dict[str, str], most: int = 1 << 30) -> str:
    """Which of the files in `directory` is missing or has another digest, in words; "" if none.

    A file of more than `most` bytes (a second of reading), or with an empty digest, is only looked for.
    """
    for name, digest in digests.items():
        path = directory / name
        try:
            if path.stat().st_size <= most and digest and file_digest(path) != digest:
                return f"{name} was changed or cut short"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return ""
