"""Sound that runs make: recordings of a run that predicts sound, tunes that a run wrote, and held-out recordings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scaling.data import tones
from scaling.data.waves import RATE, SILENCE, decode_wave
from scaling.families import _generate
from scaling.store.prepared import data_directory
from scaling.study.prompts import END
from scaling.study.restored import RestoredRun, RestoreError

GAP = 0.25  # seconds of silence between recordings in one file
PIECES = 2**16  # more than a recording has, so that no two share their noise


def draw_recordings(run: RestoredRun, count: int, samples: int = 2 * RATE, seed: int = 0,
                    temperature: float = 1.0) -> list[np.ndarray]:
    """`count` recordings by a run on sound, each float32 [at most `samples`] in [-1, 1], at RATE.

    A run sees no more than a window of its training: half a window is drawn after the half before it. So a second costs as
    much at the end of a recording as at its beginning, and learned positions never end. A recording ends where the run ends
    it. Recording i depends on the seed and on i alone. Raises RestoreError for a run on other data.
    """
    if not getattr(run.experiment.data, "sound", None):
        raise RestoreError(f"run {run.fingerprint} was trained on {run.experiment.data.name}, which is no sound")
    half = max(1, run.experiment.data.length // 2)
    codes, lengths = np.full((count, 1), END, np.int32), np.full(count, samples)
    for number, start in enumerate(range(0, samples, half)):
        drawn = _generate.generate(run.family, run.params, list(codes[:, -half:]), max_tokens=half, stop=(END,),
                                   temperature=temperature, seed=(seed * PIECES + number) % 2**31)
        ends = np.array([start + len(row) if len(row) < half else samples for row in drawn])
        lengths = np.minimum(lengths, ends)
        # One that has ended is silent from there on, and what would follow is dropped.
        rows = [np.pad(row, (0, half - len(row)), constant_values=SILENCE) for row in drawn]
        codes = np.concatenate([codes, np.stack(rows)], 1)
        if (lengths <= start + half).all():
            break
    return [decode_wave(row[1:1 + length]) for row, length in zip(codes, lengths)]


def held_out_recordings(run: RestoredRun, count: int, samples: int = 2 * RATE) -> list[np.ndarray]:
    """The first `samples` of `count` recordings of the first evaluation split, each float32 [n] in [-1, 1]."""
    data = run.experiment.data
    corpus = data.sound.recordings(data_directory(data.data_dir or None), progress=False)
    documents = corpus.documents(corpus.splits[0])
    codes = [np.frombuffer(documents[index], np.uint8) for index in range(min(count, len(documents)))]
    return [decode_wave(each[:samples]) for each in codes]


def first_tune(text: str) -> str:
    """What a text says before its first end of a document."""
    return text.split("\0")[0]


def sung(text: str, seconds: float) -> np.ndarray | None:
    """The first tune of a text in ABC notation as tones, float64 [n] in [-1, 1]; None where it is no tune."""
    return tones.sing(first_tune(text), seconds)


def joined(waves: Sequence[np.ndarray]) -> np.ndarray:
    """Recordings after each other, with silence between them: float32 [n]."""
    silence = np.zeros(round(GAP * RATE), np.float32)
    parts = [part for wave in waves for part in (wave, silence)][:-1]
    return np.concatenate(parts).astype(np.float32) if parts else silence
