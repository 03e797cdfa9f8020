"""A set of images as one memory-mapped array of square images, without duplicates, and its labels.

Each image is cropped, resized and brought to the channels once. Duplicates are found among the results: the first of
equal images is kept, and an image that evaluation has is never trained on. Evaluation is on the split "iid", or else on a
random 5% of the images of "train". Every split is in one fixed random order. `tfds_images.py` and `image_files.py` say
where images come from.
"""
import functools
import hashlib
import operator
import pathlib
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Protocol

import numpy as np

from scaling.data import contents, curate, order, transforms
from scaling.data.image_files import UnusableImage, to_bytes
from scaling.fields import DataError, did_you_mean
from scaling.store.files import replacing, write_json
from scaling.store.prepared import damaged_file, file_digest, find_index, locked, say_damaged

VERSION = 2
SHUFFLE = 7                  # the key of the order; source.py, glyphs/render.py and images.py have other keys
CAPTION = 256                # bytes kept of a caption
KEYS = ("fingerprint", "labels", "duplicates", "left_out", "examples", "notes", "digests")     # of a table
NAMED = 3                    # names of images that are kept for each reason to leave some out


class Examples(Protocol):
    """Examples by index: dictionaries."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict: ...


class Pictures:
    """Prepared images of one data set.

    Attributes: `name`; `fingerprint` of the images, their order and labels; `splits`, "iid" first; `count`, the number
      of training images; `size`, `channels`; `duplicates`, the number left out of each split; `contents`, see
      `contents.py`. Images without the label `needed` are left out; some data sets have -1 for labels that are hidden.
    """

    def __init__(self, name: str, directory: pathlib.Path, table: dict, needed: str = "",
                 before: Mapping[str, int] | None = None):
        self.name, self.fingerprint, self.duplicates = name, table["fingerprint"], table["duplicates"]
        self._labels, self._directory = table["labels"], directory
        self._images = np.load(directory / "images.npy", mmap_mode="r")
        self.size, self.channels = self._images.shape[2:]
        with np.load(directory / "rows.npz") as rows:
            self._rows = dict(rows)
        self._needed = needed
        repeated = {"duplicate": sum(self.duplicates.values())}
        left_out = {**(before or {}), **table["left_out"], **repeated, **self._leave_out()}
        left_out = {reason: count for reason, count in left_out.items() if count}
        self.splits, self.count = tuple(s for s in self._rows if s != "train"), len(self._rows["train"])
        parts = {split: {"documents": len(rows), "bytes": len(rows) * self._images[0].nbytes}
                 for split, rows in self._rows.items()}
        self.contents = contents.totals(parts.pop("train"), parts, left_out, table["notes"], examples=table["examples"],
                                        things="images")

    def _leave_out(self) -> dict[str, int]:
        """Leaves out images without the label that is needed; {"without_label": count}."""
        names = self._labels.get(self._needed)
        if not names:
            return {}
        values = self._column(f"label:{self._needed}")
        count = 0
        for split, rows in self._rows.items():
            known = (values[rows] >= 0) & (values[rows] < len(names))
            count += int(np.count_nonzero(~known))
            self._rows[split] = rows[known]
            if not known.any():
                raise DataError(f"no image of the split {split!r} of {self.name} has a value of data.label="
                                f"{self._needed!r} (-1 stands for one that is hidden); write another label, or "
                                "data.label='' for none")
        if count:
            self.fingerprint = hashlib.sha256(f"{self.fingerprint} {self._needed}".encode()).hexdigest()[:16]
        return {"without_label": count}

    def available(self, split: str) -> int:
        return len(self._rows[split])

    def classes(self, label: str) -> list[str]:
        if label not in self._labels:
            raise DataError(f"{self.name} has no label {label!r}; it has {', '.join(self._labels) or 'none'}"
                            + did_you_mean(label, self._labels))
        return self._labels[label]

    def _column(self, name: str) -> np.ndarray:
        return np.load(self._directory / "columns.npz")[name]

    def captions(self, length: int) -> np.ndarray:
        """uint8 [images, length]: the feature "caption", or else the name of the class in "label"."""
        with np.load(self._directory / "columns.npz") as columns:
            if "caption" in columns:
                found = columns["caption"]
            elif "label" in self._labels:
                found = np.array([name.encode() for name in self._labels["label"]])[columns["label:label"]]
            else:
                raise DataError(f"{self.name} has neither captions nor a label with names; write caption=0")
        return found.astype(f"S{length}").view(np.uint8).reshape(len(found), length)

    def tables(self, label: str, caption: int) -> dict[str, np.ndarray]:
        """The images, and the label and caption asked for, with one row for each image that was read."""
        out = {"image": self._images}
        if label:
            self.classes(label)
            out["label"] = self._column(f"label:{label}")
        return out | ({"caption": self.captions(caption)} if caption else {})

    def arrays(self, count: int, label: str, caption: int) -> dict[str, np.ndarray]:
        """The rows of `tables` of the first `count` training images, in their order."""
        rows = self._rows["train"][:count]
        return {name: table[rows] for name, table in self.tables(label, caption).items()}

    def read(self, tables: dict, index, split: str, xp: ModuleType = np) -> dict:
        """Images `index` of a split, from `tables()` in NumPy or from `arrays()` in JAX."""
        if xp is np:
            rows = self._rows[split][index]
            return {name: table[rows] for name, table in tables.items()}
        return {name: xp.take(table, index, axis=0) for name, table in tables.items()}

    def factors(self, split: str, examples: int) -> dict[str, np.ndarray]:
        """Every label of the first images of a split: int32 [examples]."""
        rows = self._rows[split][:examples]
        return {label: self._column(f"label:{label}")[rows] for label in self._labels}


def find_prepared(name: str, directory: pathlib.Path, build: Callable[[], dict], needed: str = "",
                  before: Mapping[str, int] | None = None) -> Pictures:
    """The images in `directory`, which `build` prepares unless they are there and whole."""
    table = _find_whole(directory)
    if table is None:
        with locked(directory):
            table = _find_whole(directory) or build()
    return Pictures(name, directory, table, needed, before)


def _find_whole(directory: pathlib.Path) -> dict | None:
    table = find_index(directory / "table.json", *KEYS)
    if table is not None and (problem := damaged_file(directory, table["digests"])):
        say_damaged(directory, problem)
        return None
    return table


def square(image: np.ndarray, size: int, channels: int, resize: str, crop: str) -> np.ndarray:
    """An image [H, W, C] of any number type that `to_bytes` takes: uint8 [size, size, channels]."""
    image = transforms.resize_image(transforms.CROPS[crop](to_bytes(np.asarray(image))), size, resize)
    return transforms.to_channels(image, channels)


def prepare_images(name: str, sources: Mapping[str, Examples], labels: dict[str, list[str]], captions: Sequence[str],
                   field: str, shape: Callable[[np.ndarray], np.ndarray], box: tuple[int, int, int],
                   directory: pathlib.Path, progress: bool, notes: Sequence[str] = ()) -> dict:
    """Reads `sources`, evaluation first, so that the copy in evaluation is kept of an image that training has too.

    An example has its image under `field`, and its labels and captions under their paths. One that raises UnusableImage
    is left out and counted.
    """
    from tqdm import tqdm
    columns: dict[str, list] = {path: [] for path in (*labels, *captions)}
    directory.mkdir(parents=True, exist_ok=True)
    rows: dict[str, np.ndarray] = {}
    duplicates: dict[str, int] = {}
    left_out: dict[str, int] = {}
    examples: dict[str, list[str]] = {}
    seen: set[bytes] = set()
    digest, at = hashlib.sha256(repr(labels).encode()), 0
    with replacing(directory / "images.npy") as path:
        images = np.lib.format.open_memmap(path, "w+", np.uint8, (sum(map(len, sources.values())), *box))
        for split, source in sources.items():
            kept, start = [], at
            for i in tqdm(range(len(source)), desc=f"{name} {split}", unit=" images", disable=not progress):
                try:
                    example = source[i]
                    images[at] = shape(example[field])
                except UnusableImage as error:
                    left_out[str(error)] = left_out.get(str(error), 0) + 1
                    known = examples.setdefault(str(error), [])
                    known += [_name_of(source, i)] if len(known) < NAMED else []
                    continue
                key = hashlib.sha256(images[at].tobytes()).digest()
                if key not in seen:
                    seen.add(key)
                    kept.append(at)
                for column, values in columns.items():
                    values.append(functools.reduce(operator.getitem, column.split("/"), example))
                digest.update(key)
                at += 1
            duplicates[split] = at - start - len(kept)
            rows[split] = np.array(kept, np.int64)[order.permutation(len(kept), SHUFFLE)]
        images.flush()
        del images
    if "iid" not in rows or not len(rows["iid"]):
        share = max(1, round(curate.HELD_OUT * len(rows["train"])))
        rows = {**rows, "iid": rows["train"][:share], "train": rows["train"][share:]}
        rows = {"iid": rows.pop("iid"), **rows}
    if not len(rows["train"]):
        said = contents.left_out_sentence({**left_out, "duplicate": sum(duplicates.values())}, examples)
        raise DataError(f"{name} has no training images that evaluation does not have; the duplicates left out of "
                        f"each split are {duplicates}" + (f" ({said})" if said else "")
                        + "; give at least two different images")
    tables = {f"label:{label}": np.array(columns[label], np.int32) for label in labels}
    if "caption" in columns:
        tables["caption"] = np.array([_bytes(value)[:CAPTION] for value in columns["caption"]])
    for file, arrays in {"rows.npz": rows, "columns.npz": tables}.items():
        with replacing(directory / file) as path, open(path, "wb") as handle:
            np.savez(handle, **arrays)
        for column in arrays.values():
            digest.update(column.tobytes())
    table = {"fingerprint": digest.hexdigest()[:16], "labels": labels, "duplicates": duplicates, "left_out": left_out,
             "examples": examples, "notes": list(notes),
             "digests": {file: file_digest(directory / file) for file in ("images.npy", "rows.npz", "columns.npz")}}
    write_json(directory / "table.json", table)        # written last: without it the data count as not prepared
    return table


def _name_of(source, index: int) -> str:
    return source.files[index][0] if hasattr(source, "files") else f"example {index}"


def _bytes(value) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
