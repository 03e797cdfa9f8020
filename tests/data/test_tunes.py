"""Tunes in ABC notation: which text is kept of a file, and what notes it says. The corpus is a planted one."""

from fractions import Fraction

import numpy as np
import pytest

from scaling import experiment
from scaling.data import load_text, notation, tones, tunes, windows
from scaling.data.sound import SoundSource, sound_of
from scaling.fields import ConfigError, DataError

HEAD = "X:{n}\nT:Tune {n}\nZ:somebody % here\nM:3/4\nL:1/8\nK:{key}\n"
KEYS = ("G", "D", "Am", "C")


def melody(number):
    notes = np.random.default_rng(number).choice(list("CDEFGABcdefg"), (6, 6))
    return " | ".join("".join(bar) for bar in notes) + " |]  % the end\nw: la la\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder like that of music21, of 215 tunes in eight files."""
    root = tmp_path_factory.mktemp("music21")
    for number, name in enumerate([*(f"essenFolksong/ballad{n}0.abc" for n in range(1, 6)), "essenFolksong/lot.abc",
                                   "ryansMammoth/AReel.abc", "oneills1850/0001.abc"]):
        path = root / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("% a collection\n" + "\n".join(
            HEAD.format(n=n, key=KEYS[n % 4]) + melody(n) for n in range(30 * number, 30 * number + (
                5 if "lot" in name else 30))))
    return root


@pytest.fixture(autouse=True)
def planted(monkeypatch, folder):
    monkeypatch.setattr(tunes, "find_music21", lambda: folder)


def load(tmp_path, name="music/abc", **given):
    return load_text(name, **{"length": 32, "batch": 4, "data_dir": tmp_path, "progress": False} | given)


def test_a_document_is_the_music_of_a_tune(tmp_path):
    source = load(tmp_path)
    text = source.decode(np.concatenate([row[1:] for row in source.evaluation("file", 0)["tokens"]]))
    assert "T:" not in text and "Z:" not in text and "%" not in text and "w:" not in text and "M:3/4\nL:1/8\nK:" in text
    assert source.contents["documents"] == 215 and source.splits == ("file", "package")
    assert {file.package for file in tunes.tune_files()} == {
        "essenFolksong/ballad", "essenFolksong/lot", "ryansMammoth", "oneills1850"}


@pytest.mark.parametrize("line,kept", [
    ("K:G % sharp", "K:G"), ("C:Trad.", ""), ("A:|", "A:|"), ("  AB|c2 % x", "AB|c2"), (" ", "")])
def test_a_line_is_a_field_or_music(line, kept):
    assert tunes.music_of(line) == kept + "\n"


def test_without_the_package_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setattr(tunes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="music/abc.*not installed.*pip install"):
        load(tmp_path)


def test_a_window_has_the_tunes_that_begin_in_it_up_to_a_bar_line():
    assert notation.whole_tunes("GA|\0M:2/4\nAB|c\0K:G\nA2|B2|c") == ["M:2/4\nAB|c", "K:G\nA2|B2|"]
    assert notation.whole_tunes("ABc|de|") == notation.whole_tunes("AB\0K:G\nAB") == []
    assert notation.whole_tunes("A|\0M:C|\nL:1/8\nK:G") == []  # a bar line in a field cuts no tune


def test_notes_have_the_pitches_and_lengths_that_the_notation_says():
    pytest.importorskip("music21")
    found = notation.read_tune("M:2/4\nL:1/8\nK:D\nF|A>B (3cde|[DF]2 z _B|{g}f4|]\n")
    assert [note.pitches for note in found.notes] == [
        (66,), (69,), (71,), (73,), (74,), (76,), (62, 66), (), (70,), (78,)]
    third, half = Fraction(1, 3), Fraction(1, 2)
    assert [note.quarters for note in found.notes] == [half, half * 3 / 2, half / 2, third, third, third, 1, half, half, 2]
    assert [sum(note.quarters for note in bar) for bar in found.bars] == [half, 2, 2, 2] and set(found.metres) == {2}
    assert found.inner == (False, True, True, False) and set(found.scales) == {notation.scale_of(2)}
    assert notation.scale_of(0) == {0, 2, 4, 5, 7, 9, 11} and notation.scale_of(-1) - notation.scale_of(0) == {10}


@pytest.mark.parametrize("text", ["", "hello there", "M:2/4\nL:1/8\nK:G\n", "M:4/x\nK:G\nAB|"])
def test_what_is_no_tune_is_refused_in_silence(text, capfd):
    pytest.importorskip("music21")
    assert notation.read_tune(text) is None and capfd.readouterr().err == ""


def test_recordings_are_the_tunes_and_windows_of_them_are_bits_per_sample(tmp_path, monkeypatch):
    pytest.importorskip("music21")
    monkeypatch.setattr(windows, "BLOCK", 1 << 16)
    source = load(tmp_path, "music/audio", length=64, unique_tokens=4096)
    assert isinstance(source, SoundSource) and source.vocab == 256 and source.splits == ("file", "package")
    held_out = source.evaluation("file", 640)
    assert held_out["samples"].shape == (10, 64) and "bytes" not in held_out and "document" in held_out
    assert load(tmp_path, "music/abc").contents["documents"] == source.contents["documents"]
    notes = notation.read_tune("L:1/4\nK:C\nA|a|A|]").notes
    wave = tones.render_tune(notes, "flute", 1.0)
    assert len(wave) == 3 * 1600
    np.testing.assert_allclose(wave[1600:3200], tones.render_note((81,), 0.2), atol=1e-12)


def test_names_of_sound_are_known_and_take_no_tokenizer():
    assert [sound_of(name) for name in ("music/abc", "speech/", "text:speech/en")] == [None] * 3
    with pytest.raises(ConfigError, match="tokenizer.*leave it out"):
        experiment.from_config(experiment.config("ngram", **{"data.name": "music/audio", "data.tokenizer": "bpe:300"}))
    found = experiment.from_config(experiment.config("ngram", **{"data.name": "speech/en"}))
    assert found.family.vocab == 256 and found.data.sound and not found.data.abc
