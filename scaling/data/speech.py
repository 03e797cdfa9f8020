"""`speech/<language>`: numbers that the program `espeak-ng` speaks, in voices, pitches and speeds that are known.

Recording i is a pure function of the language, the version of espeak-ng and i: a number of up to five digits, which the
program reads in words, one of the VOICES, and its pitch and speed. The split `iid` has other recordings in the same voices,
and `voice` has other voices.
"""

from __future__ import annotations

import functools
import hashlib
import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scaling.data import contents
from scaling.data.curated import Corpus
from scaling.data.waves import RATE, encode_wave, read_wav
from scaling.fields import DataError, nearest

PREFIX = "speech/"
VERSION = 1           # of the factors below; raise it when a recording says something else
PROGRAM = "espeak-ng"
VOICES = ("m1", "m3", "m7", "f1", "f2", "f4")
OTHERS = ("m4", "f5")  # voices of the split `voice`
COUNTS = {"train": 2000, "iid": 200, "voice": 200}  # recordings
PITCHES, SPEEDS = (20, 80), (140, 220)  # in the program's units (50 is usual), and in words a minute


class Said(NamedTuple):
    """The factors of a recording."""

    number: int
    voice: str
    pitch: int
    speed: int


def said_in(split: str, index: int) -> Said:
    """The factors of recording `index` of a split."""
    rng = np.random.default_rng([VERSION, list(COUNTS).index(split), index])
    number = int(rng.integers(10 ** rng.integers(1, 6)))
    voice = str(rng.choice(OTHERS if split == "voice" else VOICES))
    return Said(number, voice, int(rng.integers(*PITCHES)), int(rng.integers(*SPEEDS)))


def speak(text: str, language: str, voice: str, pitch: int = 50, speed: int = 175) -> np.ndarray:
    """What espeak-ng says, float [samples] at RATE in [-1, 1]. Raises DataError."""
    from scipy.signal import resample_poly
    done = _espeak(["-v", f"{language}+{voice}", "-p", str(pitch), "-s", str(speed), "-z", "--stdout", text])
    try:
        found, rate = read_wav(done)
    except ValueError as error:
        raise DataError(f"{PROGRAM} said nothing in {language}+{voice}: {error}") from None
    return resample_poly(found, RATE, rate) if rate != RATE else found


def _espeak(arguments: list[str]) -> bytes:
    if shutil.which(PROGRAM) is None:
        raise DataError(f"data.name={PREFIX}... is spoken by the program {PROGRAM}, which is not installed; write "
                        f"`apt-get install {PROGRAM}` (other systems: https://github.com/espeak-ng/espeak-ng)")
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, check=False)
    if done.returncode:
        raise DataError(f"{PROGRAM} failed: {done.stderr.decode(errors='replace').strip()[:300]}")
    return done.stdout


@functools.cache
def check_language(language: str) -> None:
    """Raises DataError for a language that the installed program does not speak, and without the program."""
    lines = _espeak(["--voices"]).decode(errors="replace").splitlines()[1:]
    known = sorted({line.split()[1] for line in lines if len(line.split()) > 1} | {"en"})  # it takes "en" for "en-gb"
    try:
        _espeak(["-v", language, "-q", "1"])
    except DataError:
        raise DataError(f"data.name={PREFIX}{language} is no language of {PROGRAM}; {nearest(language, known)}") from None


class Spoken(Sequence):
    """The recordings of a split, as codes: each is spoken when it is asked for."""

    def __init__(self, language: str, split: str):
        self._language, self._split = language, split

    def __len__(self) -> int:
        return COUNTS[self._split]

    def __getitem__(self, index):
        said = said_in(self._split, int(index))
        return encode_wave(speak(str(said.number), self._language, said.voice, said.pitch, said.speed)).tobytes()


def speech_recordings(name: str) -> Corpus:
    """The corpus called "speech/<language>". Raises DataError for a language that is not spoken, or without the program."""
    language = name.removeprefix(PREFIX)
    check_language(language)
    version = re.sub(r"\s*Data at:.*", "", _espeak(["--version"]).decode(errors="replace")).strip()
    described = f"speech {VERSION} {RATE} {language} {version} {VOICES} {OTHERS} {COUNTS}"
    sizes = {split: {"documents": count, "bytes": 0} for split, count in COUNTS.items()}
    found = contents.totals(sizes.pop("train"), sizes, {}, [
        f"numbers of up to five digits, spoken in {len(VOICES)} voices by {version}, at {RATE:,} samples a second"],
        things="recordings")
    return Corpus(name, hashlib.sha256(described.encode()).hexdigest()[:16], tuple(sizes),
                  lambda split: Spoken(language, split), found)
