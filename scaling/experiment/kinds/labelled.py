"""Texts with a label, which is to be told from the text."""

import dataclasses

from scaling import data
from scaling.experiment.kinds._kind import FEEDS, MOST, check_noise
from scaling.experiment.kinds._sequences import Sequences
from scaling.fields import how, knob, static


@dataclasses.dataclass(frozen=True)
class Labelled(Sequences):
    """Texts with one of a number of classes. D is counted in examples."""

    name: str = static("packages")  # also tfds:<name>, labelled:<files>, own:<module>.<function>
    fields: str = how("text,label")  # of JSON lines and Parquet files: the fields with the text and the label
    tokenizer: str = static("bytes")  # or bpe:<vocabulary size>
    length: int = static(128, least=2, most=2**20)  # tokens of a text; longer ones are cut
    classes: int = static(16, least=2, most=2**20)  # values of the label
    batch: int = static(16, least=1, most=2**24)  # examples per step
    examples: int = knob(2**14, least=1, most=MOST)  # D: examples seen; steps = examples / batch
    unique_examples: int = static(0, least=0, most=2**31 - 1)  # D unique, which is the number of labels; 0 is all
    noise: float = static(0.0, later=True, least=0, most=1)  # share of training labels that random ones replace
    dirty: float = static(1.0, later=True, least=0, most=1)  # share of training examples whose labels have the noise
    feed: str = how("resident", choices=FEEDS)  # "resident" on the device, or "streamed" from disk
    data_dir: str = how("")  # where built data sets are stored; empty is the default of scaling.data
    evaluation_examples: int = static(1024, least=0, most=2**31 - 1)  # examples of each evaluation set; 0 is all

    def check(self):
        check_noise(self.noise, self.dirty)
        super().check()

    def family_fields(self) -> dict:
        """The family's fields that the data determine, so that no config sets them twice."""
        return {"vocab": self.vocab, "length": self.length, "classes": self.classes}

    def source_fields(self) -> dict:
        """Arguments of `scaling.data.load_labelled`. Equal arguments give the same source."""
        names = ("name", "fields", "tokenizer", "length", "classes", "batch", "unique_examples", "noise", "dirty")
        return {name: getattr(self, name) for name in names} | {"data_dir": self.data_dir or None}

    def _load(self):
        return data.load_labelled(**self.source_fields())
