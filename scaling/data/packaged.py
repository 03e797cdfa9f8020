"""Sets of images that packages carry: Fashion-MNIST (Debian's `dataset-fashion-mnist`) and the digits of scikit-learn."""

import functools
import gzip
import hashlib
import json
import math
import pathlib
import struct

import numpy as np

from scaling.data import pictures
from scaling.data.digests import content_digest
from scaling.fields import DataError

DEBIAN = pathlib.Path("/usr/share/datasets/fashion-mnist")
GARMENTS = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
SPLITS = {"iid": "t10k", "train": "train"}  # in the names of files
HELD_OUT = 297  # of the digits: the last ones, which other people wrote than the first ones
NAMES = ("fashion_mnist", "fashion_mnist:<folder>", "digits")


class LabelledImages:
    """Images [n, size, size, 1] with labels [n], as examples."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self._images, self._labels = images, labels

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> dict:
        return {"image": self._images[index], "label": int(self._labels[index])}


def find_packaged(name: str, root: pathlib.Path, size: int, channels: int, resize: str, crop: str, needed: str = "",
                  progress: bool = True) -> pictures.Pictures:
    """The images called `name`, which is one of NAMES, prepared under `root`; raises DataError.

    Fashion-MNIST is that of the folder, or else of Debian's package, or else of TFDS.
    """
    kind, _, folder = name.partition(":")
    if kind == "fashion_mnist" and not folder and not DEBIAN.exists():
        return _of_tfds(root, size, channels, resize, crop, needed, progress)
    find = functools.partial(_fashion, pathlib.Path(folder or DEBIAN).expanduser(), root) if kind == "fashion_mnist" else (
        _digits)
    content, classes, read = find()
    state = hashlib.sha256(json.dumps([pictures.VERSION, content, size, channels, resize, crop]).encode()).hexdigest()[:16]
    directory = root / "images" / f"{kind}-{state}"
    shape = functools.partial(pictures.square, size=size, channels=channels, resize=resize, crop=crop)

    def build() -> dict:
        return pictures.prepare_images(name, read(), {"label": classes}, (), "image", shape, (size, size, channels),
                                       directory, progress)

    return pictures.find_prepared(name, directory, build, needed if needed == "label" else "")


def read_idx(path: pathlib.Path) -> np.ndarray:
    """The array of bytes in an IDX file, compressed by gzip or not (LeCun, http://yann.lecun.com/exdb/mnist)."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zeros, kind, axes = struct.unpack(">HBB", content[:4])
        shape = struct.unpack(f">{axes}I", content[4:4 + 4 * axes])
    except (OSError, EOFError, struct.error) as error:
        raise DataError(f"{path} is no IDX file that can be read ({error})") from error
    if zeros or kind != 8 or len(content) != 4 + 4 * axes + math.prod(shape):
        raise DataError(f"{path} is no whole IDX file of bytes")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _fashion(folder, root):
    """(what names the content, the classes, a function that reads the splits) of IDX files in a folder."""
    files = {}
    for split, named in SPLITS.items():
        for what, axes in (("images", 3), ("labels", 1)):
            pattern = f"{named}-{what}-idx{axes}-ubyte"
            found = [path for path in (folder / f"{pattern}.gz", folder / pattern) if path.exists()]
            if not found:
                raise DataError(f"{folder} has no {pattern}.gz; write data.name=fashion_mnist:<folder> with that of the "
                                "four IDX files, or install them by `apt-get install dataset-fashion-mnist`")
            files[split, what] = found[0]

    def read() -> dict:
        arrays = {key: read_idx(path) for key, path in files.items()}
        for split in SPLITS:
            images, labels = arrays[split, "images"], arrays[split, "labels"]
            if images.ndim != 3 or len(images) != len(labels) or labels.max(initial=0) >= len(GARMENTS):
                raise DataError(f"{files[split, 'images']} and {files[split, 'labels']} do not fit together as images and "
                                f"labels below {len(GARMENTS)}")
        return {split: LabelledImages(arrays[split, "images"][..., None], arrays[split, "labels"]) for split in SPLITS}

    return content_digest(list(files.values()), root / "index", False, "fashion_mnist"), GARMENTS, read


def _digits():
    """1,797 handwritten digits of 8x8 pixels and 17 levels (UCI; Alpaydin & Kaynak 1998). The last ones are held out."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataError("data.name=digits are images that scikit-learn carries; write `pip install scikit-learn` first"
                        ) from error
    found = datasets.load_digits()
    images = np.round(found.images * (255 / 16)).astype(np.uint8)[..., None]
    parts = {"iid": slice(-HELD_OUT, None), "train": slice(None, -HELD_OUT)}
    content = hashlib.sha256(images.tobytes()).hexdigest()
    return content, [str(digit) for digit in range(10)], lambda: {
        split: LabelledImages(images[part], found.target[part]) for split, part in parts.items()}


def _of_tfds(root, size, channels, resize, crop, needed, progress):
    from scaling.data import tfds_images
    try:
        return tfds_images.find_pictures("fashion_mnist", root, size, channels, resize, crop, needed, progress=progress)
    except DataError as error:
        raise DataError("data.name=fashion_mnist was found neither as Debian's package nor through TFDS; write `apt-get "
                        "install dataset-fashion-mnist`, or data.name=fashion_mnist:<folder> with the folder of its four "
                        f"IDX files ({error})") from error
