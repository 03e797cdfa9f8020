"""A corpus: documents by split, with random access. There is one function for each kind of name."""
import contextlib
import difflib
import glob
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import NamedTuple

from scaling.data import curate, order, pycode, tfds
from scaling.fields import DataError
from scaling.store.files import write_json
from scaling.store.prepared import find_index, locked

FEW = 20                     # files: with fewer, a share of the files is no sample of the text
HELD_OUT_DOCUMENTS = 4       # key of the shuffle that holds out documents; windows.py and source.py have other keys
KINDS = ("pycode/stdlib", "pycode/environment", "tfds:<name>[/<config>]", "text:<glob>")


class Corpus(NamedTuple):
    name: str
    fingerprint: str                                  # names the documents; for files, by their content
    splits: tuple[str, ...]                           # evaluation splits; the first is i.i.d. with training
    documents: Callable[[str], Sequence[str]]         # split -> its documents, read when indexed


class Documents(Sequence[str]):
    """The texts of a TFDS data source, or only the texts of examples `rows`."""

    def __init__(self, source, field: str, rows: Sequence[int] | None = None):
        self._source, self._field, self._rows = source, field, range(len(source)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index):
        text = self._source[int(self._rows[index])][self._field]
        return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def find_corpus(name: str, data_dir: pathlib.Path, progress: bool = True) -> Corpus:
    """The corpus called `name`, prepared under `data_dir` unless it is there already; raises DataError."""
    kind, _, rest = name.partition(":")
    if kind == "text" and rest:
        return _text_files(rest, data_dir, progress)
    if kind == "tfds" and rest:
        return _tfds_corpus(rest, data_dir)
    config = name.removeprefix("pycode/")
    if name.startswith("pycode/") and config in pycode.CONFIGS:
        return _curated_files(name, pycode.CONFIGS[config](), curate.CODE_RULES, data_dir, progress)
    close = difflib.get_close_matches(name, KINDS, 2, cutoff=0.3)
    raise DataError(f"no data set is called {name!r}; write one of {', '.join(KINDS)}"
                    + (f" (nearest: {' or '.join(close)})" if close else ""))


def _text_files(pattern: str, data_dir: pathlib.Path, progress: bool) -> Corpus:
    """Files that match a glob (`**` crosses directories); 5% of them, at least one, are held out for evaluation.

    Fewer than `FEW` files are first cut at line ends into about 200 documents, so that evaluation is on a sample of
    the text and not on one file of it.
    """
    pattern = os.path.expanduser(pattern)
    found = sorted(p for p in glob.glob(pattern, recursive=True) if os.path.isfile(p))
    if not found:
        raise DataError(f"text:{pattern} matches no file (looked from {os.getcwd()}); "
                        "write a glob such as text:books/**/*.txt")
    root = pathlib.Path(os.path.commonpath([os.path.dirname(p) for p in found]))
    listed = [curate.File(pathlib.Path(p).relative_to(root).as_posix(), pathlib.Path(p)) for p in found]
    size = sum(os.path.getsize(p) for p in found)
    return _curated_files(f"text:{pattern}", listed, curate.PROSE_RULES, data_dir, progress,
                          cut=max(1024, size // 200) if len(found) < FEW else 0)


def _curated_files(name: str, listed: Sequence[curate.File], rules: dict, data_dir: pathlib.Path, progress: bool,
                   cut: int = 0) -> Corpus:
    """Curates `listed` and writes the documents with a TFDS builder, once for files of the same sizes and times.

    The documents lie under `data_dir/<fingerprint>`. The fingerprint is a hash of the documents, so another Python or
    an edited file gets a directory of its own beside the old one.
    """
    state = [(f.name, f.package, s.st_size, s.st_mtime_ns) for f in sorted(listed) if (s := _stat(f.path))]
    state = hashlib.sha256(json.dumps([curate.VERSION, sorted(rules), cut, state]).encode()).hexdigest()[:16]
    index = data_dir / "index" / f"{state}.json"
    found = _find_built(index, data_dir)
    if found is None:
        with locked(index):
            found = _find_built(index, data_dir)      # another process may have built it meanwhile
            if found is None:
                found = _build(name, curate.curate(listed, rules, progress, name, cut), data_dir)
                write_json(index, found)

    def documents(split: str) -> Documents:
        import tensorflow_datasets
        builder = tensorflow_datasets.builder_from_directory(data_dir / found["directory"])
        return Documents(builder.as_data_source(split), "text")

    return Corpus(name, found["fingerprint"], tuple(found["splits"]), documents)


def _find_built(index: pathlib.Path, data_dir: pathlib.Path) -> dict | None:
    """The index of a built corpus whose files are there, or None."""
    found = find_index(index)
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
            "splits": [s for s in ("file", "package") if curated.documents.get(s)], "counts": curated.counts}


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


def _stat(path: pathlib.Path) -> os.stat_result | None:
    with contextlib.suppress(OSError):
        return path.stat()
    return None


def _tfds_corpus(name: str, data_dir: pathlib.Path) -> Corpus:
    """A TFDS text data set that is prepared as array_record, under `data_dir` or where TFDS keeps its own data.

    Its text is the feature "text", or else its only text feature. Evaluation uses its splits `validation` and `test`;
    a data set without either gets `document`, a random 5% of the documents of `train`. The fingerprint is of TFDS's
    name, version and split sizes. Duplicates stay as the data set has them.
    """
    builder = tfds.find_builder(name, data_dir)
    field = tfds.find_feature(name, builder.info.features, "text")
    sizes = {split: (info.num_examples, info.num_bytes) for split, info in builder.info.splits.items()}
    splits = tuple(split for split in ("validation", "test") if split in sizes)

    def documents(split: str) -> Documents:
        if splits or split not in ("train", "document"):
            return Documents(tfds.open_split(builder, name, split), field)
        found = tfds.open_split(builder, name, "train")
        rows = order.permutation(len(found), HELD_OUT_DOCUMENTS)
        share = max(1, round(curate.HELD_OUT * len(found)))
        return Documents(found, field, rows[:share] if split == "document" else rows[share:])

    described = json.dumps([builder.info.full_name, sorted(sizes.items()), field, splits or curate.HELD_OUT])
    fingerprint = hashlib.sha256(described.encode()).hexdigest()[:16]
    return Corpus(f"tfds:{name}", fingerprint, splits or ("document",), documents)
