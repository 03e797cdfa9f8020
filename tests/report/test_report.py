"""The report of a complete study: one safe file that agrees with the records."""

from __future__ import annotations

import base64
import hashlib
import html
import re

import pytest
from report_page import Page, page_of, words_of
from report_study import DATA, SAMPLE, SIZES, fill

from scaling import report
from scaling.figures import words
from scaling.report import study_page
from scaling.store import files

SECTIONS = ["verdict", "loss", "fit", "tuning", "samples", "runs", "made"]
FIGURES = ["verdict", "compute", "params", "data", "residuals", "learning-rate", "collapse", "curves"]
HEADINGS = {"Bits per byte": "bits_per_byte", "Parameters": "params_non_embedding", "Tokens": "tokens_seen",
            "Learning rate": "learning_rate", "FLOPs of the model": "flops",
            "FLOPs executed": "flops_executed", "Time": "seconds"}


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("study")
    runs = fill(workdir)
    path = report.write(workdir)
    return workdir, runs, path.read_text()


@pytest.fixture(scope="module")
def page(complete):
    return Page(complete[2])


def test_the_file_refers_to_nothing_outside_itself(complete, page):
    text = complete[2]
    assert all(value.startswith(("#", "data:")) for value in page.references)
    assert not re.search(r"@import|https?://|url\((?!#)", text)
    policy = page.all("meta")[-1]["content"]
    assert "default-src 'none'" in policy and "unsafe-inline" not in policy.split("script-src")[1]


def test_the_only_script_allowed_to_run_is_the_one_in_the_file(page):
    [script] = page.all("script")
    digest = base64.b64encode(hashlib.sha256(script["text"].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.all("meta")[-1]["content"]


def test_ids_are_unique_and_every_reference_resolves(complete, page):
    assert len(page.ids) == len(set(page.ids))
    used = {value[1:] for value in page.references if value.startswith("#")}
    used |= set(re.findall(r"url\(#([^)]+)\)", complete[2]))
    assert len(used) > 30 and used <= set(page.ids)


def test_a_complete_study_has_every_section_and_figure(complete, page):
    workdir = complete[0]
    assert set(SECTIONS) <= set(page.ids) and not page.all("p", class_="absent")
    assert {f"figure-{name}" for name in FIGURES} <= set(page.ids)
    captions = [caption for caption in page.all("figcaption") if caption["text"].endswith(".")]
    assert len(page.all("svg")) == len(FIGURES) == len(captions)
    for name in FIGURES:
        png = (workdir / "report" / "figures" / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG") and int.from_bytes(png[16:20], "big") > 1000


def test_every_colour_is_a_variable_of_both_schemes(complete):
    text = complete[2]
    drawings = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert not re.search(r"#[0-9a-f]{6}\b", drawings)
    light, dark = re.findall(r":root \{ (--paper[^}]*)\}", text)
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    for scheme in (light, dark):
        assert used - {"--mono", "--good", "--bad", "--wash"} <= set(re.findall(r"(--[\w-]+):", scheme))


def test_samples_are_escaped_text(complete, page):
    shown = [e["text"] for e in page.all("pre") if "class" not in e]
    hostile = "<script>alert('owned')</script> & </pre>\ufffd\ufffd"
    assert len(shown) == 4 and sum(hostile in text for text in shown) == 2
    assert sum(SAMPLE in text for text in shown) == 2 and "<script>alert" not in complete[2]


def test_text_from_every_file_is_escaped(tmp_path):
    fill(tmp_path, without=("curves",))
    bad = "<img src=x onerror=alert(1)>"
    for name, change in {"study": {"title": bad, "command": bad, "config": bad, "versions": {bad: bad}},
                         "fit": {"diagnostics": [bad]}, "forecast": {"hash": bad}}.items():
        path = tmp_path / f"{name}.json"
        files.write_json(path, files.read_json(path) | change)
    text = page_of(tmp_path)
    assert not Page(text).all("img") and text.count(html.escape(bad)) >= 7


def test_the_table_holds_the_records(complete, page):
    _, runs, text = complete
    body = re.search(r'<table class="sortable">.*?</table>', text, re.DOTALL).group()
    headings = [e["text"] for e in Page(f"<main>{body}</main>").all("button")]
    for run in runs:
        row = re.search(rf'<tr id="run-{re.escape(run["fingerprint"])}".*?</tr>', body, re.DOTALL).group()
        cells = dict(zip(headings, Page(f"<main>{row}</main>").all("td")))
        assert len(cells) == len(headings)
        for heading, key in HEADINGS.items():
            cell = cells[heading]
            if run["diverged"] and key == "bits_per_byte":
                assert cell["text"] == "diverged at step 17" and cell["data-sort"] == ""
            else:
                assert float(cell["data-sort"]) == run[key]
    assert len(page.all("tr", class_="tuned")) == len(SIZES) * len(DATA)
    assert len(page.all("tr", class_="target")) == len(page.all("tr", class_="diverged")) == 1


@pytest.mark.parametrize("off, held", [(1.004, True), (1.4, False)])
def test_the_verdict_agrees_with_the_files(tmp_path, off, held):
    fill(tmp_path, without=("curves",), off=off)
    check = files.read_json(tmp_path / "forecast_check.json")
    text = words_of(tmp_path).text
    assert check["inside"] == held and (f"The forecast {'held' if held else 'missed'}." in text)
    assert f"{'inside' if held else 'outside'} its 90% interval" in text
    assert words.number(abs(check["observed"] - check["predicted"]), 2) in text


def test_a_forecast_without_a_score_is_not_yet_checked(tmp_path):
    fill(tmp_path, without=("curves",), scored=False)
    text = words_of(tmp_path).text
    assert "not yet checked" in text and "the target is not trained yet" in text and "forecast held" not in text


def test_writing_again_gives_the_same_bytes_and_a_failure_keeps_the_old_report(complete, monkeypatch):
    workdir, _, text = complete
    assert page_of(workdir) == text
    monkeypatch.setattr(study_page, "draw_figures", lambda *_: {})  # which takes seconds, and comes before the failure
    monkeypatch.setattr(study_page, "study_html", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write(workdir)
    assert (workdir / "report" / "index.html").read_text() == text
    assert {p.name for p in (workdir / "report").iterdir()} == {"index.html", "figures"}
