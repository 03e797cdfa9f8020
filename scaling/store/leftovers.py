"""Temporary files of writers that were killed: which ones nobody owns any more, and their removal.

A writer holds the kernel's lock on its temporary file, which ends with its process. File systems without such locks,
object stores, and libraries that put a file of their own in place leave only its age to go by.
"""

import contextlib
import pathlib
import re
import time

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

AGE = 3600.0  # seconds without a change after which a temporary file without a lock is nobody's
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp|\.probe-[0-9a-f]{32}")


@contextlib.contextmanager
def owned(file):
    """Holds the lock on an open temporary file while the block writes it."""
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    yield


def sweep(folder, age: float = AGE) -> list[pathlib.Path]:
    """Removes the temporary files in a local folder, and in the folders in it, that nobody writes any more; returns them.

    These are files with a name that `files.replacing` and `files.open_workdir` give, unchanged for `age` seconds and not
    locked. Files that cannot be removed stay.
    """
    folder = pathlib.Path(folder)
    removed = []
    for inside in [folder, *(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())]:
        with contextlib.suppress(OSError):
            for path in list(inside.iterdir()):
                if TEMPORARY.fullmatch(path.name) and _abandoned(path, age):
                    path.unlink()
                    removed.append(path)
    return removed


def _abandoned(path, age):
    try:
        if time.time() - path.lstat().st_mtime < age or not path.is_file() or path.is_symlink():
            return False
        if fcntl is None:
            return True
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        return not isinstance(error, (FileNotFoundError, PermissionError))
