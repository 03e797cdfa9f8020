"""Waves as 8-bit mu-law codes, the tokens of sound, and as WAV files.

A sample x in [-1, 1] is companded to y = sign(x) ln(1 + 255 |x|) / ln 256, the curve that ITU-T G.711 approaches by pieces
(van den Oord et al. 2016, arXiv:1609.03499, section 2.2), and y is rounded to one of the 255 levels -127/127, ..., 127/127.
The token is 128 + 127 y. So 128 is silence, and 0, which no level has, ends a recording as it ends a text.
"""

from __future__ import annotations

import functools
import io
import wave
from collections.abc import Sequence

import numpy as np

from scaling.data.known.numbers import Numbers

RATE = 8000  # samples a second
MU = 255.0
SILENCE, LEVELS = 128, 127  # the code of 0, and the levels on either side of it


def compand(wave_: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] as y in [-1, 1], float64; what is louder is cut."""
    wave_ = np.clip(np.asarray(wave_, np.float64), -1, 1)
    return np.sign(wave_) * np.log1p(MU * np.abs(wave_)) / np.log1p(MU)


def encode_wave(wave_: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] as codes 1 to 255, uint8 of the same shape."""
    return (SILENCE + np.rint(LEVELS * compand(wave_))).astype(np.uint8)


def decode_wave(codes) -> np.ndarray:
    """The samples that codes stand for, float32 in [-1, 1] of the same shape. Code 0, which ends a recording, is silent."""
    codes = np.asarray(codes, np.int64)
    y = np.where(codes > 0, codes - SILENCE, 0) / LEVELS
    return (np.sign(y) * np.expm1(np.abs(y) * np.log1p(MU)) / MU).astype(np.float32)


def wav_bytes(wave_: np.ndarray, rate: int = RATE) -> bytes:
    """Samples [n] in [-1, 1] as the bytes of a WAV file: one channel of 16 bits, which every browser plays."""
    content, file = np.rint(np.clip(wave_, -1, 1) * 32767).astype("<i2").tobytes(), io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(content)
    return file.getvalue()


def read_wav(content: bytes) -> tuple[np.ndarray, int]:
    """(samples, float32 [n] in [-1, 1], samples a second) of a WAV file of one channel of 16 bits. Raises ValueError.

    The length in the header is not believed, since a program that writes to a pipe does not know it.
    """
    try:
        with wave.open(io.BytesIO(content)) as file:
            if file.getnchannels() != 1 or file.getsampwidth() != 2:
                raise ValueError(f"a WAV file of {file.getnchannels()} channels of {8 * file.getsampwidth()} bits; write "
                                 "one channel of 16 bits")
            frames, rate = file.readframes(len(content) // 2), file.getframerate()
    except (wave.Error, EOFError) as error:
        raise ValueError(f"no WAV file that can be read ({error})") from None
    return np.frombuffer(frames[:len(frames) // 2 * 2], "<i2").astype(np.float32) / 32767, rate


class MuLaw(Numbers):
    """Codes of waves as tokens. A text of them is their numbers, "128 130 127 "; a document is their bytes."""

    name = "mu-law"

    def __init__(self):
        super().__init__(256)
        self.fingerprint = "mulaw"

    @functools.cached_property
    def bytes_per_token(self) -> np.ndarray:
        """int32 [256] of ones: a code is a sample, and counts as one byte."""
        return np.ones(256, np.int32)

    def pack(self, texts: Sequence) -> np.ndarray:
        """The codes of recordings, each as bytes, with 0 after each: uint8 [codes]."""
        return np.frombuffer(b"\0".join([*texts, b""]), np.uint8)
