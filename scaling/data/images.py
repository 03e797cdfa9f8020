"""A source of images. A batch is a pure function of (seed, step), equal whether streamed or resident on the device."""
import hashlib
import os

import numpy as np

from scaling.data import contents, order, transforms
from scaling.data.known.names import image_teacher
from scaling.data.noise import CLEAN, Corruption
from scaling.data.other_kinds import of_other_kind
from scaling.data.source import UNLIMITED, Feed
from scaling.fields import DataError, did_you_mean
from scaling.store.prepared import data_directory, preparing

MOVES = 6                    # the key of augmentations; source.py and glyphs/render.py have other keys
CHUNK = 1 << 20              # pixels of evaluation images that are made at once
TOGETHER = 1 << 16           # pixels of training images that are made at once, so that they stay in the cache


class ImageSource(Feed):
    """Square images of one data set; made by `scaling.data.load_images`.

    Image i of the first epoch of seed 0 is image i of one fixed order. Other seeds and later epochs have orders of their
    own, of the first `unique_examples` images. An endless stream (glyphs) shows no image of a run twice unless
    `unique_examples` limits it, and other seeds see other images.

    Attributes: `name`; `contents`, what was found and left out (see `contents.py`); `fingerprint` (of the data, splits
      and every transform); `size`, `channels`, `levels`; `batch_size`; `unique_examples`, the training images used,
      2**31 - 1 for a stream; `splits` for evaluation, of which the first, "iid", has the distribution of training. A
      batch has "image", uint8 [batch, size, size, channels], 0 to levels - 1, and, if they were asked for, "label",
      int32 [batch], and "caption", int32 [batch, caption]. `entropy`, in bits per dimension, where it is known.
    """

    def __init__(self, pictures, levels: int, batch: int, unique_examples: int, label: str, classes: int,
                 caption: int, flip: bool, shift: int, noise: Corruption = CLEAN, noises: str = "pixels"):
        self.pictures, self.name, self.splits = pictures, pictures.name, pictures.splits
        self.size, self.channels, self.levels = pictures.size, pictures.channels, levels
        self.label, self.caption, self.flip, self.shift, self.noise = label, caption, flip, shift, noise
        self.noises, of = noises, f" of {label}" if noise and noises == "label" else ""
        described = f"{pictures.fingerprint} {self.size} {self.channels} {levels} {flip} {shift}{noise.identity}{of}"
        self.fingerprint = hashlib.sha256(described.encode()).hexdigest()[:16]
        if unique_examples > pictures.count:
            raise DataError(f"data.unique_examples={unique_examples:,} is more than the {pictures.count:,} "
                            f"training images of {self.name}; write at most that, or 0 for all")
        if not pictures.count:
            raise DataError(f"{self.name} has no training images")
        if label and 0 < classes < (least := len(self.classes(label))):
            raise DataError(f"data.classes={classes} is less than the {least} of data.label={label!r} of {self.name}; "
                            f"write data.classes={least}")
        if classes and not label:
            raise DataError(f"data.classes={classes} without a label; write data.label= as well, or data.classes=0")
        self.unique_examples = unique_examples or pictures.count
        super().__init__(self.unique_examples, batch, TOGETHER // self.size ** 2)
        self._tables, self._values = pictures.tables(label, caption), len(self.classes(label)) if label else 0
        self.entropy = getattr(pictures, "entropy", None)
        self.contents = {**pictures.contents, "units": self.unique_examples, "unit": "examples"}

    def __repr__(self) -> str:
        return (f"ImageSource({self.name!r}, {self.size}x{self.size}x{self.channels}, levels={self.levels}, "
                f"batch={self.batch_size}, unique_examples={self.unique_examples:,}, "
                f"fingerprint={self.fingerprint})")

    def classes(self, label: str) -> list[str]:
        """The names of the values 0, 1, ... of a label."""
        return self.pictures.classes(label)

    def _batch(self, tables, seed, step, rows, xp=np) -> dict:
        index = self._indices(seed, step, rows, xp)
        found = self.pictures.read(tables, index, "train", xp)
        replaced, count = ("label", self._values) if self.noises == "label" else ("image", 256)
        found[replaced] = self.noise.add(found[replaced], index, 0, count, xp)
        if self.flip or self.shift:              # differently each time that an image is seen
            key = order.key(MOVES, seed, step, rows, xp=xp)
            found["image"] = transforms.move(found["image"], key, self.flip, self.shift, xp)
        return self._finish(found, xp)

    def _finish(self, found: dict, xp=np) -> dict:
        image = transforms.quantise(found.pop("image"), self.levels, xp)
        return {"image": image} | {name: value.astype(xp.int32) for name, value in found.items()}

    def _read(self, seed, step, rows):
        return self._batch(self._tables, seed, step, rows)

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays to put on the device for `slice`: the images, or the masters that they are rendered from."""
        if self._count < UNLIMITED and self._count * self.batch_size >= 1 << 31:
            raise DataError(f"{self._count:,} images in batches of {self.batch_size} do not fit the 32-bit "
                            "indices of the device; use stream(), or a smaller unique_examples")
        return self.pictures.arrays(self._count, self.label, self.caption)

    def slice(self, arrays, seed, step) -> dict:
        """`batch(seed, step)` from `arrays()` in JAX; `seed` and `step` may be traced."""
        import jax.numpy as jnp
        return self._batch(arrays, seed, jnp.asarray(step, jnp.int32), jnp.arange(self.batch_size), jnp)

    def _check_split(self, split: str, examples: int, more: tuple[str, ...] = ()) -> None:
        if split not in self.splits + more:
            raise DataError(f"{self.name} has no evaluation split {split!r}; it has {', '.join(self.splits)}"
                            + did_you_mean(split, self.splits))
        available = self.pictures.available(split)
        if not 0 < examples <= available:
            raise DataError(f"data.evaluation_examples={examples:,} is not possible on the split {split!r} of {self.name}, "
                            f"which has {available:,} images; write 1 to {available:,}")

    def evaluation(self, split: str, examples: int = 4096) -> dict[str, np.ndarray]:
        """The first `examples` of an evaluation split, not augmented. Smaller sets are nested in larger ones.

        Where the true distribution of the images is known, "nats" is -log p of each: float32 [examples].
        """
        self._check_split(split, examples)
        step = max(1, CHUNK // self.size ** 2)
        rows = [np.arange(at, min(at + step, examples)) for at in range(0, examples, step)]
        parts = [self._finish(self.pictures.read(self._tables, part, split)) for part in rows]
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if hasattr(self.pictures, "nats"):
            found["nats"] = self.pictures.nats(found["image"]).astype(np.float32)
        return found

    def summary(self) -> list[str]:
        """Sentences about what was found in the data and what was left out."""
        return contents.sentences(self.name, self.contents)

    def factors(self, split: str, examples: int = 4096) -> dict[str, np.ndarray]:
        """The factors that the data set records of the first `examples` images of a split, or of "train"."""
        self._check_split(split, examples, ("train",))
        return self.pictures.factors(split, examples)


def load_images(name: str, size: int = 16, channels: int = 1, levels: int = 256, batch: int = 64,
                unique_examples: int = 0, label: str = "", classes: int = 0, caption: int = 0,
                resize: str = "area", crop: str = "center", flip: bool = False, shift: int = 0,
                data_dir: str | os.PathLike | None = None, progress: bool = True, noise: float = 0.0,
                dirty: float = 1.0, correlate: str = "", agree: float = 0.5, noises: str = "pixels") -> ImageSource:
    """The source of images called `name`. It is prepared once under `data_dir` and found there afterwards.

    Args:
      name: "glyphs" or "glyphs/<set>" (`scaling.data.glyphs.stream.CONFIGS`), with the factors that vary if not all do,
        such as "glyphs/letters:rotation,size"; "fashion_mnist[:<folder>]" or "digits" (`scaling.data.packaged`);
        "tfds:<name>[/<config>]"; "images:<file, folder or glob>" (`scaling.data.image_files`); or "teacher[:<fields>]"
        (`scaling.data.known.raster`).
      size: pixels of a side, 8 to 64 for glyphs.
      channels: 1 for grey, 3 for RGB.
      levels: the number of values that a pixel can have, 2 to 256.
      batch: images in a (global) batch.
      unique_examples: how many training images to use, the first ones of the fixed order; 0 for all.
      label: the factor that "label" holds: a categorical factor of glyphs (character, block, font, weight, slant), or
        a feature of a TFDS data set ("label"; "attributes/Smiling"), "label" for the folders that image files lie in;
        empty for none.
      classes: the number of classes that the model has, at least as many as the label has values; 0 allows any number.
      caption: bytes of "caption", cut or filled with zeros; 0 for none.
      resize, crop: how images of TFDS and files are brought to `size`, see `scaling.data.transforms`.
      flip, shift: augmentation in training: mirroring, and moving by up to `shift` pixels.
      noise, dirty: the share of the values of a dirty training image that are replaced by random ones, and the share of
        images that are dirty; see `scaling.data.noise`. noises: "pixels", or "label" for the share of labels.
      correlate, agree: a class and a style of glyphs, such as "weight,size", and the share of images in which they agree;
        see `scaling.data.glyphs.correlated`.
      data_dir: default $SCALING_DATA_DIR, else ~/.cache/scaling/data.
      progress: whether to show progress bars.

    Raises DataError when there is no such data set, label or transform, or less data than asked for; DiskFull.
    """
    limits = {"size": (size, 1, 4096), "levels": (levels, 2, 256), "batch": (batch, 1, 1 << 30),
              "unique_examples": (unique_examples, 0, UNLIMITED), "classes": (classes, 0, UNLIMITED),
              "caption": (caption, 0, 1 << 16), "shift": (shift, 0, size)}
    for field, (value, least, most) in limits.items():
        if not least <= value <= most:
            raise DataError(f"data.{field}={value} is out of range; write {least} to {most}")
    if channels not in (1, 3):
        raise DataError(f"data.channels={channels} is not possible; write 1 for grey or 3 for RGB")
    if noises not in ("pixels", *["label"] * bool(label)):
        raise DataError(f"data.noises={noises!r} is not possible; write pixels, or label where data.label= names one")
    transforms.check_name("resize", resize, transforms.RESIZES)
    transforms.check_name("crop", crop, transforms.CROPS)
    root, noisy = data_directory(data_dir), Corruption(noise, dirty)
    kind, _, rest = name.partition(":")
    with preparing(root):
        if kind == "tfds" and rest:
            from scaling.data import tfds_images
            found = tfds_images.find_pictures(rest, root, size, channels, resize, crop, label, caption > 0, progress)
        elif kind == "images" and rest:
            from scaling.data import folders
            needed = label or "label" * (caption > 0)
            found = folders.find_folder(rest, root, size, channels, resize, crop, needed, progress)
        elif kind in ("fashion_mnist", "digits"):
            from scaling.data import packaged
            needed = label or "label" * (caption > 0)
            found = packaged.find_packaged(name, root, size, channels, resize, crop, needed, progress)
        elif teacher := image_teacher(name):
            found = teacher.pictures(name, size, channels, levels)
        elif kind.split("/")[0] == "glyphs":
            from scaling.data.glyphs import stream  # matplotlib, which text does without
            found = stream.find_glyphs(name.removeprefix("glyphs").removeprefix("/"), root, size, channels, progress)
        else:
            known = ["glyphs", "glyphs/letters", f"tfds:{name}", f"images:{name}", "teacher", "fashion_mnist", "digits"]
            wrong = of_other_kind(name, "images") or f"no set of images is called {name!r}"
            raise DataError(f"{wrong}; write glyphs, glyphs/<set>, fashion_mnist, digits, "
                            "tfds:<name>[/<config>], images:<file, folder or glob> or teacher" + did_you_mean(name, known))
    if correlate:
        if name.split("/")[0].partition(":")[0] != "glyphs":
            raise DataError(f"data.correlate={correlate!r} is for glyphs, whose factors are known, and not for {name}; "
                            "write data.name=glyphs/letters, or leave it out")
        from scaling.data.glyphs.correlated import CorrelatedStream
        found = CorrelatedStream(found, correlate, agree)
    return ImageSource(found, levels, batch, unique_examples, label, classes, caption, flip, shift, noisy, noises)
