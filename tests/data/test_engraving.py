"""Scores of tunes: the notes of a tune are in its score, what is no tune has none, and no text ends the process."""

import xml.etree.ElementTree as ET

import pytest

from scaling.data import engraving, notation
from scaling.fields import DataError

pytest.importorskip("music21")
needs_verovio = pytest.mark.skipif(not engraving.engraves(), reason="verovio is not installed")
TUNE = "M:6/8\nL:1/8\nK:G\nGAB dBG|c2A BGE|\nDEG AGE|G3 z3|]\n"


def notes_in(svg: bytes) -> int:
    return sum(element.get("class") == "note" for element in ET.fromstring(svg).iter())


@needs_verovio
def test_a_score_has_the_notes_of_the_tune():
    score = engraving.engrave(TUNE)
    assert notes_in(score) == sum(len(note.pitches) > 0 for note in notation.read_tune(TUNE).notes)
    assert score == engraving.engrave(TUNE)  # the same bytes, so that a command may be repeated
    longer = engraving.engrave(TUNE + 40 * "GAB dBG|c2A BGE|\n")
    assert notes_in(longer) == notes_in(score) + 40 * 11  # on one page, however long


@needs_verovio
def test_what_is_no_tune_has_no_score_and_does_no_harm():
    for text in ("", "hello", "M:3/4\nL:1/8\nK:\nxx[[[ zz", "M:6/8\nL:"):
        assert engraving.engrave(text) is None


def test_without_the_package_there_is_no_score(monkeypatch):
    monkeypatch.setattr(engraving, "engraves", lambda: False)
    assert engraving.engrave(TUNE) is None
    with pytest.raises(DataError, match="pip install verovio"):
        engraving.check_installed()
