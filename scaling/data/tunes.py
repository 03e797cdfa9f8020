"""`music/abc`: the tunes in ABC notation that the package `music21` carries, as text.

They are about 13,000 folk tunes: the Essen collection of German and Chinese songs, O'Neill's "Music of Ireland", Ryan's
"Mammoth Collection" and Aird's "Airs". Each tune is a document of the fields that say its music, M: (metre), L: (unit of
length) and K: (key), and of its notes, as in Sturm et al. 2016 (arXiv:1604.08723, section 3.1). Titles, sources, words and
names of transcribers are left out, since they are not music. The package holds the files, and nothing of it is imported.
"""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from scaling.data import reading
from scaling.data.curate import File
from scaling.data.notation import INSTALL
from scaling.fields import DataError

NAME = "music/abc"
COLLECTIONS = ("airdsAirs", "essenFolksong", "miscFolk", "nottingham-dataset", "oneills1850", "ryansMammoth")
KEPT = ("M", "L", "K")  # fields
_FIELD = re.compile(r"([A-Za-z]):(?![|:])(.*)")  # a line such as "A:|" is music
_COMMENT = re.compile(r"(?<!\\)%.*")
_NOTE = re.compile(r"[A-Ga-g]")


def find_music21() -> Path:
    """The folder of the installed package music21, which is not imported. Raises DataError without it."""
    spec = importlib.util.find_spec("music21")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"data.name={NAME} are tunes that the package music21 carries, which is not installed; {INSTALL}")
    return Path(spec.submodule_search_locations[0])


def tune_files() -> list[File]:
    """The ABC files of music21's corpus. Files that differ only in a number, such as ballad10 and ballad20, are one
    package, which is held out as a whole."""
    root = find_music21() / "corpus"
    paths = sorted(path for name in COLLECTIONS for path in (root / name).glob("*.abc"))
    if not paths:
        raise DataError(f"{root} has no tunes: music21 was installed without its corpus; {INSTALL} anew")
    return [File(f"{path.parent.name}/{path.name}", path, _package(path)) for path in paths]


def _package(path: Path) -> str:
    """Ryan's files have one tune each, and so their collection is one package."""
    name = re.split(r"\d", path.stem)[0] if path.parent.name in ("airdsAirs", "essenFolksong") else ""
    return f"{path.parent.name}/{name}".rstrip("/")


def read_tunes(path: Path, encoding: str = "", field: str = "") -> Iterator[reading.ReadText]:
    """The tunes of an ABC file, each a record, as `reading.read_file` gives those of other files."""
    for found in reading.read_file(path, encoding, field):
        if found.text is None:
            yield found
            continue
        for number, part in enumerate(re.split(r"(?m)^X:.*\n", found.text)[1:]):
            text = music_of(part)
            reason = "" if _NOTE.search(text.partition("K:")[2].partition("\n")[2]) else "no_music"
            yield found._replace(text=None if reason else text, reason=reason, size=len(text.encode()), record=number)


def music_of(tune: str) -> str:
    """The fields KEPT and the notes of an ABC tune, line by line, without its other fields and without comments."""
    lines = []
    for line in tune.split("\n"):
        if field := _FIELD.match(line):
            if field[1] in KEPT:
                lines.append(f"{field[1]}:{_COMMENT.sub('', field[2]).strip()}")
        elif (line := _COMMENT.sub("", line).strip()):
            lines.append(line)
    return "\n".join(lines) + "\n"
