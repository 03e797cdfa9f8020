"""Pairs of texts, of which the second is to be written given the first: translations, descriptions, exact rewriting."""

import dataclasses
from typing import Any

from scaling import data, evaluate
from scaling.evaluate.pairs import MEASURED_IN_PAIRS
from scaling.experiment.kinds._kind import FEEDS, MOST, check_noise
from scaling.experiment.kinds._sequences import Sequences
from scaling.fields import ConfigError, how, knob, static

NOISES = ("tokens", "target")


@dataclasses.dataclass(frozen=True)
class Pairs(Sequences):
    """Pairs of a source text and a target text. D is counted in examples, which are pairs."""

    name: str = static("postfix")  # also docstrings, lohelp/en-de, tfds:<name>, pairs:<files>, own:<module>.<function>
    fields: str = how("source,target")  # of JSON lines and Parquet files of pairs: the fields with the two texts
    tokenizer: str = static("bytes")  # or bpe:<vocabulary size>, of both texts
    source_length: int = static(64, least=2, most=2**20)  # tokens of a source, its end included; longer ones are left out
    length: int = static(64, least=2, most=2**20)  # tokens of a target, its end included; longer ones are left out
    batch: int = static(16, least=1, most=2**24)  # pairs per step
    examples: int = knob(2**16, least=1, most=MOST)  # D: pairs seen; steps = examples / batch
    unique_examples: int = static(0, least=0, most=2**31 - 1)  # D unique: the first pairs of the fixed order; 0 is all
    noise: float = static(0.0, least=0, most=1)  # share of the training targets, or of their tokens, that are wrong
    dirty: float = static(1.0, least=0, most=1)  # share of training pairs whose tokens have the noise
    noises: str = static("tokens", choices=NOISES)  # random tokens, or the target of another pair
    feed: str = how("resident", choices=FEEDS)  # "resident" on the device, or "streamed" from disk
    data_dir: str = how("")  # where built data sets are stored; empty is the default of scaling.data
    evaluation_examples: int = static(1024, least=0, most=2**31 - 1)  # pairs of each evaluation set; 0 is all
    samples: int = static(0, least=0, most=2**24)  # targets that are written and scored by BLEU and chrF; 0 is none

    def check(self):
        check_noise(self.noise, self.dirty)
        if self.noises == "target" and self.dirty < 1:
            raise ConfigError(f"data.dirty={self.dirty} is for noise in tokens; write data.noise as the share of targets "
                              "that are of another pair, and data.dirty=1")
        most = self.evaluation_examples
        if self.samples == 1 or 0 < most < self.samples:
            raise ConfigError(f"data.samples={self.samples} are compared with as many of data.evaluation_examples={most}; "
                              f"write a number from 2 {f'to {most}' if most else 'on'}, or 0 for none")
        super().check()

    def family_fields(self) -> dict:
        """The family's fields that the data determine, so that no config sets them twice."""
        return {"vocab": self.vocab, "source_length": self.source_length, "length": self.length}

    def source_fields(self) -> dict:
        """Arguments of `scaling.data.load_pairs`. Equal arguments give the same source."""
        names = ("name", "fields", "tokenizer", "source_length", "length", "batch", "unique_examples", "noise", "dirty",
                 "noises")
        return {name: getattr(self, name) for name in names} | {"data_dir": self.data_dir or None}

    def _load(self):
        return data.load_pairs(**self.source_fields())

    def judge_fields(self) -> dict:
        return {"samples": self.samples} if self.samples else {}

    def judged(self):
        return MEASURED_IN_PAIRS if self.samples else ()

    def check_judge(self, source):
        self.judge(source)

    def judge(self, source) -> Any:
        return evaluate.PairsJudge(source, self.samples) if self.samples else None
