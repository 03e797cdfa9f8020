"""The page that compares several studies, and the command that writes reports."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from absl.testing import flagsaver
from boxed_flags import Box, status_of
from report_page import Page
from report_study import fill, fill_images

from scaling import laws, report
from scaling.figures import words
from scaling.figures.palette import Palette
from scaling.report import comparison, plots, reading
from scaling.results import metrics
from scaling.results.records import Records
from scaling.store.files import WorkdirError

with (BOX := Box()):
    from experiments import report as command


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    paths = [tmp_path_factory.mktemp("all") / name for name in ("text", "gan")]
    for path, make in zip(paths, (fill, fill_images)):
        path.mkdir()
        make(path, without=("curves", "samples", "pictures"))
    return paths


def page_of(paths):
    members = comparison.read_members(paths)
    palette = Palette(range(len(members)), ())
    drawn = plots.draw_all(comparison.comparison_figures(members, palette), palette, png=False)
    return comparison.comparison_html(members, palette, drawn)


def test_the_table_agrees_with_the_files(workdirs):
    page = Page(page_of(workdirs))
    rows = [element["text"] for element in page.all("tr")][1:]
    assert len(rows) == 2
    for path, row, name, unit in zip(workdirs, rows, ("Transformer", "GAN"), ("tokens", "examples")):
        fit, check, forecast = (json.loads((path / f"{name}.json").read_text())
                                for name in ("fit", "forecast_check", "forecast"))
        assert name in row and unit in row
        for exponent in ("alpha", "beta"):
            low, high = fit["intervals"][exponent]
            assert f"{words.to_error(fit['params'][exponent], (high - low) / 2)}{words.interval(low, high)}" in row
        side = "inside" if check["inside"] else "outside"
        assert f"{words.percent(abs(check['relative_error']))}, {side}" in row
        assert f"{words.short(forecast['compute_ratio'])}×" in row
        runs = reading.read_study(path).runs
        sizes = runs.loc[runs["role"] == "sweep", "params_non_embedding"]
        assert f"{words.count(sizes.min())} to {words.count(sizes.max())}" in row
        assert f"{len(runs)} runs" in row


def test_the_page_is_one_file_with_every_figure(workdirs, tmp_path):
    path = report.write_comparison(workdirs, tmp_path / "out")
    text = path.read_text()
    page = Page(text)
    assert all(value.startswith(("#", "data:")) for value in page.references)
    assert not re.search(r"@import|https?://|url\((?!#)", text) and not page.all("p", class_="absent")
    assert {value[1:] for value in page.references if value.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    for name in ("alpha", "beta", "reducible"):
        assert f"figure-{name}" in page.ids
        assert (path.parent / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_exponents_are_drawn_with_their_intervals(workdirs):
    members = comparison.read_members(workdirs)
    axes = comparison.draw_exponents(members, Palette(range(2), ()), "D", "β").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Transformer", "GAN"]
    bars = [collection.get_segments()[0] for collection in axes.collections]
    for y, (member, bar) in enumerate(zip(members, bars)):
        _, low, high = member.exponents["D"]
        np.testing.assert_allclose(bar, [[low, y], [high, y]])


@pytest.mark.parametrize("column, symbol", [("params_non_embedding", "N"), ("examples_seen", "D")])
def test_the_exponent_of_a_law_in_one_variable_is_that_of_its_column(tmp_path, column, symbol):
    x = np.geomspace(1e3, 1e6, 8)
    points = pd.DataFrame({column: x, "fd": 0.1 + 20 * x**-0.6})
    laws.save_fit(tmp_path / "fit.json", laws.fit(laws.Runs.from_dataframe(points, "fd", x=column), "saturating_power"))
    study = reading.read_study(tmp_path)
    study.unit = metrics.UNITS["examples"]
    found = comparison.fitted_exponents(study)
    assert list(found) == [symbol] and found[symbol][0] == pytest.approx(0.6, rel=1e-3)
    assert comparison.fitted_exponents(reading.StudyFiles(study.runs, study.cells, "fd", study.unit)) == {}


def test_the_reducible_part_falls_with_the_exponent_of_the_law(workdirs):
    for member in comparison.read_members(workdirs):
        (compute, part), p = comparison.reducible_lines(member)["law"], member.study.fit["params"]
        assert compute[0] == part[0] == 1
        slope = np.polyfit(np.log(compute), np.log(part), 1)[0]
        assert slope == pytest.approx(-p["alpha"] * p["beta"] / (p["alpha"] + p["beta"]), rel=1e-3)
        compute, part = comparison.reducible_lines(member)["runs"]
        assert (np.diff(part[np.argsort(compute)]) <= 0).all() and len(part) >= 3


def test_studies_of_one_family_have_the_workdir_in_their_name_and_missing_parts_are_named(workdirs, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    again = tmp_path / "again"
    again.mkdir()
    fill(again, without=("curves", "samples", "fit", "forecast"))
    text = Page(page_of([workdirs[0], again, empty])).text
    assert "Transformer (text)" in text and "Transformer (again)" in text
    assert "Transformer (again): fit.json is not in the workdir yet." in text
    assert "unknown family: there are no records of runs in records/ yet." in text


def test_titles_and_families_are_escaped(workdirs, tmp_path):
    Records(tmp_path).write({"fingerprint": "a", "family": "<b>gan</b>", "fd": 1.0, "examples_seen": 5})
    (tmp_path / "study.json").write_text(json.dumps({"title": "<script>alert(1)</script>"}))
    text = page_of([workdirs[1], tmp_path])
    assert "<script>alert" not in text and "<b>gan" not in text and "&lt;script&gt;alert" in text


def test_an_absent_workdir_is_named(tmp_path):
    with pytest.raises(WorkdirError, match="nowhere"):
        report.write_comparison([tmp_path / "nowhere"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given, said, code", [
    ({}, "--workdir=DIR", 2), ({"workdir": "a", "workdirs": ["b"]}, "either one study", 2),
    ({"workdirs": ["a", "b"]}, "needs --output", 2),
    ({"workdir": "a", "output": "b"}, "goes with --workdirs", 2),
    ({"workdir": "/nowhere/at/all"}, "/nowhere/at/all", 1),
    ({"workdirs": ["/nowhere/at/all"], "output": "made"}, "/nowhere/at/all", 1)])
def test_a_wrong_command_is_one_sentence(given, said, code, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    none = {"workdir": None, "workdirs": None, "output": None}
    with BOX:
        if not command.flags.FLAGS.is_parsed():
            command.flags.FLAGS(["report"])
        with flagsaver.flagsaver(**(none | given)), pytest.raises(SystemExit) as stopped:
            command.main(["report"])
    out, err = capsys.readouterr()
    assert stopped.value.code == code and not out
    assert err.startswith("error: ") and err.count("\n") == 1 and said in err


def test_the_command_writes_both_kinds_and_refuses_unknown_flags(workdirs, tmp_path, monkeypatch, capsys):
    def call(*argv):
        return status_of(BOX, command, argv, monkeypatch), *capsys.readouterr()

    status, out, _ = call(f"--workdirs={workdirs[0]},{workdirs[1]}", f"--output={tmp_path}/families")
    assert status == 0 and f"{tmp_path}/families/index.html" in out
    assert (tmp_path / "families" / "index.html").exists()
    Records(tmp_path / "study").write({"fingerprint": "a", "fd": 1.0})
    assert call(f"--workdir={tmp_path}/study")[0] == 0 and (tmp_path / "study" / "report" / "index.html").exists()
    status, _, said = call("--workdr=x")
    assert status == 2 and said.startswith("error:") and "workdir" in said
