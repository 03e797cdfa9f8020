"""`music/audio`: the first seconds of the tunes of `music/abc`, rendered as tones whose factors are known.

The factors of a recording are the notes of its tune, its timbre and its tempo: half of its notes last less than `MEDIAN`
seconds, and half more. A hash of the text chooses the timbre. The notes are of equal temperament at A = 440 Hz.
"""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np

from scaling.data import corpus, tunes
from scaling.data.curated import Corpus
from scaling.data.notation import Note, abc_parser, read_tune
from scaling.data.waves import RATE, encode_wave

NAME = "music/audio"
VERSION = 1      # of the rendering; raise it when a tune sounds different
SECONDS = 4      # of each tune
MEDIAN = 0.2     # seconds of a note
LOUDNESS = 0.5   # of the loudest sample of a single note at its beginning
ATTACK, RELEASE, DECAY = 0.005, 0.01, 0.4  # seconds: to full loudness, to silence at the end, and to 1/e between
TIMBRES = {  # the loudness of the fundamental and its overtones
    "flute": (1.0, 0.2), "clarinet": (1.0, 0.0, 0.6, 0.0, 0.3), "string": (1.0, 0.7, 0.5, 0.35, 0.25, 0.2)}


def frequency(pitch: float) -> float:
    """The frequency of a MIDI number in Hz: 440 of 69."""
    return 440.0 * 2 ** ((pitch - 69) / 12)


def render_note(pitches: Sequence[int], seconds: float, timbre: str = "flute") -> np.ndarray:
    """A tone, or several at once, float64 [seconds * RATE] in [-1, 1]; silence without a pitch. Overtones above half the
    rate, which samples cannot hold, are left out."""
    time = np.arange(round(seconds * RATE)) / RATE
    out = np.zeros_like(time)
    for pitch in pitches:
        base = frequency(pitch)
        parts = [(k * base, loud) for k, loud in enumerate(TIMBRES[timbre], 1) if k * base < RATE / 2]
        out += sum(loud * np.sin(2 * np.pi * f * time) for f, loud in parts) / sum(TIMBRES[timbre])
    shape = np.minimum(np.minimum(time / ATTACK, (seconds - time) / RELEASE), 1) * np.exp(-time / DECAY)
    return LOUDNESS * out * shape / max(1, len(pitches))


def timbre_of(text: str) -> str:
    """The timbre of a tune, by a hash of its text."""
    return list(TIMBRES)[hashlib.sha256(text.encode()).digest()[0] % len(TIMBRES)]


def render_tune(notes: Sequence[Note], timbre: str, most: float = SECONDS) -> np.ndarray:
    """The first `most` seconds of a tune, float64 [samples] in [-1, 1]."""
    lengths = [float(note.quarters) for note in notes if note.pitches]
    tempo, parts, left = MEDIAN / float(np.median(lengths)), [], most
    for note in notes:
        if left <= 0:
            break
        seconds = min(float(note.quarters) * tempo, left)
        parts.append(render_note(note.pitches, seconds, timbre))
        left -= seconds
    return np.concatenate(parts)


def sing(text: str, most: float = SECONDS) -> np.ndarray | None:
    """A text in ABC notation as a wave of `render_tune`; None where it is no tune."""
    tune = read_tune(text)
    return None if tune is None else render_tune(tune.notes, timbre_of(text), most)


class Rendered(Sequence):
    """The recordings of tunes, as codes: each is rendered when it is asked for. What is no tune is an empty recording."""

    def __init__(self, texts: Sequence[str]):
        self._texts = texts

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, index):
        return self.__getitems__([index])[0]

    def __getitems__(self, indices) -> list[bytes]:
        read = getattr(self._texts, "__getitems__", lambda places: [self._texts[i] for i in places])
        waves = [sing(text) for text in read(indices)]
        return [b"" if wave is None else encode_wave(wave).tobytes() for wave in waves]


def tune_recordings(data_dir: pathlib.Path, progress: bool = True) -> Corpus:
    """The corpus of recordings, split as `music/abc`. Raises DataError where music21 is not installed."""
    abc_parser()
    found = corpus.find_corpus(tunes.NAME, data_dir, progress)
    fingerprint = hashlib.sha256(f"tones {VERSION} {SECONDS} {RATE} {found.fingerprint}".encode()).hexdigest()[:16]
    counts = {name: {**found.contents[name], "bytes": 0} for name in ("training",)}
    evaluation = {name: {**part, "bytes": 0} for name, part in found.contents["evaluation"].items()}
    notes = [*found.contents["notes"], f"the first {SECONDS} seconds of each tune are rendered, with one of the timbres "
             f"{', '.join(TIMBRES)}, at {RATE:,} samples a second"]
    contents = {**found.contents, **counts, "evaluation": evaluation, "notes": notes, "bytes": 0, "things": "recordings"}
    return Corpus(NAME, fingerprint, found.splits, lambda split: Rendered(found.documents(split)), contents)
