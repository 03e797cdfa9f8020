"""Images of one size."""

import dataclasses
from typing import Any, ClassVar

from scaling import data, evaluate
from scaling.data.known.names import image_teacher
from scaling.data.transforms import CROPS, RESIZES
from scaling.evaluate.features import FEATURES
from scaling.evaluate.judge import MEASURED, MEASURED_BY_CRITIC, MEASURED_OF_CONDITIONS
from scaling.experiment.kinds._kind import FEEDS, MOST, DataKind, check_noise
from scaling.fields import ConfigError, how, knob, static

LEAST_SAMPLES = 16  # a judge needs so many images


@dataclasses.dataclass(frozen=True)
class Images(DataKind):
    """Images of one size. D is counted in examples."""

    name: str = static("glyphs/letters")  # also fashion_mnist, digits, tfds:<name>, images:<files>, teacher
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
    feed: str = how("resident", choices=FEEDS)  # "resident" on the device, or "streamed" from disk
    data_dir: str = how("")  # where built data sets are stored; empty is the default of scaling.data
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
        check_noise(self.noise, self.dirty)
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

    def check_judge(self, source):
        evaluate.check_judge(source, **self.judge_fields())

    def judged(self):
        if not self.samples:
            return ()
        told = MEASURED_OF_CONDITIONS if self.caption and self.features in ("classifier", "labels") else ()
        return MEASURED + told + (MEASURED_BY_CRITIC if self.critic_steps else ())

    def judge(self, source) -> Any:
        return evaluate.Judge(source, **self.judge_fields()) if self.judge_fields() else None
