"""Tunes in ABC notation (https://abcnotation.com/wiki/abc:standard:v2.1) as notes and bars, by the parser of `music21`."""

from __future__ import annotations

import contextlib
import functools
import io
import re
from fractions import Fraction
from types import ModuleType
from typing import NamedTuple

from scaling.fields import DataError

INSTALL = "write `pip install 'scaling[music]'`, or `pip install music21`"
_KEY = re.compile(r"(?m)^K:.*\n")  # after it comes music
_BARS = re.compile(r":*\|[|\]:]*|::")  # where a text can be cut


class Note(NamedTuple):
    """`pitches` are MIDI numbers, 69 for A at 440 Hz: one of a note, more of a chord, none of a rest. `quarters` is its
    length in quarter notes."""

    pitches: tuple[int, ...]
    quarters: Fraction


class Tune(NamedTuple):
    """The notes of a tune bar by bar, without grace notes.

    metres: the quarter notes of a full bar, for each bar; None where there is no metre.
    scales: the seven pitch classes (0 is C) of the key signature, for each bar.
    inner: whether a bar stands between two plain bar lines. Others may be upbeats, or the rest of a bar after one.
    """

    bars: tuple[tuple[Note, ...], ...]
    metres: tuple[Fraction | None, ...]
    scales: tuple[frozenset[int], ...]
    inner: tuple[bool, ...]

    @property
    def notes(self) -> list[Note]:
        return [note for bar in self.bars for note in bar]


@functools.cache
def abc_parser() -> ModuleType:
    """`music21.abcFormat`, which takes a second to import. Raises DataError where music21 is not installed."""
    try:
        from music21 import abcFormat
    except ImportError as error:
        raise DataError(f"notes of ABC are read by music21, which is not installed; {INSTALL}") from error
    return abcFormat


def read_tune(text: str) -> Tune | None:
    """The tune that an ABC text says; None where the parser refuses it or warns of it, or where it has no note.

    A text without the field X:, which the notation asks for, gets one. Raises DataError where music21 is not installed.
    """
    parser = abc_parser()
    warnings = io.StringIO()  # the parser writes them to standard error
    try:
        with contextlib.redirect_stderr(warnings):
            tokens = parser.ABCFile().readstr(text if text.startswith("X:") else f"X:1\n{text}").tokens
            found = _bars_of(parser, tokens)
    except Exception:  # the parser meets what no tune says, and raises errors of many kinds
        return None
    return found if any(note.pitches for note in found.notes) and not warnings.getvalue() else None


def _bars_of(parser, tokens) -> Tune:
    bars, bar = [], []  # (notes, metre, scale, inner)
    metre, scale, plain = None, scale_of(0), False

    def close(ends_plainly):
        nonlocal plain
        if bar:
            bars.append((tuple(bar), metre, scale, plain and ends_plainly))
            bar.clear()
        plain = ends_plainly

    for token in tokens:
        if isinstance(token, parser.ABCBar):
            close(token.src == "|")
        elif isinstance(token, parser.ABCMetadata) and token.isMeter():
            close(False)
            counts = token.getTimeSignatureParameters()
            metre = Fraction(4 * counts[0], counts[1]) if counts else None
        elif isinstance(token, parser.ABCMetadata) and token.isKey():
            close(False)
            scale = scale_of(token.getKeySignatureParameters()[0])
        elif isinstance(token, parser.ABCNote) and not token.inGrace and (note := _note_of(parser, token)):
            bar.append(note)
    close(False)
    return Tune(*zip(*bars)) if bars else Tune((), (), (), ())


def _note_of(parser, token) -> Note | None:
    length = Fraction(token.quarterLength).limit_denominator(768)
    if token.activeTuplet:
        length *= Fraction(token.activeTuplet.tupletMultiplier())
    if isinstance(token, parser.ABCChord):
        names = [each.pitchName for each in token.subTokens if isinstance(each, parser.ABCNote)]
    else:
        names = [] if token.isRest else [token.pitchName]
    pitches = tuple(sorted(midi_of(name) for name in names if name))
    return Note(pitches, length) if length and (pitches or token.isRest) else None


def scale_of(sharps: int) -> frozenset[int]:
    """The pitch classes of the major scale with so many sharps, or flats below 0: {0, 2, 4, 5, 7, 9, 11} of 0."""
    return frozenset((7 * (sharps + step)) % 12 for step in range(-1, 6))


def midi_of(name: str) -> int:
    """The MIDI number of music21's name of a pitch: 60 of "C4", 61 of "C#4", 70 of "B-4"."""
    found = re.fullmatch(r"([A-G])([#n-]*)(\d+)", name)
    step = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}[found[1]]
    return 12 * (int(found[3]) + 1) + step + found[2].count("#") - found[2].count("-")


def whole_tunes(window: str) -> list[str]:
    """The tunes that begin in a window of text, in which documents end with a null character.

    A tune whose end is missing is cut after its last bar line, and dropped where it has none after its key.
    """
    found = window.split("\0")[1:]
    if found:
        key = _KEY.search(found[-1])
        ends = [match.end() for match in _BARS.finditer(found[-1], key.end())] if key else []
        found[-1] = found[-1][:ends[-1]] if ends else ""
    return [tune for tune in found if tune.strip()]
