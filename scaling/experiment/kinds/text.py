"""Text as windows of tokens."""

import dataclasses
from typing import ClassVar

from scaling import data, evaluate
from scaling.data import tunes
from scaling.data.blocks import STORAGES
from scaling.data.known.names import token_teacher
from scaling.data.pixels import pixels_of, side_of
from scaling.data.sound import sound_of
from scaling.evaluate.text_judge import FEWEST, MEASURED_CODE, MEASURED_TEXT, MEASURED_TUNES
from scaling.experiment.kinds._kind import FEEDS, MOST, DataKind, check_noise, count_tokens
from scaling.fields import ConfigError, how, knob, shown, static


@dataclasses.dataclass(frozen=True)
class Text(DataKind):
    """Text as windows of tokens. D is counted in tokens."""

    # also pycode/environment, music/abc, music/audio, speech/<language>, tfds:<name>, text:<files>, pixels:<images>, or a
    # teacher: zipf, hmm, grammar, repeats
    name: str = static("pycode/stdlib")
    encoding: str = how("")  # of text: files, such as latin-1; empty detects it. How, because the text itself names the run
    field: str = how("")  # of JSON lines and Parquet: the field with the text; empty for plain text
    tokenizer: str = static("bytes")  # or bpe:<vocabulary size>, or stored:<name>, that of an imported run
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
        if pixels_of(self.name):
            side_of(self.length)
        if self.noise and self.numbers:
            raise ConfigError(f"data.noise={self.noise} is for text, and data.name={self.name} has none; write "
                              "data.noise=0")
        for name, what in (("unique_tokens", "train on"), ("evaluation_tokens", "evaluate on")):
            if 0 < getattr(self, name) < self.length:
                raise ConfigError(f"data.{name}={getattr(self, name)} is less than one sequence of data.length="
                                  f"{self.length} to {what}; write at least {self.length}, or 0 for all")
        check_noise(self.noise, self.dirty)
        self._check_samples()
        super().check()

    def _check_samples(self):
        if 0 < self.samples < FEWEST:
            raise ConfigError(f"data.samples={self.samples} are too few to judge; write at least {FEWEST}, or 0 for none")
        if self.samples and self.numbers:
            raise ConfigError(f"data.samples={self.samples} are judged as text, and data.name={self.name} gives tokens "
                              "without text; write data.samples=0")
        if self.sample_length > self.length:
            raise ConfigError(f"data.sample_length={self.sample_length} is longer than the held-out windows, which have "
                              f"data.length={self.length}; write at most that, or 0")
        for name, default in (("sample_length", 0), ("temperature", 1.0)):
            if not self.samples and getattr(self, name) != default:
                raise ConfigError(f"data.{name}={getattr(self, name)} changes nothing without samples; write "
                                  f"data.samples= as well, or data.{name}={default}")

    @property
    def per_step(self) -> int:
        return self.batch * self.length

    @property
    def teacher(self):
        return token_teacher(self.name)

    @property
    def sound(self):
        """What the name says of sound; None for other data."""
        return sound_of(self.name)

    @property
    def abc(self) -> bool:
        """Whether the texts are tunes in ABC notation."""
        return self.name == tunes.NAME or self.name.endswith(".abc")

    @property
    def numbers(self):
        """What gives tokens that stand for no text: a teacher, pixels, or sound; None for text."""
        return self.teacher or pixels_of(self.name) or self.sound

    def vocabulary(self, source):
        return f"tokens of {self.name}" if self.numbers else f"tokenizer {source.tokenizer.fingerprint}"

    def family_fields(self) -> dict:
        """The family's fields that the data determine, so that no config sets them twice."""
        if numbers := self.numbers:
            if self.tokenizer != "bytes":
                raise ConfigError(f"data.tokenizer={shown(self.tokenizer)} has no text to divide, since data.name="
                                  f"{self.name} gives tokens; leave it out")
            return {"length": self.length, "vocab": numbers.vocab} | numbers.family_fields()
        return {"length": self.length, "vocab": count_tokens(self.tokenizer)}

    def source_fields(self) -> dict:
        """Arguments of `scaling.data.load_text`. Equal arguments give the same source."""
        names = ("name", "tokenizer", "length", "batch", "unique_tokens", "encoding", "field", "storage", "noise", "dirty")
        return {name: getattr(self, name) for name in names} | {"data_dir": self.data_dir or None}

    def load(self):
        """The source."""
        return data.load_text(**self.source_fields())

    def judge_fields(self):
        if not self.samples:
            return {}
        code = self.name.partition("/")[0] == "pycode" or self.name.endswith(".py")
        fields = {"samples": self.samples, "length": self.sample_length or self.length, "code": code}
        return fields | ({"abc": True} if self.abc else {})

    def judge(self, source):
        return evaluate.TextJudge(source, **self.judge_fields()) if self.samples else None

    def check_judge(self, source):
        evaluate.check_text_judge(source, **self.judge_fields())

    def judged(self):
        fields = self.judge_fields()
        if not fields:
            return ()
        return MEASURED_TEXT + (MEASURED_CODE if fields["code"] else ()) + (MEASURED_TUNES if "abc" in fields else ())

    def sampling(self):
        return {"temperature": self.temperature, "length": self.sample_length or self.length}
