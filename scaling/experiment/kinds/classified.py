"""Images with a label, which is to be told from the image."""

import dataclasses

from scaling.experiment.kinds.images import Images
from scaling.fields import ConfigError, static


@dataclasses.dataclass(frozen=True)
class Classified(Images):
    """Images with one of a number of classes. D is counted in examples, and `unique_examples` is the number of labels.

    The fields are those of images. Here `label` is the one to be told and not a condition, and `noise` replaces labels
    unless `noises` says otherwise. Evaluations leave out a split of values of the label that training never shows: a class
    that is held out cannot be told.
    """

    label: str = static("character")  # to be told: character, font, slant, ..., a TFDS feature, "label" of other sets
    classes: int = static(52, least=2, most=2**20)  # values of the label
    noises: str = static("label", choices=("label", "pixels"))  # what noise replaces in training images

    def check(self):
        if not self.label:
            raise ConfigError("data.label='' leaves nothing to tell; write the label of the images, such as data.label="
                              "character of glyphs, or data.label=label of digits and fashion_mnist")
        super().check()

    def vocabulary(self, source):
        return f"{self.classes} values of label {self.label!r} of {self.name}"

    def family_fields(self) -> dict:
        """The family's fields that the data determine, so that no config sets them twice."""
        return {name: getattr(self, name) for name in ("channels", "levels", "classes")} | {"image_size": self.size}

    def source_fields(self) -> dict:
        """Arguments of `scaling.data.load_images`. Equal arguments give the same source."""
        return super().source_fields() | {"noises": self.noises}

    def load(self):
        """The source, without the split that holds out values of the label."""
        source = super().load()
        source.splits = tuple(split for split in source.splits if split != self.label)
        return source
