"""Sound that runs make: recordings of a run that predicts sound, tunes that a run wrote, and held-out recordings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scaling.data import tones
from scaling.data.waves import RATE, decode_wave
from scaling.families import _generate
from scaling.store.prepared import data_directory
from scaling.study.prompts import END, room_after
from scaling.study.restored import RestoredRun, RestoreError

GAP = 0.25  # seconds of silence between recordings in one file


def draw_recordings(run: RestoredRun, count: int, samples: int = 2 * RATE, seed: int = 0,
                    temperature: float = 1.0) -> list[np.ndarray]:
    """`count` recordings by a run on sound, each float32 [at most `samples`] in [-1, 1], at RATE.

    A recording ends where the run ends it. Recording i depends on the seed and on i alone. Raises RestoreError for a run on
    other data, and where learned positions end before `samples`.
    """
    if not getattr(run.experiment.data, "sound", None):
        raise RestoreError(f"run {run.fingerprint} was trained on {run.experiment.data.name}, which is no sound")
    begin = np.array([END], np.int32)
    try:
        found = _generate.generate(run.family, run.params, [begin] * count, max_tokens=samples, temperature=temperature,
                                   stop=(END,), seed=seed)
    except ValueError as error:
        raise RestoreError(str(error)) from None
    return [decode_wave(codes) for codes in found]


def room_for(run: RestoredRun, samples: int) -> int:
    """`samples`, or as many as a run can write after the end of the recording before: learned positions have an end."""
    left = room_after(np.array([END], np.int32), run.family)
    return samples if left is None else min(samples, left)


def held_out_recordings(run: RestoredRun, count: int, samples: int = 2 * RATE) -> list[np.ndarray]:
    """The first `samples` of `count` recordings of the first evaluation split, each float32 [n] in [-1, 1]."""
    data = run.experiment.data
    corpus = data.sound.recordings(data_directory(data.data_dir or None), progress=False)
    documents = corpus.documents(corpus.splits[0])
    codes = [np.frombuffer(documents[index], np.uint8) for index in range(min(count, len(documents)))]
    return [decode_wave(each[:samples]) for each in codes]


def sung(text: str, seconds: float) -> np.ndarray | None:
    """The first tune of a text in ABC notation as tones, float64 [n] in [-1, 1]; None where it is no tune."""
    return tones.sing(text.split("\0")[0], seconds)


def joined(waves: Sequence[np.ndarray]) -> np.ndarray:
    """Recordings after each other, with silence between them: float32 [n]."""
    silence = np.zeros(round(GAP * RATE), np.float32)
    parts = [part for wave in waves for part in (wave, silence)][:-1]
    return np.concatenate(parts).astype(np.float32) if parts else silence
