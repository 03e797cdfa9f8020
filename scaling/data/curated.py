"""Corpora of files on this machine: curated once, written as a TFDS data set, and found again by the files' content."""
import contextlib
import functools
import hashlib
import json
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tqdm import tqdm

from scaling.data import contents, curate, reading
from scaling.data.digests import content_digest
from scaling.fields import DataError
from scaling.store.files import write_json
from scaling.store.prepared import find_index, locked, say_damaged

KEYS = ("directory", "fingerprint", "splits", "counts", "encodings", "examples", "notes")   # of an index


class Corpus(NamedTuple):
    name: str
    fingerprint: str                                  # names the documents, by their content
    splits: tuple[str, ...]                           # evaluation splits; the first is i.i.d. with training
    documents: Callable[[str], Sequence[str]]         # split -> its documents, read when indexed
    contents: dict                                    # what was found and left out, see `contents.py`


class Documents(Sequence[str]):
    """The texts of a TFDS data source, or only the texts of examples `rows`. `remedy` says what mends damaged files."""

    def __init__(self, source, field: str, rows: Sequence[int] | None, where: str, remedy: str):
        self._source, self._field, self._rows = source, field, range(len(source)) if rows is None else rows
        self._where, self._remedy = where, remedy

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index):
        row = int(self._rows[index])
        try:
            return _text(self._source[row][self._field])
        except Exception as error:      # array_record, protobuf and TFDS raise many kinds
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DataError(f"{self._where} is damaged: document {row} cannot be read ({first[:200]}); "
                            f"{self._remedy}") from error

    def __getitems__(self, indices: Sequence[int]) -> list[str]:
        """Several documents. array_record takes time for all of a file's records at each read, of however many."""
        try:
            rows = [int(self._rows[i]) for i in indices]
            return [_text(example[self._field]) for example in self._source.__getitems__(rows)]
        except Exception:               # the plain way names the document that is damaged
            return [self[i] for i in indices]


def _text(value) -> str:
    if value is None:                   # what TFDS gives for a record that is not there
        raise ValueError("there is no such record")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def curated_corpus(name: str, listed: Sequence[curate.File], rules: dict, data_dir: pathlib.Path, progress: bool,
                   encoding: str = "", field: str = "", left_out: dict[str, int] | None = None,
                   reader: Callable = reading.read_file) -> Corpus:
    """Curates `listed` and writes the documents with a TFDS builder, once for files of the same names and contents.

    The documents lie under `data_dir/<fingerprint>`. The fingerprint is a hash of the documents, so another Python or
    an edited file gets a directory of its own beside the old one. `left_out` counts what was left out before, and `reader`
    gives the documents of a file.
    """
    listed = sorted(listed)
    content = content_digest([file.path for file in listed], data_dir / "index", progress, name)
    state = json.dumps([curate.VERSION, sorted(rules), encoding, field, [[f.name, f.package] for f in listed], content])
    index = data_dir / "index" / f"{hashlib.sha256(state.encode()).hexdigest()[:16]}.json"
    build = functools.partial(_find_or_build, index, name, listed, rules, data_dir, progress, encoding, field,
                              reader)
    found = build()
    described = contents.of_counts(found["counts"], found["splits"], found["encodings"], found["examples"],
                                   found["notes"], left_out or {})

    def documents(split: str) -> Documents:
        import tensorflow_datasets
        directory = data_dir / found["directory"]
        remedy = "delete that directory, and it is prepared again from the files"
        try:
            source = tensorflow_datasets.builder_from_directory(directory).as_data_source(split)
        except Exception as error:      # damaged files; TFDS raises many kinds
            say_damaged(directory, error)
            shutil.rmtree(directory, ignore_errors=True)
            source = tensorflow_datasets.builder_from_directory(data_dir / build()["directory"]).as_data_source(split)
        return Documents(source, "text", None, str(directory), remedy)

    return Corpus(name, found["fingerprint"], tuple(found["splits"]), documents, described)


def _find_or_build(index: pathlib.Path, name: str, listed: Sequence[curate.File], rules: dict, data_dir: pathlib.Path,
                   progress: bool, encoding: str, field: str, reader: Callable) -> dict:
    found = _find_built(index, data_dir)
    if found is None:
        with locked(index):
            found = _find_built(index, data_dir)      # another process may have built it meanwhile
            if found is None:
                curated = curate.curate(listed, rules, progress, name, encoding, field, reader)
                found = _build(name, curated, data_dir)
                write_json(index, found)
                if progress and (said := contents.left_out_sentence(found["counts"], found["examples"])):
                    tqdm.write(f"{name}: {said}")
    return found


def _find_built(index: pathlib.Path, data_dir: pathlib.Path) -> dict | None:
    """The index of a built corpus whose files are there, or None."""
    found = find_index(index, *KEYS)
    if found is None or not (data_dir / found["directory"] / "dataset_info.json").exists():
        return None
    return found


def _build(name: str, curated: curate.Curated, data_dir: pathlib.Path) -> dict:
    root = data_dir / curated.fingerprint
    with locked(root):
        from scaling.data import builders  # imports TFDS, which a corpus that is built already does not need
        builder = (builders.Pycode(config=name.removeprefix("pycode/"), curated=curated, data_dir=root)
                   if name.startswith("pycode/") else builders.TextFiles(curated=curated, data_dir=root))
        directory = pathlib.Path(builder.data_dir)
        for left in directory.parent.glob("incomplete.*"):     # left by a killed build; this process holds the lock
            shutil.rmtree(left, ignore_errors=True)
        with _quiet():
            builder.download_and_prepare()      # into a temporary directory, renamed when it is whole
    return {"directory": directory.relative_to(data_dir).as_posix(), "fingerprint": curated.fingerprint,
            "splits": [s for s in ("file", "package") if curated.documents.get(s)], "counts": curated.counts,
            "encodings": curated.encodings, "examples": curated.examples, "notes": list(curated.notes)}


@contextlib.contextmanager
def _quiet():
    """Hides TFDS's own bars and lines: its part takes a second, and `curate` shows a bar for the rest."""
    from tensorflow_datasets.core.utils import tqdm_utils
    shown = tqdm_utils._active
    tqdm_utils.display_progress_bar(False)
    try:
        with contextlib.redirect_stdout(None):
            yield
    finally:
        tqdm_utils.display_progress_bar(shown)
