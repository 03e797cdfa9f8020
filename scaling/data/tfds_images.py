"""Images of any TFDS data set that is prepared as array_record.

Evaluation is on "test", or else "validation", or else on a random 5% of the images of "train"; a split whose labels are
hidden is not used where labels are needed. Evaluation out of distribution is on the splits `SHIFTED`, if there are any.
"""
import functools
import hashlib
import json
import operator
import pathlib

import numpy as np

from scaling.data import pictures, tfds
from scaling.data.image_files import decode_image
from scaling.fields import DataError

SHIFTED = ("character", "font")     # the data sets of builders.Glyphs have them
LOOKED_AT = 64                      # examples that are read at once, and whose labels say whether a split hides them


class TfdsExamples:
    """The examples of a split. The image is decoded here: TFDS's own decoder depends on which packages are installed."""

    def __init__(self, source, field: str, where: str):
        self._source, self._field, self._where = source, field, where
        self._ahead: dict[int, dict] = {}       # examples that were read with one before them

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index) -> dict:
        example = self.undecoded(index)
        image = example[self._field]
        return {**example, self._field: decode_image(image) if isinstance(image, bytes) else image}

    def undecoded(self, index) -> dict:
        try:
            example = self._read(int(index))
            if example[self._field] is None:            # what TFDS gives for a record that is not there
                raise ValueError("there is no such record")
            return example
        except Exception as error:       # array_record, protobuf and TFDS raise many kinds
            raise DataError(f"{self._where} is damaged: example {index} cannot be read ({tfds.first_line(error)}); "
                            "delete it, and prepare the data set again") from error

    def _read(self, index: int) -> dict:
        """An example. The next few are read with it: array_record takes time for all of a file's records at each read."""
        if index not in self._ahead:
            rows = range(index, min(index + LOOKED_AT, len(self)))
            try:
                self._ahead = dict(zip(rows, self._source.__getitems__(list(rows)), strict=True))
            except Exception:                   # one of them is damaged, perhaps another
                return self._source[index]
        return self._ahead.pop(index)


def find_pictures(name: str, root: pathlib.Path, size: int, channels: int, resize: str, crop: str,
                  needed: str = "", captioned: bool = False, progress: bool = True) -> pictures.Pictures:
    """The TFDS data set called `name`, prepared under `root` unless it is there already; raises DataError.

    `needed` is the label to condition on; with `captioned`, the label "label" is needed if there are no captions.
    """
    from tensorflow_datasets import decode
    builder = tfds.find_builder(name, root)
    features = builder.info.features
    field = tfds.find_feature(name, features, "image")
    if str(features[field].np_dtype).startswith("float"):
        raise DataError(f"tfds:{name} has images of {features[field].np_dtype.__name__}, which have no fixed range; write "
                        "a data set whose images have 8 or 16 bits")
    labels = find_labels(features)
    captions = ["caption"] if "caption" in features else []
    needed = needed or ("label" if captioned and not captions and "label" in labels else "")

    shards = tfds.shards_digest(builder, root)

    def examples(split: str) -> TfdsExamples:       # the examples of mock data are drawn decoded
        source = tfds.open_split(builder, name, split, {field: decode.SkipDecoding()} if shards else None)
        return TfdsExamples(source, field, str(builder.data_dir))

    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    notes, iid = [], [split for split in ("test", "validation") if split in sizes]
    while iid and labels.get(needed) and _hides(examples(iid[0]), needed, len(labels[needed])):
        notes.append(f"the split {iid[0]!r} hides its labels, so evaluation is on "
                     + (repr(iid[1]) if iid[1:] else "a random 5% of 'train'"))
        iid = iid[1:]
    splits = dict.fromkeys(iid[:1], "iid") | {s: s for s in SHIFTED if s in sizes} | {"train": "train"}
    described = [pictures.VERSION, builder.info.full_name, sorted(sizes.items()), sorted(splits.items()), field, size,
                 channels, resize, crop, *shards]
    state = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]
    directory = root / "images" / f"{name.replace('/', '-').replace(':', '-')}-{state}"
    shape = functools.partial(pictures.square, size=size, channels=channels, resize=resize, crop=crop)

    def build() -> dict:
        sources = {ours: examples(theirs) for theirs, ours in splits.items()}
        return pictures.prepare_images(f"tfds:{name}", sources, labels, captions, field, shape, (size, size, channels),
                                directory, progress, notes)

    return pictures.find_prepared(f"tfds:{name}", directory, build, needed)


def _hides(examples: TfdsExamples, label: str, classes: int) -> bool:
    """Whether none of the first examples has a label from 0 to `classes` - 1."""
    values = [functools.reduce(operator.getitem, label.split("/"), examples.undecoded(i))
              for i in range(min(LOOKED_AT, len(examples)))]
    return not any(0 <= int(value) < classes for value in values)


def _flat(features, prefix: str = "") -> dict:
    """Features by path. The path of a feature inside a dictionary of features is "outer/inner"."""
    from tensorflow_datasets import features as kinds
    out = {}
    for name, feature in dict(features).items():
        inner = isinstance(feature, kinds.FeaturesDict)
        out |= _flat(feature, f"{prefix}{name}/") if inner else {f"{prefix}{name}": feature}
    return out


def find_labels(features) -> dict[str, list[str]]:
    """{label: names of its classes}, of class labels and of boolean features."""
    from tensorflow_datasets import features as kinds
    out = {}
    for path, feature in _flat(features).items():
        if isinstance(feature, kinds.ClassLabel):
            out[path] = list(feature.names or map(str, range(feature.num_classes or 0)))
        elif isinstance(feature, kinds.Tensor) and feature.shape == () and feature.np_dtype == np.bool_:
            out[path] = ["no", "yes"]
    return out
