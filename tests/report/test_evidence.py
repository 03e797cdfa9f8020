"""A page gives no verdict on a forecast that was edited, replaced, registered late, or whose log or runs have changed."""

import json
import shutil

import pytest
import report_study

from scaling import report
from scaling.report import reading
from scaling.report.verdict import verdict
from scaling.results.records import Records


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("evidence") / "study"
    workdir.mkdir()
    report_study.fill(workdir)
    return workdir


@pytest.fixture
def workdir(filled, tmp_path):
    shutil.copytree(filled, tmp_path / "study")
    return tmp_path / "study"


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def change_run(workdir, which):
    store = Records(workdir)
    name = next(name for name in store.fingerprints() if store.read(name)["role"] == which)
    record = store.read(name)
    store.path(name).unlink()
    store.write(record | {"bits_per_byte": record["bits_per_byte"] * 0.99})


def without_lines(workdir, *numbers):
    log = workdir / "forecasts.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(line for i, line in enumerate(lines, 1) if i not in numbers))


def test_a_whole_study_has_a_verdict(workdir):
    study = reading.read_study(workdir)
    assert study.tampered == study.forecast_notes == [] and verdict(study)["held"] is not None


@pytest.mark.parametrize("change, words", [
    (lambda w: edit(w / "forecast.json", '"level": 0.9', '"level": 0.8'), "forecast.json was changed after it was written"),
    (lambda w: edit(w / "forecast_check.json", '"inside": ', '"inside":  '), "forecast_check.json was changed"),
    (lambda w: (w / "forecast_check.json").unlink(), "forecast_check.json is gone"),
    (lambda w: (w / "forecasts.jsonl").unlink(), "forecasts.jsonl, in which forecast.json was registered, is gone"),
    (lambda w: without_lines(w, 1), "lines were removed or moved"),
    (lambda w: without_lines(w, 2), "does not hold forecast_check.json"),
    (lambda w: change_run(w, "sweep"), "not as they were (changed:"),
    (lambda w: change_run(w, "target"), "The record of the target has")])
def test_a_change_takes_the_verdict_away(workdir, change, words):
    change(workdir)
    assert words in " ".join(reading.read_study(workdir).tampered)


def test_the_page_says_so_in_place_of_held(workdir):
    was = report.write(workdir).read_text()
    assert "The forecast held." in was or "The forecast missed." in was
    content = json.loads((workdir / "forecast.json").read_text())
    edit(workdir / "forecast.json", f'"predicted": {content["predicted"]}', '"predicted": 1.5')
    page = report.write(workdir).read_text()
    assert "was changed after it was written" in page
    assert "The forecast held." not in page and "The forecast missed." not in page


def test_a_forecast_that_is_gone_is_known_to_the_page(workdir):
    (workdir / "forecast.json").unlink()
    assert "was registered at" in " ".join(reading.read_study(workdir).tampered)
