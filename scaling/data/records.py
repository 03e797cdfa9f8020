"""Examples of several texts in one's own files, JSON lines and Parquet, and in data sets of TFDS."""

import pathlib

from scaling.data import listing, reading, tfds
from scaling.data.digests import content_digest
from scaling.data.examples import Example, kept_examples
from scaling.fields import DataError


def find_records(kind: str, pattern: str, fields: tuple[str, str], root: pathlib.Path, progress: bool) -> list[Example]:
    """The records of files, two `fields` of each. A record is a document of its own.

    `kind` is "pairs" or "labelled". Records that lack a text are left out. Raises DataError where a field is in no record.
    """
    listed = listing.list_files(kind, pattern, "data/**/*.jsonl")
    content = content_digest([path for _, path in listed.files], root / "index", progress, kind)

    def read() -> list[Example]:
        found = []
        for name, path in listed.files:
            columns = [[one.text for one in reading.read_file(path, field=field)] for field in fields]
            if len({len(column) for column in columns}) > 1:
                raise DataError(f"{kind}:{name} has {len(columns[0])} values of {fields[0]!r} and {len(columns[1])} of "
                                f"{fields[1]!r}; each record must have both")
            found += [Example(f"{name}:{row}", texts) for row, texts in enumerate(zip(*columns, strict=True))
                      if all(text is not None for text in texts)]
        return found

    return kept_examples(root, [kind, *fields, content, *(name for name, _ in listed.files)], read)


def find_tfds_examples(name: str, features: tuple[str, str] | None, root: pathlib.Path) -> tuple[list[Example], ...]:
    """The training and evaluation examples of a data set of TFDS: two texts, or a text and the name of its class.

    `features` names them; None takes the two texts of a data set of translations. Evaluation is on "validation", or on
    "test", or else on documents that are held out, for which the second list is empty.
    """
    builder = tfds.find_builder(name, root)
    known = builder.info.features
    names = features or getattr(known, "languages", None) or tuple(known)
    if len(names) != 2 or any(one not in known for one in names):
        raise DataError(f"tfds:{name} has the features {', '.join(known)}, and two are needed; write their names as "
                        "data.fields=<first>,<second>")
    second = known[names[1]]
    classes = getattr(second, "names", None)

    def read(split: str) -> list[Example]:
        found = []
        for row, example in enumerate(tfds.open_split(builder, name, split)):
            first, last = example[names[0]], example[names[1]]
            texts = (_as_text(first), classes[int(last)] if classes else _as_text(last))
            found.append(Example(f"{split}:{row}", texts))
        return found

    split = next((split for split in ("validation", "test") if split in builder.info.splits), None)
    return read("train"), read(split) if split else []


def _as_text(value) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def two_fields(fields: str) -> tuple[str, str]:
    """The two names in `data.fields`."""
    names = [part.strip() for part in fields.split(",")]
    if len(names) != 2 or not all(names):
        raise DataError(f"data.fields={fields!r} must name two fields; write them with a comma between, such as "
                        "source,target")
    return names[0], names[1]
