"""TFDS builders for files on this machine: array_record files, built and read without TensorFlow."""
import abc
import dataclasses
import functools
import io

import numpy as np
import tensorflow_datasets as tfds

from scaling.data import curate, pycode
from scaling.data.glyphs.stream import CATEGORICAL, GlyphStream, find_glyphs
from scaling.data.glyphs.stream import VERSION as GLYPHS_VERSION
from scaling.store.prepared import data_directory


class Files(tfds.core.GeneratorBasedBuilder):
    """Curated documents. An example is a document: {"text", "name", "package"}. The splits are those of `curate.split`.

    A caller that has curated the files already passes the result as `curated`. The documents depend on the machine's
    files: `info.metadata` holds their "fingerprint" and the "counts" of each rule.
    """
    VERSION = tfds.core.Version(curate.VERSION)

    def __init__(self, *, curated: curate.Curated | None = None, **kwargs):
        self._curated = curated
        super().__init__(**{"file_format": "array_record", **kwargs})

    @abc.abstractmethod
    def curate(self) -> curate.Curated:
        """Finds and curates the files."""

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        return tfds.core.DatasetInfo(
            builder=self, description=type(self).__doc__, metadata=tfds.core.MetadataDict(),
            features=tfds.features.FeaturesDict({"text": text, "name": text, "package": text}))

    def _split_generators(self, dl_manager):
        curated = self._curated or self.curate()
        self.info.metadata.update(fingerprint=curated.fingerprint, counts=curated.counts)
        return {name: self._generate_examples(found) for name, found in curated.documents.items() if found}

    def _generate_examples(self, documents):
        for document in documents:
            yield document.name, {"text": document.text, "name": document.name, "package": document.package}


class Pycode(Files):
    """Python source files without duplicates and generated tables, split by file and by package."""
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="stdlib", description="The standard library with its tests."),
        tfds.core.BuilderConfig(name="environment", description="The standard library and what `scaling` requires."),
    ]

    def curate(self) -> curate.Curated:
        name = self.builder_config.name
        return curate.curate(pycode.CONFIGS[name](), curate.CODE_RULES, desc=f"pycode/{name}")


class TextFiles(Files):
    """The user's text files without duplicates, split by file."""

    def __init__(self, *, files: tuple[curate.File, ...] = (), **kwargs):
        self._files = files
        super().__init__(**kwargs)

    def curate(self) -> curate.Curated:
        return curate.curate(self._files, curate.PROSE_RULES, desc="text")


@dataclasses.dataclass(eq=False)
class GlyphsConfig(tfds.core.BuilderConfig):
    """Which images of the glyph stream are a fixed data set.

    The split "train" holds the first `train` images of the stream's split of that name. Each other split holds the
    first `evaluation` images of the stream's split of the same name, except that "test" holds those of "iid".
    """
    name: str
    description: str | None = None
    characters: str = "letters"      # a key of `stream.CONFIGS`
    size: int = 32
    channels: int = 1
    train: int = 50_000
    evaluation: int = 10_000


class Glyphs(tfds.core.GeneratorBasedBuilder):
    """A fixed set of rendered characters and the factors that each was rendered from; see `scaling.data.glyphs`.

    Besides "image", an example has "label" (the character), "caption", every other categorical factor as a class
    label, and the continuous factors as numbers. The splits are train, test and, out of distribution, character and
    font. The masters lie under `data_dir` too.
    """
    VERSION = tfds.core.Version(f"{GLYPHS_VERSION}.0.0")
    BUILDER_CONFIGS = [
        GlyphsConfig(name="letters_16", size=16, description="A to Z and a to z, grey."),
        GlyphsConfig(name="letters_32", size=32, description="A to Z and a to z, grey."),
        GlyphsConfig(name="letters_32_rgb", size=32, channels=3, description="A to Z and a to z, in colour."),
        GlyphsConfig(name="all_32_rgb", characters="", size=32, channels=3,
                     description="Every character, in colour."),
    ]
    CHUNK = 1024

    def __init__(self, **kwargs):
        super().__init__(**{"file_format": "array_record", **kwargs})

    @functools.cached_property
    def drawn(self) -> GlyphStream:
        config, root = self.builder_config, data_directory(self._data_dir_root)
        return find_glyphs(config.characters, root, config.size, config.channels, progress=False)

    def _info(self) -> tfds.core.DatasetInfo:
        config, of = self.builder_config, tfds.features
        labels = {"label": of.ClassLabel(names=self.drawn.classes("character"))} | {
            name: of.ClassLabel(names=self.drawn.classes(name)) for name in CATEGORICAL[1:]}
        numbers = {name: of.Tensor(shape=value.shape[1:], dtype=value.dtype)
                   for name, value in self._numbers("train", 1).items()}
        image = of.Image(shape=(config.size, config.size, config.channels))
        return tfds.core.DatasetInfo(
            builder=self, description=type(self).__doc__,
            metadata=tfds.core.MetadataDict(fingerprint=self.drawn.fingerprint),
            features=of.FeaturesDict({"image": image, "caption": of.Text()} | labels | numbers))

    def _numbers(self, split: str, count: int) -> dict[str, np.ndarray]:
        found = self.drawn.factors(split, count)
        return {name: value for name, value in found.items() if name not in CATEGORICAL}

    def _split_generators(self, dl_manager):
        counts = dict.fromkeys(self.drawn.splits, self.builder_config.evaluation)
        splits = {"train": self._generate_examples("train", self.builder_config.train)}
        return splits | {"test" if split == "iid" else split: self._generate_examples(split, count)
                         for split, count in counts.items()}

    def _generate_examples(self, split: str, count: int):
        tables, factors = self.drawn.tables("", 0), self.drawn.factors(split, count)
        captions = self.drawn.captions(256)[self.drawn.draw(np.arange(count), split)["master"]]
        for at in range(0, count, self.CHUNK):
            index = np.arange(at, min(at + self.CHUNK, count))
            for i, image in zip(index, self.drawn.read(tables, index, split)["image"], strict=True):
                values = {name: value[i] for name, value in factors.items()}
                yield int(i), {"image": png_bytes(image), "label": int(values.pop("character")),
                               "caption": captions[i].tobytes().rstrip(b"\0")} | values


def png_bytes(image: np.ndarray) -> bytes:
    """An image [H, W, 1 or 3] as the bytes of a PNG file. TFDS itself needs TensorFlow to make one."""
    from PIL import Image
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "png")
    return file.getvalue()
