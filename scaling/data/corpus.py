"""A corpus: documents by split, with random access, whatever they come from. A function per kind of name."""
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

from scaling.data import curate, order, pycode
from scaling.fields import DataError, did_you_mean
from scaling.store.files import find_json, locked, write_json

FEW = 20                     # files: with fewer, a share of files is no sample
HELD_OUT_DOCUMENTS = 4       # key of the shuffle that picks them, beside those of windows.py and source.py
KINDS = ("pycode/stdlib", "pycode/environment", "tfds:<name>[/<config>]", "text:<glob>")


class Corpus(NamedTuple):
    name: str
    fingerprint: str                                  # names the documents: of their content, for files
    splits: tuple[str, ...]                           # evaluation splits; the first is i.i.d. with training
    documents: Callable[[str], Sequence[str]]         # split -> its documents, read when indexed


class Documents(Sequence):
    """Texts of a TFDS data source, `rows` of it where given."""

    def __init__(self, source, field: str, rows: Sequence[int] | None = None):
        self._source, self._field, self._rows = source, field, range(len(source)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> str:
        text = self._source[int(self._rows[index])][self._field]
        return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def find(name: str, data_dir: pathlib.Path, progress: bool = True) -> Corpus:
    """The corpus called `name`, prepared under `data_dir` unless it is there; raises DataError."""
    kind, _, rest = name.partition(":")
    if kind == "text" and rest:
        return text(rest, data_dir, progress)
    if kind == "tfds" and rest:
        return tfds(rest, data_dir)
    if name.startswith("pycode/") and (config := name.removeprefix("pycode/")) in pycode.CONFIGS:
        return files(name, pycode.CONFIGS[config](), curate.CODE_RULES, data_dir, progress)
    close = difflib.get_close_matches(name, KINDS, 2, cutoff=0.3)
    raise DataError(f"no data set is called {name!r}; write one of {', '.join(KINDS)}"
                    + (f" (nearest: {' or '.join(close)})" if close else ""))


def text(pattern: str, data_dir: pathlib.Path, progress: bool) -> Corpus:
    """Files that match a glob (`**` crosses directories), 5% of which, at least one, are kept for evaluation.

    Fewer than `FEW` files are cut at line ends into about 200 documents first, so that evaluation is on a
    sample of the text and not on one file of it.
    """
    pattern = os.path.expanduser(pattern)
    found = sorted(p for p in glob.glob(pattern, recursive=True) if os.path.isfile(p))
    if not found:
        raise DataError(f"text:{pattern} matches no file (looked from {os.getcwd()}); "
                        "write a glob such as text:books/**/*.txt")
    root = pathlib.Path(os.path.commonpath([os.path.dirname(p) for p in found]))
    listed = [curate.File(pathlib.Path(p).relative_to(root).as_posix(), pathlib.Path(p)) for p in found]
    size = sum(os.path.getsize(p) for p in found)
    return files(f"text:{pattern}", listed, curate.PROSE_RULES, data_dir, progress,
                 cut=max(1024, size // 200) if len(found) < FEW else 0)


def files(name: str, listed: Sequence[curate.File], rules: dict, data_dir: pathlib.Path, progress: bool,
          cut: int = 0) -> Corpus:
    """Curates `listed` and writes it with a TFDS builder, once; files of the same sizes and times find it.

    It lies under `data_dir/<fingerprint>`, the hash of what was kept, so another Python or an edited file
    makes a directory of its own beside the old one.
    """
    state = [(f.name, f.package, s.st_size, s.st_mtime_ns) for f in sorted(listed) if (s := _stat(f.path))]
    state = hashlib.sha256(json.dumps([curate.VERSION, sorted(rules), cut, state]).encode()).hexdigest()[:16]
    index = data_dir / "index" / f"{state}.json"
    found = find_json(index)
    if found is None or not (data_dir / found["directory"] / "dataset_info.json").exists():
        with locked(index):
            found = find_json(index)      # another process may have made it meanwhile
            if found is None or not (data_dir / found["directory"] / "dataset_info.json").exists():
                found = _build(name, curate.curate(listed, rules, progress, name, cut), data_dir)
                write_json(index, found)

    def documents(split: str) -> Documents:
        import tensorflow_datasets
        builder = tensorflow_datasets.builder_from_directory(data_dir / found["directory"])
        return Documents(builder.as_data_source(split), "text")

    return Corpus(name, found["fingerprint"], tuple(found["splits"]), documents)


def _build(name: str, curated: curate.Curated, data_dir: pathlib.Path) -> dict:
    root = data_dir / curated.fingerprint
    with locked(root):
        from scaling.data import builders
        builder = (builders.Pycode(config=name.removeprefix("pycode/"), curated=curated, data_dir=root)
                   if name.startswith("pycode/") else builders.TextFiles(curated=curated, data_dir=root))
        directory = pathlib.Path(builder.data_dir)
        for left in directory.parent.glob("incomplete.*"):     # of a killed build: this process has the lock
            shutil.rmtree(left, ignore_errors=True)
        with _quiet():
            builder.download_and_prepare()      # into a temporary directory, renamed when it is whole
    return {"directory": directory.relative_to(data_dir).as_posix(), "fingerprint": curated.fingerprint,
            "splits": [s for s in ("file", "package") if curated.documents.get(s)], "counts": curated.counts}


@contextlib.contextmanager
def _quiet():
    """Without TFDS's own bars and lines: it is a second of the build, and `curate` has a bar for the rest."""
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


def tfds_builder(name: str, data_dir: pathlib.Path):
    """The TFDS builder called `name`: prepared under `data_dir`, or where TFDS keeps its own."""
    import tensorflow_datasets
    own = data_dir if (data_dir / name.split("/")[0].split(":")[0]).exists() else None
    try:
        return tensorflow_datasets.builder(name, data_dir=own)
    except tensorflow_datasets.core.registered.DatasetNotFoundError as error:
        known = tensorflow_datasets.list_builders(with_community_datasets=False)
        raise DataError(f"TFDS has no data set {name!r}, and none is prepared under {data_dir}"
                        + did_you_mean(name.split("/")[0], known)) from error
    except ValueError as error:
        raise DataError(f"tfds:{name}: {_first_line(error)}") from error


def tfds_split(builder, name: str, split: str):
    """The examples of a split, read when indexed."""
    try:
        return builder.as_data_source(split)
    except Exception as error:      # TFDS raises many kinds; each means that these files cannot be read
        raise DataError(
            f"tfds:{name} ({split}) is not prepared as array_record in {builder.data_dir} "
            f"({_first_line(error)}); run tfds.builder({name!r}, file_format='array_record')"
            ".download_and_prepare() where there is a network, and set data_dir= or $TFDS_DATA_DIR to "
            "where it wrote") from error


def tfds(name: str, data_dir: pathlib.Path) -> Corpus:
    """A TFDS text data set, prepared already as array_record, under `data_dir` or where TFDS keeps its own.

    Its text is the feature "text", or else its only text. Evaluation uses its `validation` and `test`
    splits; where it has neither, `document`: 5% of the documents of `train`, at random. The fingerprint is
    of TFDS's name, version and split sizes; duplicates are as the data set has them.
    """
    builder = tfds_builder(name, data_dir)
    field = tfds_feature(name, builder.info.features, "text")
    sizes = {split: (info.num_examples, info.num_bytes) for split, info in builder.info.splits.items()}
    splits = tuple(split for split in ("validation", "test") if split in sizes)

    def documents(split: str) -> Documents:
        if splits or split not in ("train", "document"):
            return Documents(tfds_split(builder, name, split), field)
        found = tfds_split(builder, name, "train")
        rows = order.permutation(len(found), HELD_OUT_DOCUMENTS)
        share = max(1, round(curate.HELD_OUT * len(found)))
        return Documents(found, field, rows[:share] if split == "document" else rows[share:])

    described = json.dumps([builder.info.full_name, sorted(sizes.items()), field, splits or curate.HELD_OUT])
    fingerprint = hashlib.sha256(described.encode()).hexdigest()[:16]
    return Corpus(f"tfds:{name}", fingerprint, splits or ("document",), documents)


def tfds_feature(name: str, features, wanted: str) -> str:
    """The feature called `wanted`, "text" or "image", or else the only one of that kind; raises DataError."""
    from tensorflow_datasets import features as kinds
    kind = {"text": kinds.Text, "image": kinds.Image}[wanted]
    found = [key for key, value in dict(features).items() if isinstance(value, kind)]
    if wanted in found or len(found) == 1:
        return wanted if wanted in found else found[0]
    raise DataError(f"tfds:{name} has no feature called {wanted!r}, nor only one {wanted} feature; "
                    f"it has {', '.join(dict(features))}")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
