"""Runs that tell labels, as tools: how probable labels are for any text or image, in windows of what the run can read.

    told = ClassifierRun(scaling.restore("runs/labels"))
    told.probabilities_of_texts(["def f(x): ..."])     # float32 [1, classes]
    told.score_texts(texts, told.numbers(["rude"]))    # the probability of the labels, in the worst window of each text
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np

from scaling import families
from scaling.study.prompts import PromptError
from scaling.study.restored import RestoredRun, RestoreError


def tells_classes(family) -> bool:
    """Whether a run of this family tells labels."""
    return hasattr(family, "class_logits") and family.classes > 0


@dataclasses.dataclass(frozen=True, eq=False)
class ClassifierRun:
    """A finished run of a family that tells labels of texts (`masked`) or of images (`classifier`).

    Raises RestoreError for a run that tells none.
    """

    run: RestoredRun

    def __post_init__(self):
        if not tells_classes(self.run.family):
            able = ", ".join(families.name(each) for each in families.all() if hasattr(each, "class_logits"))
            raise RestoreError(f"{self.run} tells no labels; name a run of one of the families {able} on data with labels")

    @functools.cached_property
    def reads(self) -> str:
        """"text" or "image": what labels are told of."""
        batch = jax.eval_shape(lambda: self.run.family.example_batch(1, jax.random.key(0)))
        return "text" if "text" in batch else "image"

    @property
    def classes(self) -> int:
        return self.run.family.classes

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the labels 0, 1, ..., for which the data are loaded."""
        source = self.run.source
        return tuple(source.labels if self.reads == "text" else source.classes(self.run.experiment.data.label))

    def numbers(self, labels: Sequence[str | int]) -> list[int]:
        """The numbers of labels, given as names or as numbers. Only names need the data. RestoreError for unknown ones."""
        found = []
        for label in labels:
            number = int(label) if str(label).isdecimal() else -1
            if not 0 <= number < self.classes:
                names = self.names
                if label not in names:
                    raise RestoreError(f"no label of {self.run} is called {label!r}; it has {', '.join(names[:20])}"
                                       f"{', ...' if len(names) > 20 else ''}, or numbers from 0 to {self.classes - 1}")
                number = names.index(str(label))
            found.append(number)
        return found

    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """(texts, int32 [n, length], or images, uint8 [n, H, W, C]; their labels, int32 [n]): the first evaluation set."""
        source, data = self.run.source, self.run.experiment.data
        found = source.evaluation(source.splits[0], data.evaluated)
        return np.asarray(found[self.reads]), np.asarray(found["label"])

    # ---- probabilities

    @functools.cached_property
    def _told(self):
        family = self.run.family
        return jax.jit(lambda params, batch: jax.nn.softmax(family.class_logits(params, batch)))

    def probabilities(self, examples) -> np.ndarray:
        """float32 [n, classes] of what the run reads: texts, int32 [n, length], or images, uint8 [n, H, W, C]."""
        examples, found = np.asarray(examples), []
        most = max(1, self.run.experiment.data.at_once[1] // self.run.experiment.data.per_example)
        for at in range(0, len(examples), most):
            some = examples[at:at + most]
            rows = min(most, 1 << (len(some) - 1).bit_length())  # few programs for any number of examples
            filled = np.concatenate([some, np.zeros((rows - len(some), *some.shape[1:]), some.dtype)])
            found.append(np.asarray(self._told(self.run.params, {self.reads: filled}))[:len(some)])
        return np.concatenate([np.zeros((0, self.classes), np.float32), *found])

    def probabilities_of_texts(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [n, classes] of texts, of which the run reads the beginning, as in training."""
        return self.probabilities(np.stack([self._windows(text)[0] for text in texts]))

    def score_texts(self, texts: Sequence[str], labels: Sequence[int]) -> np.ndarray:
        """The probability that a text has one of some labels, float32 [n]: that of its worst window.

        The run reads `length` - 1 tokens. Longer texts are read in windows of so many, each of which overlaps the one
        before by half, so that what is to be found is not missed in the middle or at the end.
        """
        windows = [self._windows(text) for text in texts]
        told = self.probabilities(np.concatenate(windows))[:, list(labels)].sum(1)
        return np.maximum.reduceat(told, np.cumsum([0, *map(len, windows[:-1])])).astype(np.float32)

    def _windows(self, text: str) -> np.ndarray:
        """The windows of a text, int32 [n, length], n at least 1: tokens, the 0 that ends a text, and zeros."""
        length = self.run.family.length
        try:
            tokens = self.run.tokenizer.encode(text.replace("\0", ""))
        except UnicodeEncodeError as error:
            raise PromptError(f"the text {text[:40]!r} is not valid Unicode: {error.reason}") from None
        room = length - 1
        last = max(0, len(tokens) - room)
        starts = [*range(0, last, max(1, room // 2)), last]
        found = np.zeros((len(starts), length), np.int32)
        for row, start in zip(found, starts, strict=True):
            part = tokens[start:start + room]
            row[:len(part)] = part
        return found

    def score_images(self, images, labels: Sequence[int], levels: int) -> np.ndarray:
        """The probability that an image has one of some labels, float32 [n], of uint8 images [n, H, W, C] with `levels`
        values. Raises RestoreError for images of another size than the run reads."""
        images, own = np.asarray(images), self.run.family.levels
        self.check_size(images.shape[1], images.shape[3])
        values = images if levels == own else np.round(images * ((own - 1) / (levels - 1)))
        return self.probabilities(values.astype(np.uint8))[:, list(labels)].sum(1)

    def check_size(self, size: int, channels: int) -> None:
        """Raises RestoreError unless the run reads images of so many pixels a side and so many channels."""
        wanted = self.run.family.image_size, self.run.family.channels
        if (size, channels) != wanted:
            raise RestoreError(f"{self.run} tells labels of images of {wanted[0]} pixels a side and {wanted[1]} channels, "
                               f"and these have {size} and {channels}: name a run on images of their size")
