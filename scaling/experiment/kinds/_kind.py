"""What all kinds of data share: D, steps, and what a source of the kind gives."""

import re
from typing import Any, ClassVar

from scaling.data.tokenizers import SMALLEST_BPE, STORED
from scaling.fields import ConfigError, convert_fields, shown

FEEDS = ("resident", "streamed")
MOST = 2**50  # units of data that are counted
_STORED = re.compile(rf"{STORED}bpe(\d{{1,8}})-[0-9a-f]{{12}}")  # the name of a tokenizer that was imported


class DataKind:
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

    @property
    def numbers(self) -> Any:
        """What gives tokens that stand for no text, or None."""
        return self.teacher

    def judge_fields(self) -> dict:
        """Arguments of the judge beside its source, or {} for no judge. Equal arguments give the same judge."""
        return {}

    def judge(self, source) -> Any:
        """The judge that scores samples of a trained model, or None."""
        return None

    def check_judge(self, source) -> None:
        """Raises what `judge` would for this source, at little cost. It is called where there are `judge_fields`."""

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


def count_tokens(tokenizer: str) -> int:
    """The vocabulary of the tokenizer of this name, before it is trained. Raises a ConfigError for another name."""
    if stored := _STORED.fullmatch(tokenizer):
        return int(stored[1])
    kind, _, size = tokenizer.partition(":")
    trained = kind == "bpe" and size.isdecimal() and SMALLEST_BPE <= int(size[:9]) <= 2**20
    if not (tokenizer == "bytes" or trained):
        raise ConfigError(f"data.tokenizer={shown(tokenizer)} is not known; write bytes, bpe:<vocabulary size> "
                          f"with a size from {SMALLEST_BPE} to {2**20}, such as bpe:4096, or that of an imported run")
    return int(size) if size else 256


def check_noise(noise: float, dirty: float) -> None:
    if dirty < 1 and not noise:
        raise ConfigError(f"data.dirty={dirty} changes nothing without noise; write data.noise= as well, or data.dirty=1")
