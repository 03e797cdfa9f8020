"""Any TFDS image data set as one memory-mapped array of square images, without duplicates, and its labels.

Each image is cropped, resized and brought to the channels once. Duplicates are found among the results: the first of
equal images is kept, and an image that evaluation has is never trained on. Evaluation is on "test", or else
"validation", or else on a random 5% of the images of "train". Evaluation out of distribution is on the splits
`SHIFTED`, if there are any. Every split is in one fixed random order.
"""
import functools
import hashlib
import json
import operator
import pathlib
from types import ModuleType

import numpy as np

from scaling.data import curate, order, tfds, transforms
from scaling.fields import DataError, did_you_mean
from scaling.store.files import replacing, write_json
from scaling.store.prepared import find_index, locked

VERSION = 1
SHUFFLE = 7                  # the key of the order; source.py, glyphs/render.py and images.py have other keys
CAPTION = 256                # bytes kept of a caption
SHIFTED = ("character", "font")     # the data sets of builders.Glyphs have them


class Pictures:
    """Prepared images of one data set.

    Attributes: `name`; `fingerprint` of the images, their order and labels; `splits`, "iid" first; `count`, the number
      of training images; `size`, `channels`; `duplicates`, the number left out of each split.
    """

    def __init__(self, name: str, directory: pathlib.Path, table: dict):
        self.name, self.fingerprint, self.duplicates = name, table["fingerprint"], table["duplicates"]
        self._labels, self._directory = table["labels"], directory
        self._images = np.load(directory / "images.npy", mmap_mode="r")
        self.size, self.channels = self._images.shape[2:]
        with np.load(directory / "rows.npz") as rows:
            self._rows = dict(rows)
        self.splits, self.count = tuple(s for s in self._rows if s != "train"), len(self._rows["train"])

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


def find_pictures(name: str, root: pathlib.Path, size: int, channels: int, resize: str, crop: str,
                  progress: bool = True) -> Pictures:
    """The TFDS data set called `name`, prepared under `root` unless it is there already; raises DataError."""
    builder = tfds.find_builder(name, root)
    field = tfds.find_feature(name, builder.info.features, "image")
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    described = [VERSION, builder.info.full_name, sorted(sizes.items()), field, size, channels, resize, crop]
    state = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]
    directory = root / "images" / f"{name.replace('/', '-').replace(':', '-')}-{state}"
    table = find_index(directory / "table.json")
    if table is None:
        with locked(directory):
            table = find_index(directory / "table.json")
            if table is None:
                shape = functools.partial(_shape, size=size, count=channels, rule=resize, crop=crop)
                iid = [split for split in ("test", "validation") if split in sizes][:1]
                splits = dict.fromkeys(iid, "iid") | {s: s for s in SHIFTED if s in sizes}
                splits["train"] = "train"
                sources = {ours: tfds.open_split(builder, name, theirs) for theirs, ours in splits.items()}
                table = _prepare(name, sources, builder.info.features, lambda example: shape(example[field]),
                                 (size, size, channels), directory, progress)
    return Pictures(f"tfds:{name}", directory, table)


def _shape(image: np.ndarray, size: int, count: int, rule: str, crop: str) -> np.ndarray:
    image = transforms.resize_image(transforms.CROPS[crop](np.asarray(image)), size, rule)
    return transforms.to_channels(image, count)


def _prepare(name: str, sources: dict, features, shape, box: tuple, directory: pathlib.Path,
             progress: bool) -> dict:
    """Reads `sources`, evaluation first, so that the copy in evaluation is kept of an image that training has too."""
    from tqdm import tqdm
    labels = _labels(features)
    captions = ["caption"] if "caption" in features else []
    columns: dict[str, list] = {path: [] for path in (*labels, *captions)}
    directory.mkdir(parents=True, exist_ok=True)
    rows: dict[str, np.ndarray] = {}
    duplicates: dict[str, int] = {}
    seen: set[bytes] = set()
    digest, at = hashlib.sha256(repr(labels).encode()), 0
    with replacing(directory / "images.npy") as path:
        images = np.lib.format.open_memmap(path, "w+", np.uint8, (sum(map(len, sources.values())), *box))
        for split, source in sources.items():
            kept = []
            for i in tqdm(range(len(source)), desc=f"{name} {split}", unit=" images", disable=not progress):
                example = source[i]
                images[at] = shape(example)
                key = hashlib.sha256(images[at].tobytes()).digest()
                if key not in seen:
                    seen.add(key)
                    kept.append(at)
                for column, values in columns.items():
                    values.append(functools.reduce(operator.getitem, column.split("/"), example))
                digest.update(key)
                at += 1
            duplicates[split] = len(source) - len(kept)
            rows[split] = np.array(kept, np.int64)[order.permutation(len(kept), SHUFFLE)]
        images.flush()
        del images
    if "iid" not in rows:
        share = max(1, round(curate.HELD_OUT * len(rows["train"])))
        rows = {"iid": rows["train"][:share]} | rows | {"train": rows["train"][share:]}
    if not len(rows["train"]):
        raise DataError(f"tfds:{name} has no training images that evaluation does not have; the duplicates left out of "
                        f"each split are {duplicates}")
    tables = {f"label:{label}": np.array(columns[label], np.int32) for label in labels}
    if "caption" in columns:
        tables["caption"] = np.array([_bytes(value)[:CAPTION] for value in columns["caption"]])
    for file, arrays in {"rows.npz": rows, "columns.npz": tables}.items():
        with replacing(directory / file) as path, open(path, "wb") as handle:
            np.savez(handle, **arrays)
        for column in arrays.values():
            digest.update(column.tobytes())
    table = {"fingerprint": digest.hexdigest()[:16], "labels": labels, "duplicates": duplicates}
    write_json(directory / "table.json", table)        # written last: without it the data count as not prepared
    return table


def _bytes(value) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _flat(features, prefix: str = "") -> dict:
    """Features by path. The path of a feature inside a dictionary of features is "outer/inner"."""
    from tensorflow_datasets import features as kinds
    out = {}
    for name, feature in dict(features).items():
        inner = isinstance(feature, kinds.FeaturesDict)
        out |= _flat(feature, f"{prefix}{name}/") if inner else {f"{prefix}{name}": feature}
    return out


def _labels(features) -> dict[str, list[str]]:
    """{label: names of its classes}, of class labels and of boolean features."""
    from tensorflow_datasets import features as kinds
    out = {}
    for path, feature in _flat(features).items():
        if isinstance(feature, kinds.ClassLabel):
            out[path] = list(feature.names or map(str, range(feature.num_classes or 0)))
        elif isinstance(feature, kinds.Tensor) and feature.shape == () and feature.np_dtype == np.bool_:
            out[path] = ["no", "yes"]
    return out
