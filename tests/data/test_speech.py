"""Spoken numbers: their factors are drawn by their index alone, and the program says what is missing."""

import shutil

import numpy as np
import pytest

from scaling.data import load_text, speech
from scaling.fields import DataError

spoken = pytest.mark.skipif(shutil.which(speech.PROGRAM) is None, reason="espeak-ng is not installed")


def test_factors_follow_from_the_index_and_lie_in_their_ranges():
    said = [speech.said_in("train", index) for index in range(300)]
    assert said == [speech.said_in("train", index) for index in range(300)] and len(set(said)) > 290
    assert {each.voice for each in said} == set(speech.VOICES)
    assert {speech.said_in("voice", index).voice for index in range(40)} == set(speech.OTHERS)
    assert {len(str(each.number)) for each in said} == {1, 2, 3, 4, 5}
    assert all(20 <= each.pitch < 80 and 140 <= each.speed < 220 for each in said)
    assert not {each.number for each in said} >= {speech.said_in("iid", index).number for index in range(100)}


def test_without_the_program_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(speech.shutil, "which", lambda name: None)
    speech.check_language.cache_clear()
    with pytest.raises(DataError, match="apt-get install espeak-ng"):
        load_text("speech/en", data_dir=tmp_path, progress=False)


@spoken
def test_faster_speech_is_shorter_and_a_language_has_to_be_known(tmp_path, monkeypatch):
    slow, fast, again = (speech.speak("1024", "en", "m1", speed=speed) for speed in (140, 220, 220))
    assert len(slow) > 1.2 * len(fast) and 0.05 < np.abs(slow).max() <= 1.1
    np.testing.assert_array_equal(fast, again)
    with pytest.raises(DataError, match="speech/enn.*nearest: .*en"):
        load_text("speech/enn", data_dir=tmp_path, progress=False)
    monkeypatch.setattr(speech, "COUNTS", {"train": 2, "iid": 1, "voice": 1})
    source = load_text("speech/en", length=64, batch=2, data_dir=tmp_path, progress=False)
    assert source.splits == ("iid", "voice") and source.contents["training"]["documents"] == 2
    assert source.batch(0, 0)["tokens"].shape == (2, 65)
