"""A corpus: documents by split, with random access. There is one function for each kind of name."""
import difflib
import hashlib
import json
import pathlib

from scaling.data import contents, curate, listing, order, pycode, reading, tfds, tunes
from scaling.data.curated import Corpus, Documents, curated_corpus
from scaling.data.other_kinds import of_other_kind
from scaling.fields import DataError

HELD_OUT_DOCUMENTS = 4       # key of the shuffle that holds out documents; windows.py and source.py have other keys
KINDS = ("pycode/stdlib", "pycode/environment", tunes.NAME, "tfds:<name>[/<config>]", "text:<file, folder or glob>")


def find_corpus(name: str, data_dir: pathlib.Path, progress: bool = True, encoding: str = "",
                field: str = "") -> Corpus:
    """The corpus called `name`, prepared under `data_dir` unless it is there already; raises DataError."""
    kind, _, rest = name.partition(":")
    if kind == "text" and rest:
        reading.check_encoding(encoding)
        return _text_files(rest, data_dir, progress, encoding, field)
    if (encoding or field) and (kind == "tfds" or name == tunes.NAME or name.startswith("pycode/")):
        asked = " and ".join(f"data.{key}={value!r}" for key, value in (("encoding", encoding), ("field", field)) if value)
        raise DataError(f"{asked} says how files of text:... are read, and {name} has none; leave it empty")
    if kind == "tfds" and rest:
        return _tfds_corpus(rest, data_dir)
    if name == tunes.NAME:
        return curated_corpus(name, tunes.tune_files(), curate.TUNE_RULES, data_dir, progress, reader=tunes.read_tunes)
    config = name.removeprefix("pycode/")
    if name.startswith("pycode/") and config in pycode.CONFIGS:
        return curated_corpus(name, pycode.CONFIGS[config](), curate.CODE_RULES, data_dir, progress)
    close = difflib.get_close_matches(name, KINDS, 2, cutoff=0.3)
    wrong = of_other_kind(name, "text") or f"no data set is called {name!r}"
    raise DataError(f"{wrong}; write one of {', '.join(KINDS)}"
                    + (f" (nearest: {' or '.join(close)})" if close else ""))


def _text_files(pattern: str, data_dir: pathlib.Path, progress: bool, encoding: str, field: str) -> Corpus:
    """The files of a path or glob, read by the rules of `reading.py`; 5% of them, at least one, are for evaluation."""
    listed = listing.list_files("text", pattern, "books/**/*.txt")
    files = [curate.File(name, path) for name, path in listed.files]
    return curated_corpus(f"text:{pattern}", files, curate.PROSE_RULES, data_dir, progress, encoding, field,
                          listed.left_out)


def _tfds_corpus(name: str, data_dir: pathlib.Path) -> Corpus:
    """A TFDS text data set that is prepared as array_record, under `data_dir` or where TFDS keeps its own data.

    Its text is the feature "text", or else its only text feature. Evaluation uses its splits `validation` and `test`;
    a data set without either gets `document`, a random 5% of the documents of `train`. The fingerprint is of TFDS's
    name, version and split sizes, and of its files. Duplicates stay as the data set has them.
    """
    builder = tfds.find_builder(name, data_dir)
    field = tfds.find_feature(name, builder.info.features, "text")
    sizes = {split: (info.num_examples, info.num_bytes) for split, info in builder.info.splits.items()}
    splits = tuple(split for split in ("validation", "test") if split in sizes)
    remedy = "delete it, and prepare the data set again"

    def documents(split: str) -> Documents:
        if splits or split not in ("train", "document"):
            return Documents(tfds.open_split(builder, name, split), field, None, str(builder.data_dir), remedy)
        found = tfds.open_split(builder, name, "train")
        rows = order.permutation(len(found), HELD_OUT_DOCUMENTS)
        share = max(1, round(curate.HELD_OUT * len(found)))
        rows = rows[:share] if split == "document" else rows[share:]
        return Documents(found, field, rows, str(builder.data_dir), remedy)

    tfds.check_split(builder, name, "train")
    parts = {split: _sizes(*sizes.get(split, (0, 0))) for split in ("train", *splits)}
    if not splits:
        share = max(1, round(curate.HELD_OUT * parts["train"]["documents"]))
        rest = {key: value * share // max(1, parts["train"]["documents"]) for key, value in parts["train"].items()}
        parts = {"train": {key: parts["train"][key] - rest[key] for key in rest}, "document": rest}
    if sizes and not splits and not parts["train"]["documents"]:
        raise DataError(f"tfds:{name} has too few documents in 'train' ({parts['document']['documents']}) to hold some out "
                        "for evaluation; write a data set with more, or with a split 'test'")
    found = contents.totals(parts.pop("train"), parts, {}, ["duplicates stay as the data set has them"])
    described = [builder.info.full_name, sorted(sizes.items()), field, splits or curate.HELD_OUT]
    described = json.dumps(described + tfds.shards_digest(builder, data_dir))
    fingerprint = hashlib.sha256(described.encode()).hexdigest()[:16]
    return Corpus(f"tfds:{name}", fingerprint, splits or ("document",), documents, found)


def _sizes(documents: int, size: int) -> dict:
    return {"documents": int(documents), "bytes": int(size)}
