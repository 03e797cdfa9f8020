"""Sound as text: recordings as sequences of 8-bit mu-law codes, for models of sequences, in bits per sample.

A token is a sample (van den Oord et al. 2016, arXiv:1609.03499, "WaveNet"), and token 0 ends a recording. So whatever
predicts text from left to right predicts sound.
"""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from scaling.data import speech, tones
from scaling.data.curated import Corpus
from scaling.data.source import TextSource


@dataclasses.dataclass(frozen=True)
class Sound:
    """What the name of data of sound says."""

    name: str
    vocab: int = 256

    def family_fields(self) -> dict:
        return {}

    def recordings(self, data_dir: pathlib.Path, progress: bool = True) -> Corpus:
        """The corpus, whose documents are the codes of recordings as bytes. Raises DataError."""
        if self.name == tones.NAME:
            return tones.tune_recordings(data_dir, progress)
        return speech.speech_recordings(self.name)


def sound_of(name: str) -> Sound | None:
    """The sound called "music/audio" or "speech/<language>"; None for another name."""
    spoken = name.startswith(speech.PREFIX) and len(name) > len(speech.PREFIX)
    return Sound(name) if name == tones.NAME or spoken else None


class SoundSource(TextSource):
    """Windows of length + 1 codes of recordings; made by `scaling.data.load_text`.

    It is a `TextSource` whose targets stand for samples in place of bytes, so that its metric is bits per sample.
    """

    def evaluation(self, split: str, tokens: int = 65536) -> dict[str, np.ndarray]:
        """Those of `TextSource.evaluation`, with "samples", int32 [n, length] of ones, in place of "bytes"."""
        found = super().evaluation(split, tokens)
        return {name: value for name, value in found.items() if name != "bytes"} | {"samples": found["bytes"]}
