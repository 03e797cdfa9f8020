"""A page says that a forecast held only where its files, its log and its records agree, and says how sharp it was."""

from __future__ import annotations

import json
import shutil

import pytest
from report_page import words_of
from report_study import fill

from scaling.figures import words
from scaling.report import comparison, reading
from scaling.report.verdict import verdict
from scaling.store import files


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    fill(workdir, without=("curves",))
    return workdir


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes, indent=1) + "\n")


def target_record(workdir):
    name = files.read_json(workdir / "forecast.json")["target"]["fingerprint"]
    return workdir / "records" / f"{name}.jsonl"


TAMPERED = {
    "forecast edited": lambda at: edit(at / "forecast.json", predicted=1.5),
    "interval widened": lambda at: edit(at / "forecast.json", interval=[0.0, 9.0]),
    "score edited": lambda at: edit(at / "forecast_check.json", observed=1.234, inside=True),
    "log gone": lambda at: (at / "forecasts.jsonl").unlink(),
    "log cut": lambda at: (at / "forecasts.jsonl").write_text("{\n"),
    "forecast gone": lambda at: (at / "forecast.json").unlink(),
    "a fitted run gone": lambda at: next(path for path in sorted((at / "records").iterdir())
                                         if path != target_record(at)).unlink()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", TAMPERED)
def test_a_forecast_that_was_tampered_with_is_shown_as_such_and_not_as_held(whole, tmp_path, what):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    TAMPERED[what](tmp_path)
    page = words_of(tmp_path)
    assert "The forecast held" not in page.text and "the forecast held" not in page.text
    assert reading.read_study(tmp_path).tampered and "no evidence" in page.text
    [member] = comparison.read_members([tmp_path])
    assert "inside" not in comparison.table_row(member)["cells"][2][0]


def test_the_verdict_says_how_sharp_the_forecast_was(whole):
    check, text = files.read_json(whole / "forecast_check.json"), words_of(whole).text
    assert "The forecast held" in text and "no evidence" not in text
    assert f"as wide as {words.percent(check['width'])} of the predicted value" in text
    errors = check["errors"]
    assert f"{words.percent(abs(errors['relative']))} of the loss" in text
    assert f"{words.percent(abs(errors['of_fall']))} of the fall from the best fitted run" in text
    assert f"for {words.short(errors['compute'])} times the compute of the target" in text
    for name, value in check["naive"].items():
        half = (check["interval"][1] - check["interval"][0]) / 2
        assert f"the {name} gives {words.to_error(value, half)}" in text
    assert ("The interval also holds" in text) == bool(check["naive_inside"])


def test_an_older_forecast_without_naive_forecasters_still_has_its_width(whole):
    study = reading.read_study(whole)
    for old in (study.forecast, study.forecast_check):
        for name in ("width", "naive", "errors", "errors_left_out", "naive_errors"):
            old.pop(name, None)
    said = " ".join(verdict(study)["sharp"])
    assert "as wide as" in said and "of the fall from the best fitted run" in said and "the best fitted run gives" in said
