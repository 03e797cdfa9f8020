"""A run on sound draws recordings, which the command writes, the study keeps, and the page plays. The sound is planted."""

import base64
import json

import jax
import numpy as np
import pytest
from boxed_flags import GENERATE, status_of
from report_page import Page

from scaling import experiment
from scaling.data import load_text, speech, waves
from scaling.data.curated import Corpus
from scaling.report import reading, sounds, study_page
from scaling.store import files
from scaling.study import recordings, showcase
from scaling.study.restored import RestoredRun

with GENERATE:
    from experiments import generate


def planted(name):
    """Recordings of one tone each, of 400 samples."""
    time = np.arange(400) / waves.RATE
    tone = [waves.encode_wave(np.sin(2 * np.pi * 250 * (1 + n % 3) * time)).tobytes() for n in range(20)]
    part = {"documents": 20, "bytes": 0}
    return Corpus(name, "planted", ("iid",), lambda split: tone, {
        **part, "training": part, "evaluation": {"iid": part}, "left_out": {}, "notes": [], "things": "recordings"})


@pytest.fixture(autouse=True)
def without_the_program(monkeypatch):
    monkeypatch.setattr(speech, "speech_recordings", planted)


@pytest.fixture(scope="module")
def run():
    """A run that has learned nothing."""
    e = experiment.from_config(experiment.config("recurrent", **{
        "family.cell": "mingru", "family.width": 8, "family.layers": 1, "data.name": "speech/en", "data.length": 32}))
    record = {"fingerprint": "ab" * 8, "params_non_embedding": 1000}
    return RestoredRun(record, e, e.family.init(jax.random.key(0)), None)


def test_the_loss_of_sound_is_in_bits_per_sample(run, tmp_path):
    source = load_text("speech/en", length=32, batch=4, data_dir=tmp_path, progress=False)
    examples = source.evaluation("iid", 128)
    found = {name: np.asarray(value.over).sum() / np.asarray(value.under).sum()
             for name, value in run.family.evaluate(run.params, examples, jax.random.key(0)).items()}
    assert found["bits_per_sample"] == pytest.approx(found["loss"] / np.log(2), rel=1e-5) and "bits_per_byte" not in found
    assert found["bits_per_sample"] == pytest.approx(8, abs=0.5)  # of 256 codes that are about as likely


def test_a_recording_depends_on_its_number_and_not_on_the_others(run):
    few, more = (recordings.draw_recordings(run, count, 40, seed=3) for count in (1, 2))
    np.testing.assert_array_equal(few[0], more[0])
    assert all(len(each) <= 40 and np.abs(each).max() <= 1 for each in more)
    assert len(recordings.joined(more)) == sum(map(len, more)) + recordings.GAP * waves.RATE


def test_the_command_writes_a_file_and_refuses_what_is_not_for_sound(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generate.scaling, "restore", lambda workdir, name: run)

    def call(*argv):
        return status_of(GENERATE, generate, [f"--workdir={tmp_path}", *argv], monkeypatch), *capsys.readouterr()

    path = tmp_path / "a.wav"
    status, out, _ = call("--samples=2", "--tokens=40", f"--output={path}", "--json")
    said, (wave, rate) = json.loads(out), waves.read_wav(path.read_bytes())
    assert status == 0 and said["output"] == str(path) and rate == waves.RATE
    assert len(wave) == pytest.approx(rate * (sum(said["seconds"]) + recordings.GAP))
    status, _, error = call("--prompt=1")
    assert status == 2 and "leave out --prompt" in error
    assert "must end in .wav" in call(f"--output={tmp_path}/a.png")[2]


def test_the_page_plays_what_the_study_keeps(run, tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "RATE", 20)  # seconds of 20 samples, so that few are drawn
    files.write_json(tmp_path / "sounds.json", showcase._recordings([("smallest", run), ("largest", run)], tmp_path))
    files.write_json(tmp_path / "study.json", {"metric": "bits_per_sample", "unit": "tokens"})
    study = reading.read_study(tmp_path)
    page = Page(study_page.study_html(study, study_page.study_palette(study), {}))
    players = page.all("audio")
    assert len(players) == 3 == len(study.sounds) and "held-out recordings" in page.text.lower()
    for player, entry in zip(players, study.sounds, strict=True):
        assert base64.b64decode(player["src"].partition(",")[2]) == (tmp_path / entry["path"]).read_bytes()


def test_a_spectrogram_is_dark_where_the_tone_is():
    picture = sounds.spectrogram(np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000), 8000)
    rows = picture.mean(1)
    frequency = (len(rows) - 1 - rows.argmin()) / (len(rows) - 1) * 4000
    assert abs(frequency - 1000) < 40 and picture.min() == 0 and picture.max() == 255
    assert (sounds.spectrogram(np.zeros(10), 8000) == 255).all()


def test_the_page_shows_scores_of_tunes_beside_their_players(tmp_path, monkeypatch):
    pytest.importorskip("music21")
    about = {"params_non_embedding": 1000, "fingerprint": "ab" * 8, "label": "largest", "prompt": "M:2/4\nL:1/8\nK:G\n"}
    texts = [about | {"text": text} for text in ("GA Bc|d4|\0M:", "[[", "GA GA|G4|")]
    made = {"GA Bc": b"<svg>1</svg>"}  # the engraver takes one of the two tunes
    monkeypatch.setattr(showcase.engraving, "engrave", lambda text: made.get(text.split("\n")[-1].partition("|")[0]))
    files.write_json(tmp_path / "sounds.json", showcase._sung(texts, tmp_path))
    files.write_json(tmp_path / "study.json", {"metric": "bits_per_byte", "unit": "tokens"})
    study = reading.read_study(tmp_path)
    page = Page(study_page.study_html(study, study_page.study_palette(study), {}))
    [score] = [image for image in page.all("img") if image.get("class") == "score"]
    assert base64.b64decode(score["src"].partition(",")[2]) == made["GA Bc"] and len(page.all("audio")) == 2
    (tmp_path / study.sounds[0]["score"]).unlink()
    again = reading.read_study(tmp_path)
    assert len(again.sounds) == 2 and not any("svg" in entry for entry in again.sounds)  # as without the package
