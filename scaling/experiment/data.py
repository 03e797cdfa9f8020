"""The data of an experiment: which source, how much of it, and how models are evaluated.

There is one class for each kind of data, and a family names the kind that it `reads`. Other code uses only what the kinds
share: D is `seen` units, `steps` follows from it, `load` returns the source, and `judge` what scores samples.
"""

import dataclasses
from typing import Any, ClassVar

from scaling import data, evaluate
from scaling.data.blocks import STORAGES
from scaling.data.known.names import image_teacher, token_teacher
from scaling.data.tokenizers import SMALLEST_BPE
from scaling.data.transforms import CROPS, RESIZES
from scaling.evaluate.features import FEATURES
from scaling.evaluate.judge import MEASURED, MEASURED_BY_CRITIC
from scaling.experiment import text_samples
from scaling.fields import ConfigError, convert_fields, how, knob, shown, static

FEEDS = ("resident", "streamed")
MOST = 2**50  # units of data that are counted
LEAST_SAMPLES = 16  # a judge needs so many images


class _Data:
    """The common part of all kinds of data. D is counted in `unit`."""

    unit: ClassVar[str]

    def __post_init__(self):
        convert_fields(self)

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
    def per_example(self) -> int:
        """The number of units of one example."""
        return self.per_step // self.batch

    @property
    def evaluated_together(self) -> int:
        """The number of examples that are evaluated together where devices have room for them.

        Runs are evaluated on as many on their way, so they are few: a 32nd of the evaluation set, within `at_once` units.
        """
        least, most = self.at_once
        units = min(most, max(least, self.evaluated // 32)) if self.evaluated else most
        return max(1, units // self.per_example)

    @property
    def evaluated(self) -> int:
        """The number of units of each evaluation set."""
        return getattr(self, f"evaluation_{self.unit}")

    def available(self, source) -> int:
        """The number of different units that the source gives this experiment."""
        return getattr(source, f"unique_{self.unit}")

    def vocabulary(self, source) -> str:
        """What the numbers mean that tables of a model are read by. Data with equal ones can share tables."""
        raise NotImplementedError

    @property
    def teacher(self) -> Any:
        """The teacher that draws the data and knows their true probabilities, or None; see `scaling.data.known`."""
        return None

    def judge_fields(self) -> dict:
        """Arguments of the judge beside its source, or {} for no judge. Equal arguments give the same judge."""
        return {}

    def judge(self, source) -> Any:
        """The judge that scores samples of a trained model, or None."""
        return None

    def check_judge(self, source) -> None:
        """Raises what `judge` would, at little cost."""

    def judged(self) -> tuple[str, ...]:
        """The metrics that the judge measures."""
        return ()

    def sampling(self) -> dict:
        """Arguments of a family's `sample` beside parameters, batch and key."""
        return {}

    def check(self):
        """Raises a ConfigError for values, each in its range, that cannot run together."""
        if self.seen < self.per_step:
            raise ConfigError(f"data.{self.unit}={self.seen} is less than one step of {self.per_step} {self.unit}; "
                              f"raise data.{self.unit} or lower data.batch")


def _check_noise(noise: float, dirty: float) -> None:
    if dirty < 1 and not noise:
        raise ConfigError(f"data.dirty={dirty} changes nothing without noise; write data.noise= as well, or data.dirty=1")


@dataclasses.dataclass(frozen=True)
class Text(_Data):
    """Text as windows of tokens. D is counted in tokens."""

    name: str = static("pycode/stdlib")  # also pycode/environment, tfds:<name>, text:<files>, zipf, hmm, grammar, repeats
    encoding: str = how("")  # of text: files, such as latin-1; empty detects it. How, because the text itself names the run
    field: str = how("")  # of JSON lines and Parquet: the field with the text; empty for plain text
    tokenizer: str = static("bytes")  # or bpe:<vocabulary size>
    length: int = static(128, least=1, most=2**20)  # predicted tokens per sequence
    batch: int = static(8, least=1, most=2**24)  # sequences per step
    tokens: int = knob(2**19, least=1, most=MOST)  # D: tokens seen; steps = tokens / (batch * length)
    unique_tokens: int = static(0, least=0, most=MOST)  # D unique: only the first tokens of the fixed shuffle; 0 is all
    noise: float = static(0.0, later=True, least=0, most=1)  # share of training tokens that random ones replace
    dirty: float = static(1.0, later=True, least=0, most=1)  # share of training sequences that have the noise
    feed: str = how("resident", choices=FEEDS)  # "resident" on the device, or "streamed" from disk
    storage: str = how("mapped", choices=STORAGES)  # of windows that are prepared: memory-mapped, or in "array_record"
    data_dir: str = how("")  # where built data sets are stored; empty is the default of scaling.data
    evaluation_tokens: int = static(2**16, least=0, most=MOST)  # tokens of each evaluation set; 0 is all
    samples: int = static(0, later=True, least=0, most=2**24)  # windows that a model writes to be judged; 0 is none
    sample_length: int = static(0, later=True, least=0, most=2**20)  # tokens of each, after its first; 0 is `length`
    temperature: float = static(1.0, later=True, least=0, most=1e3)  # of samples, by which logits are divided

    unit: ClassVar[str] = "tokens"
    at_once: ClassVar[tuple[int, int]] = (2**10, 2**12)  # units that are evaluated together: at least and at most

    def check(self):
        self.family_fields()
        if self.noise and self.teacher:
            raise ConfigError(f"data.noise={self.noise} is for text, and the tokens of data.name={self.name} are drawn by "
                              "a teacher; write data.noise=0")
        for name, what in (("unique_tokens", "train on"), ("evaluation_tokens", "evaluate on")):
            if 0 < getattr(self, name) < self.length:
                raise ConfigError(f"data.{name}={getattr(self, name)} is less than one sequence of data.length="
                                  f"{self.length} to {what}; write at least {self.length}, or 0 for all")
        _check_noise(self.noise, self.dirty)
        text_samples.check_samples(self)
        super().check()

    @property
    def per_step(self) -> int:
        return self.batch * self.length

    @property
    def teacher(self):
        return token_teacher(self.name)

    def vocabulary(self, source):
        return f"tokens of {self.name}" if self.teacher else f"tokenizer {source.tokenizer.fingerprint}"

    def family_fields(self) -> dict:
        """The family's fields that the data determine, so that no config sets them twice."""
        if teacher := self.teacher:
            if self.tokenizer != "bytes":
                raise ConfigError(f"data.tokenizer={shown(self.tokenizer)} has no text to divide, since data.name="
                                  f"{self.name} gives tokens; leave it out")
            return {"length": self.length, "vocab": teacher.vocab} | teacher.family_fields()
        kind, _, size = self.tokenizer.partition(":")
        trained = kind == "bpe" and size.isdecimal() and SMALLEST_BPE <= int(size[:9]) <= 2**20
        if not (self.tokenizer == "bytes" or trained):
            raise ConfigError(f"data.tokenizer={shown(self.tokenizer)} is not known; write bytes, or bpe:<vocabulary size> "
                              f"with a size from {SMALLEST_BPE} to {2**20}, such as bpe:4096")
        return {"length": self.length, "vocab": int(size) if size else 256}

    def source_fields(self) -> dict:
        """Arguments of `scaling.data.load_text`. Equal arguments give the same source."""
        names = ("name", "tokenizer", "length", "batch", "unique_tokens", "encoding", "field", "storage", "noise", "dirty")
        return {name: getattr(self, name) for name in names} | {"data_dir": self.data_dir or None}

    def load(self):
        """The source."""
        return data.load_text(**self.source_fields())

    judge_fields, judged = text_samples.text_judge_fields, text_samples.judged_metrics

    def judge(self, source):
        return evaluate.TextJudge(source, **self.judge_fields()) if self.samples else None

    def check_judge(self, source):
        evaluate.check_text_judge(source, **self.judge_fields())

    def sampling(self):
        return {"temperature": self.temperature, "length": self.sample_length or self.length}


@dataclasses.dataclass(frozen=True)
class Images(_Data):
    """Images of one size. D is counted in examples."""

    name: str = static("glyphs/letters")  # also glyphs/<other sets>, tfds:<name>, images:<file, folder or glob>, teacher
    batch: int = static(64, least=1, most=2**24)  # images per step
    examples: int = knob(2**16, least=1, most=MOST)  # D: images seen; steps = examples / batch
    unique_examples: int = static(0, least=0, most=2**31 - 1)  # D unique: the first images of the fixed order; 0 is all
    size: int = static(16, least=1, most=4096)  # pixels of a side
    channels: int = static(1, choices=(1, 3))  # 1 is grey, 3 is RGB
    levels: int = static(256, least=2, most=256)  # values of a pixel
    label: str = static("")  # condition on: character, font, ..., a TFDS feature, "label" of a folder; empty is none
    classes: int = static(0, least=0, most=2**24)  # values of the label
    caption: int = static(0, least=0, most=2**16)  # bytes of the caption to condition on; 0 is none
    correlate: str = static("", later=True)  # of glyphs: a class and a style that goes with it, such as weight,size
    agree: float = static(0.5, later=True, least=0, most=1)  # share of images in which they agree; 0.5 is no correlation
    resize: str = static("area", choices=tuple(RESIZES))  # how images of another size are resized
    crop: str = static("center", choices=tuple(CROPS))  # how they are made square first
    flip: bool = static(False)  # augmentation: mirror half of the images
    shift: int = static(0, least=0, most=4096)  # augmentation: move each image by up to this many pixels
    noise: float = static(0.0, later=True, least=0, most=1)  # share of training pixels that random values replace
    dirty: float = static(1.0, later=True, least=0, most=1)  # share of training images that have the noise
    feed: str = how("resident", choices=FEEDS)
    data_dir: str = how("")
    evaluation_examples: int = static(4096, least=1, most=2**31 - 1)  # images of each evaluation set
    samples: int = static(0, least=0, most=2**24)  # generated images from which distances are estimated; 0 is none
    features: str = static("classifier", choices=FEATURES)  # the feature space of the distances, see scaling.evaluate
    weights: str = static("")  # the weights file that some feature spaces need
    critic_steps: int = static(0, least=0, most=2**24)  # training steps of a fresh critic of the samples; 0 is none

    unit: ClassVar[str] = "examples"
    at_once: ClassVar[tuple[int, int]] = (64, 256)

    def check(self):
        if self.label and not self.classes:
            raise ConfigError(f"data.label={self.label!r} needs the number of its values; write data.classes= as well")
        if self.classes and not self.label:
            raise ConfigError(f"data.classes={self.classes} without a label conditions on nothing; write data.label= as "
                              "well, or data.classes=0")
        if self.agree != 0.5 and not self.correlate:
            raise ConfigError(f"data.agree={self.agree} is the share of images in which two factors agree; write "
                              "data.correlate= as well, such as weight,size, or data.agree=0.5")
        if self.shift > self.size:
            raise ConfigError(f"data.shift={self.shift} is more than the {self.size} pixels of data.size; write "
                              "at most that")
        if 0 < self.samples < LEAST_SAMPLES:
            raise ConfigError(f"data.samples={self.samples} are too few to measure a distance; write at least "
                              f"{LEAST_SAMPLES}, or 0 for no distances")
        if self.samples and not self.weights and self.features.partition("/")[0] in ("inception", "dinov2"):
            raise ConfigError(f"data.features={self.features!r} needs a weights file; convert one by `python -m "
                              "tools.convert_weights`, and write its path as data.weights=")
        if self.critic_steps and not self.samples:
            raise ConfigError(f"data.critic_steps={self.critic_steps} need samples to judge; write data.samples= as well")
        _check_noise(self.noise, self.dirty)
        super().check()

    @property
    def per_step(self) -> int:
        return self.batch

    @property
    def teacher(self):
        return image_teacher(self.name)

    def vocabulary(self, source):
        return f"{self.classes} values of label {self.label!r} of {self.name}" if self.label else "characters of captions"

    def family_fields(self) -> dict:
        """The family's fields that the data determine, so that no config sets them twice."""
        return {"image_size": self.size, "channels": self.channels, "levels": self.levels,
                "classes": self.classes if self.label else 0, "caption": self.caption}

    def source_fields(self) -> dict:
        """Arguments of `scaling.data.load_images`. Equal arguments give the same source."""
        names = ("name", "size", "channels", "levels", "batch", "unique_examples", "label", "classes", "caption",
                 "resize", "crop", "flip", "shift", "noise", "dirty", "correlate", "agree")
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

    def check_judge(self, source):
        evaluate.check_judge(source, **self.judge_fields())

    def judged(self):
        return MEASURED + (MEASURED_BY_CRITIC if self.critic_steps else ()) if self.samples else ()


KINDS = {"text": Text, "images": Images}
