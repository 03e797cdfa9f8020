"""Text as windows of tokens."""

import dataclasses
from typing import ClassVar

from scaling import data
from scaling.data.blocks import STORAGES
from scaling.data.known.names import token_teacher
from scaling.data.tokenizers import SMALLEST_BPE
from scaling.experiment.kinds._kind import FEEDS, MOST, DataKind, check_noise
from scaling.fields import ConfigError, how, knob, shown, static


@dataclasses.dataclass(frozen=True)
class Text(DataKind):
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
        check_noise(self.noise, self.dirty)
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
