"""Where prepared data lies, and how it gets there without ever being seen half made."""
import contextlib
import errno
import json
import os
import pathlib
import tempfile

from scaling.data.errors import DataError


def directory(data_dir: str | os.PathLike | None = None) -> pathlib.Path:
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
def room(path: pathlib.Path):
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


def write_json(path: pathlib.Path, value: dict) -> None:
    """Writes `value` so that a reader sees all of it or nothing."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True))


def read_json(path: pathlib.Path) -> dict | None:
    """What `write_json` wrote, or None where there is nothing that can be read."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
