"""Which files a path or a glob names. Folders that are linked in a circle are entered once."""
import glob
import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from scaling.fields import DataError


class Listing(NamedTuple):
    files: list[tuple[str, pathlib.Path]]       # (name below the common folder, path), sorted by path
    left_out: dict[str, int]                    # reason -> number of paths


def list_files(kind: str, pattern: str, example: str) -> Listing:
    """The files of `pattern`: a file, a folder (with all that lies in it), or a glob in which `**` crosses folders.

    A part of the path that exists as it is written is taken as it is, so a folder may be called "books [v1]". "~" is the
    home directory. Names that begin with a dot are left out of folders and of `*`, as a shell does. Raises DataError
    when there is no file; `kind` and `example` are words of its sentence.
    """
    left_out: dict[str, int] = {}
    written = os.path.expanduser(pattern)
    if os.path.isdir(written):
        paths = _expand(os.path.join(glob.escape(written), "**", "*"), left_out)
    else:
        paths = _expand(_literal_prefix(written), left_out)
    found = sorted(path for path in paths if os.path.isfile(path))
    if missing := sum(not os.path.exists(path) for path in paths):
        left_out["broken_link"] = missing
    if not found:
        says = "is a folder without files" if os.path.isdir(written) else "matches no file"
        raise DataError(f"{kind}:{pattern} {says} (looked from {os.getcwd()}); write a folder, or a glob such as "
                        f"{kind}:{example}")
    root = pathlib.Path(os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in found]))
    return Listing([(_name(pathlib.Path(os.path.abspath(path)).relative_to(root)), pathlib.Path(path))
                    for path in found], left_out)


def _name(path: pathlib.PurePath) -> str:
    """The name of a document; bytes of a file's name that are not UTF-8 read as U+FFFD."""
    return os.fsencode(path.as_posix()).decode("utf-8", "replace")


def _literal_prefix(pattern: str) -> str:
    """The pattern with the parts that exist as they are written escaped."""
    parts = pattern.split(os.sep)
    for count in range(len(parts), 0, -1):
        prefix = os.sep.join(parts[:count])
        if prefix and os.path.lexists(prefix):
            return os.sep.join([glob.escape(prefix), *parts[count:]])
    return pattern


def _expand(pattern: str, left_out: dict[str, int]) -> set[str]:
    """The paths of a glob. `glob.glob` itself follows links in circles until the path is too long."""
    before, star, after = pattern.partition(f"{os.sep}**{os.sep}")
    if pattern.startswith(f"**{os.sep}"):
        before, star, after = ".", "**", pattern[3:]
    if not star:
        if pattern.endswith(f"{os.sep}**"):
            return _expand(os.path.join(pattern, "*"), left_out)
        return set(glob.glob(pattern))
    found: set[str] = set()
    for top in glob.glob(before or os.sep):
        for folder in _folders(top, left_out):
            found |= _expand(os.path.join(glob.escape(folder), after), left_out)
    return found


def _folders(top: str, left_out: dict[str, int]) -> Iterator[str]:
    """`top` and the folders below it, through links too, each real folder once."""
    seen: set[tuple[int, int]] = set()
    waiting = [top] if os.path.isdir(top) else []
    while waiting:
        folder = waiting.pop()
        state = os.stat(folder)
        if (state.st_dev, state.st_ino) in seen:
            left_out["linked_again"] = left_out.get("linked_again", 0) + 1
            continue
        seen.add((state.st_dev, state.st_ino))
        yield folder
        try:
            inside = sorted(os.scandir(folder), key=lambda entry: (entry.is_symlink(), entry.name), reverse=True)
        except OSError:
            left_out["unreadable_folder"] = left_out.get("unreadable_folder", 0) + 1
            continue
        waiting += [entry.path for entry in inside if not entry.name.startswith(".") and entry.is_dir()]
