"""What an experiment says of its data: which source, how much of it, and how it is evaluated.

One class for each kind of data. A family names the kind it `reads`; everything that trains, counts or reports goes
through what the kinds share: D is `seen` units, `steps` follow from it, and `load` gives the source.
"""

import dataclasses
from typing import ClassVar

from scaling.fields import ConfigError, how, knob


class _Data:
    """What the kinds of data share. `unit` is what D counts."""

    unit: ClassVar[str]

    @property
    def length_knob(self) -> str:
        """The path of the field that says how long a run is."""
        return f"data.{self.unit}"

    @property
    def seen(self) -> int:
        """D: units seen in training."""
        return getattr(self, self.unit)

    @property
    def steps(self) -> int:
        return self.seen // self.per_step

    @property
    def unique(self) -> int:
        """Units of the source that are used; 0 is all of them."""
        return getattr(self, f"unique_{self.unit}")

    @property
    def evaluated(self) -> int:
        """Units of each evaluation set."""
        return getattr(self, f"evaluation_{self.unit}")

    def available(self, source) -> int:
        """How many different units the source gives this experiment."""
        return getattr(source, f"unique_{self.unit}")

    def judge_fields(self) -> dict:
        """Arguments of the judge beside its source: equal ones give the same judge; empty where there is none."""
        return {}

    def judge(self, source):
        """What scores the samples of a trained model, if there is such a thing for this data."""
        return None

    def check(self):
        """Raises a ConfigError that says which field to change."""
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
    name: str = "pycode/stdlib"  # also pycode/environment, tfds:<name>, text:<glob>
    tokenizer: str = "bytes"  # or bpe:<vocabulary size>
    length: int = 128  # predicted tokens per sequence
    batch: int = 8  # sequences per step
    tokens: int = knob(2**19)  # D: tokens seen; steps = tokens / (batch * length)
    unique_tokens: int = 0  # D unique: only the first so many tokens of the fixed shuffle; 0 is all
    feed: str = how("resident")  # "resident" on the device, or "streamed" from disk
    data_dir: str = how("")  # where built data sets live; empty is the default of scaling.data
    evaluation_tokens: int = 2**16  # tokens of each evaluation set

    unit: ClassVar[str] = "tokens"
    at_once: ClassVar[int] = 2**14  # units that are evaluated together, or one training batch
    positive: ClassVar[tuple[str, ...]] = ("length",)

    @property
    def per_step(self) -> int:
        return self.batch * self.length

    def family_fields(self) -> dict:
        """Fields of a family that the data decide, so that no config says them twice."""
        kind, _, size = self.tokenizer.partition(":")
        if not (self.tokenizer == "bytes" or (kind == "bpe" and size.isdigit())):
            raise ConfigError(f"data.tokenizer={self.tokenizer!r} is not known; write 'bytes' or 'bpe:4096'")
        return {"length": self.length, "vocab": int(size) if size else 256}

    def source_fields(self) -> dict:
        """Arguments of `load_text`: equal ones give the same source."""
        return {"name": self.name, "tokenizer": self.tokenizer, "length": self.length, "batch": self.batch,
                "unique_tokens": self.unique_tokens, "data_dir": self.data_dir or None}

    def load(self):
        from scaling import data
        return data.load_text(**self.source_fields())


@dataclasses.dataclass(frozen=True)
class Images(_Data):
    name: str = "glyphs/letters"  # also glyphs, glyphs/<other sets>, tfds:<name>
    batch: int = 64  # images per step
    examples: int = knob(2**16)  # D: images seen; steps = examples / batch
    unique_examples: int = 0  # D unique: only the first so many images of the fixed order; 0 is all there are
    size: int = 16  # pixels of a side
    channels: int = 1  # 1 is grey, 3 is RGB
    levels: int = 256  # values a pixel takes: 2, 16 or 256
    label: str = ""  # the factor that models are conditioned on: character, font, ... or a TFDS feature; empty is none
    classes: int = 0  # values of the label
    caption: int = 0  # bytes of the caption that models are conditioned on; 0 is none
    resize: str = "area"  # how images of another size are brought to this one, see scaling.data.transforms
    crop: str = "center"  # how they are made square first
    flip: bool = False  # augmentation: mirror half of the images
    shift: int = 0  # augmentation: move each image by up to so many pixels
    feed: str = how("resident")
    data_dir: str = how("")
    evaluation_examples: int = 4096  # images of each evaluation set
    samples: int = 0  # generated images that distances are estimated from; 0 is no distances
    features: str = "classifier"  # the space they are measured in, see scaling.evaluate
    weights: str = ""  # the file of weights that some feature spaces need
    critic_steps: int = 0  # steps that a fresh critic of the samples is trained for; 0 is no critic

    unit: ClassVar[str] = "examples"
    at_once: ClassVar[int] = 256
    positive: ClassVar[tuple[str, ...]] = ("size", "channels", "levels")

    @property
    def per_step(self) -> int:
        return self.batch

    def family_fields(self) -> dict:
        """Fields of a family that the data decide, so that no config says them twice."""
        return {"image_size": self.size, "channels": self.channels, "levels": self.levels,
                "classes": self.classes if self.label else 0, "caption": self.caption}

    def source_fields(self) -> dict:
        """Arguments of `load_images`: equal ones give the same source."""
        names = ("name", "size", "channels", "levels", "batch", "unique_examples", "label", "classes", "caption",
                 "resize", "crop", "flip", "shift")
        return {name: getattr(self, name) for name in names} | {"data_dir": self.data_dir or None}

    def load(self):
        from scaling import data
        return data.load_images(**self.source_fields())

    def judge_fields(self) -> dict:
        if not self.samples:
            return {}
        names = ("features", "samples", "critic_steps", "weights")
        return {name: getattr(self, name) for name in names} | {"data_dir": self.data_dir or None}

    def judge(self, source):
        from scaling import evaluate
        return evaluate.Judge(source, **self.judge_fields()) if self.judge_fields() else None


KINDS = {"text": Text, "images": Images}
