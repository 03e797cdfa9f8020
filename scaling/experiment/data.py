"""The data of an experiment: which source, how much of it, and how models are evaluated.

There is one class for each kind of data, and a family names the kind that it `reads`. Code that trains, counts or reports
uses only what the kinds share: D is `seen` units, `steps` follows from it, and `load` returns the source.
"""

import dataclasses
from typing import Any, ClassVar

from scaling import data, evaluate
from scaling.fields import ConfigError, how, knob


class _Data:
    """The common part of all kinds of data. D is counted in `unit`."""

    unit: ClassVar[str]

    @property
    def length_knob(self) -> str:
        """The path of the field that holds the length of a run."""
        return f"data.{self.unit}"

    @property
    def seen(self) -> int:
        """D, the number of units seen in training."""
        return getattr(self, self.unit)

    @property
    def steps(self) -> int:
        return self.seen // self.per_step

    @property
    def unique(self) -> int:
        """The number of units of the source that are used; 0 is all of them."""
        return getattr(self, f"unique_{self.unit}")

    @property
    def evaluated(self) -> int:
        """The number of units of each evaluation set."""
        return getattr(self, f"evaluation_{self.unit}")

    def available(self, source) -> int:
        """The number of different units that the source gives this experiment."""
        return getattr(source, f"unique_{self.unit}")

    def judge_fields(self) -> dict:
        """Arguments of the judge beside its source, or {} for no judge. Equal arguments give the same judge."""
        return {}

    def judge(self, source) -> Any:
        """The judge that scores samples of a trained model, or None."""
        return None

    def check(self):
        """Raises a ConfigError, which names the field to change, for values that cannot run."""
        for name in ("batch", self.unit, *self.positive):
            if getattr(self, name) <= 0:
                raise ConfigError(f"data.{name} must be positive, not {getattr(self, name)}")
        if self.seen < self.per_step:
            raise ConfigError(f"data.{self.unit}={self.seen} is less than one step of {self.per_step} {self.unit}; "
                              f"raise data.{self.unit} or lower data.batch")
        if self.feed not in ("resident", "streamed"):
            raise ConfigError(f"data.feed={self.feed!r} is not known; write resident or streamed")


@dataclasses.dataclass(frozen=True)
class Text(_Data):
    """Text as windows of tokens. D is counted in tokens."""

    name: str = "pycode/stdlib"  # also pycode/environment, tfds:<name>, text:<file, folder or glob>
    encoding: str = how("")  # of text: files, such as latin-1; empty detects it. How, because the text itself names the run
    field: str = how("")  # of JSON lines and Parquet: the field with the text; empty for plain text
    tokenizer: str = "bytes"  # or bpe:<vocabulary size>
    length: int = 128  # predicted tokens per sequence
    batch: int = 8  # sequences per step
    tokens: int = knob(2**19)  # D: tokens seen; steps = tokens / (batch * length)
    unique_tokens: int = 0  # D unique: use only the first tokens of the fixed shuffle; 0 is all
    feed: str = how("resident")  # "resident" on the device, or "streamed" from disk
    data_dir: str = how("")  # where built data sets are stored; empty is the default of scaling.data
    evaluation_tokens: int = 2**16  # tokens of each evaluation set

    unit: ClassVar[str] = "tokens"
    at_once: ClassVar[int] = 2**14  # units that are evaluated together, at least one training batch
    positive: ClassVar[tuple[str, ...]] = ("length",)

    @property
    def per_step(self) -> int:
        return self.batch * self.length

    def family_fields(self) -> dict:
        """The family's fields that the data determine, so that no config sets them twice."""
        kind, _, size = self.tokenizer.partition(":")
        if not (self.tokenizer == "bytes" or (kind == "bpe" and size.isdigit())):
            raise ConfigError(f"data.tokenizer={self.tokenizer!r} is not known; write 'bytes' or 'bpe:4096'")
        return {"length": self.length, "vocab": int(size) if size else 256}

    def source_fields(self) -> dict:
        """Arguments of `scaling.data.load_text`. Equal arguments give the same source."""
        names = ("name", "tokenizer", "length", "batch", "unique_tokens", "encoding", "field")
        return {name: getattr(self, name) for name in names} | {"data_dir": self.data_dir or None}

    def load(self):
        """The source."""
        return data.load_text(**self.source_fields())


@dataclasses.dataclass(frozen=True)
class Images(_Data):
    """Images of one size. D is counted in examples."""

    name: str = "glyphs/letters"  # also glyphs, glyphs/<other sets>, tfds:<name>, images:<file, folder or glob>
    batch: int = 64  # images per step
    examples: int = knob(2**16)  # D: images seen; steps = examples / batch
    unique_examples: int = 0  # D unique: use only the first images of the fixed order; 0 is all
    size: int = 16  # pixels of a side
    channels: int = 1  # 1 is grey, 3 is RGB
    levels: int = 256  # values of a pixel: 2, 16 or 256
    label: str = ""  # the factor to condition on: character, font, ..., a TFDS feature, "label" of a folder; empty is none
    classes: int = 0  # values of the label
    caption: int = 0  # bytes of the caption to condition on; 0 is none
    resize: str = "area"  # how images of another size are resized, see scaling.data.transforms
    crop: str = "center"  # how they are made square first
    flip: bool = False  # augmentation: mirror half of the images
    shift: int = 0  # augmentation: move each image by up to this many pixels
    feed: str = how("resident")
    data_dir: str = how("")
    evaluation_examples: int = 4096  # images of each evaluation set
    samples: int = 0  # generated images from which distances are estimated; 0 is none
    features: str = "classifier"  # the feature space of the distances, see scaling.evaluate
    weights: str = ""  # the weights file that some feature spaces need
    critic_steps: int = 0  # training steps of a fresh critic of the samples; 0 is none

    unit: ClassVar[str] = "examples"
    at_once: ClassVar[int] = 256
    positive: ClassVar[tuple[str, ...]] = ("size", "channels", "levels")

    @property
    def per_step(self) -> int:
        return self.batch

    def family_fields(self) -> dict:
        """The family's fields that the data determine, so that no config sets them twice."""
        return {"image_size": self.size, "channels": self.channels, "levels": self.levels,
                "classes": self.classes if self.label else 0, "caption": self.caption}

    def source_fields(self) -> dict:
        """Arguments of `scaling.data.load_images`. Equal arguments give the same source."""
        names = ("name", "size", "channels", "levels", "batch", "unique_examples", "label", "classes", "caption",
                 "resize", "crop", "flip", "shift")
        return {name: getattr(self, name) for name in names} | {"data_dir": self.data_dir or None}

    def load(self):
        """The source."""
        return data.load_images(**self.source_fields())

    def judge_fields(self) -> dict:
        if not self.samples:
            return {}
        names = ("features", "samples", "critic_steps", "weights")
        return {name: getattr(self, name) for name in names} | {"data_dir": self.data_dir or None}

    def judge(self, source) -> Any:
        return evaluate.Judge(source, **self.judge_fields()) if self.judge_fields() else None


KINDS = {"text": Text, "images": Images}
