"""Reports of studies that lack files, or hold damaged ones."""

from __future__ import annotations

import re

import pytest
from report_page import Page, page_of, sketch_of, words_of
from report_study import DATA, SIZES, fill, sweep

from scaling import report
from scaling.results.records import Records
from scaling.store.files import WorkdirError

SECTIONS = ["verdict", "loss", "fit", "tuning", "samples", "runs", "made"]
FIGURES = ["verdict", "compute", "params", "data", "residuals", "learning-rate", "curves"]


@pytest.mark.parametrize("without, said, lost", [
    ("study", "study.json is not in the workdir", ()),
    ("fit", "fit.json is not in the workdir", ("residuals",)),
    ("forecast", "forecast.json is not in the workdir", ("verdict",)),
    ("samples", "samples.json is not in the workdir", ()),
    ("curves", "no training curves", ("curves",)),
    ("records", "no records of runs", ("params", "data", "compute", "curves", "learning-rate")),
])
def test_a_missing_part_is_named_and_the_rest_is_there(tmp_path, without, said, lost):
    fill(tmp_path, without=(without,))
    page = Page(sketch_of(tmp_path))
    assert set(SECTIONS) <= set(page.ids) and said in page.text
    assert {name for name in FIGURES if f"figure-{name}" not in page.ids} == set(lost)


def test_the_report_of_an_empty_workdir_names_each_missing_part(tmp_path):
    page = Page(report.write(tmp_path).read_text())
    assert set(SECTIONS) <= set(page.ids) and not page.all("svg") and len(page.all("p", class_="absent")) >= 7


def test_a_damaged_file_is_named(tmp_path):
    fill(tmp_path)
    (tmp_path / "fit.json").write_text('{"form": "chinch')
    curve_file = next((tmp_path / "curves").iterdir())
    curve_file.write_text(curve_file.read_text() + '\n{"step": 9, "tok')
    assert "fit.json is not valid JSON" in words_of(tmp_path).text


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_few_runs_are_enough(tmp_path, kept):
    for run in sweep()[:kept]:
        Records(tmp_path).write(run)
    assert Page(page_of(tmp_path)).all("table", class_="sortable")


def test_a_size_where_every_run_diverged_is_named(tmp_path):
    for run in sweep():
        lost = run["params_non_embedding"] == SIZES[2]
        Records(tmp_path).write(run | ({"diverged": True, "bits_per_byte": None} if lost else {}))
    text = Page(page_of(tmp_path)).text
    assert text.count("diverged, so the fit has no point there") == len(DATA)
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)


def test_a_workdir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="file"):
        report.write(tmp_path / "file")
