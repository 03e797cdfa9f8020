"""The report: complete, self-contained, true to its files, and unharmed by what they lack or hide."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_page import Page, page_of
from report_study import DATA, LAW, SAMPLE, SIZES, fill, record, surface, sweep

from scaling import report
from scaling.figures import plot, words
from scaling.report.reading import predict
from scaling.results import tuned
from scaling.results.records import Records
from scaling.store.files import WorkdirError

SECTIONS = ["verdict", "loss", "fit", "tuning", "samples", "runs", "made"]
FIGURES = ["verdict", "compute", "params", "data", "residuals", "learning-rate", "curves"]
HEADINGS = {"Bits per byte": "bits_per_byte", "Params": "params_non_embedding", "Tokens": "tokens_seen",
            "Learning rate": "learning_rate", "FLOPs": "flops", "Time": "seconds"}


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("study")
    runs = fill(workdir)
    path = report.write(workdir)
    return workdir, runs, path.read_text()


def test_the_file_refers_to_nothing_outside_itself(complete):
    _, _, text = complete
    page = Page(text)
    assert all(value.startswith(("#", "data:")) for value in page.references)
    assert not re.search(r"@import|https?://|url\((?!#)", text)
    policy = page.all("meta")[-1]["content"]
    assert "default-src 'none'" in policy and "unsafe-inline" not in policy.split("script-src")[1]


def test_the_only_script_allowed_to_run_is_the_one_in_the_file(complete):
    page = Page(complete[2])
    [script] = page.all("script")
    digest = base64.b64encode(hashlib.sha256(script["text"].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.all("meta")[-1]["content"]


def test_ids_are_unique_and_every_reference_resolves(complete):
    page = Page(complete[2])
    assert len(page.ids) == len(set(page.ids))
    used = {value[1:] for value in page.references if value.startswith("#")}
    used |= set(re.findall(r"url\(#([^)]+)\)", complete[2]))
    assert len(used) > 30 and used <= set(page.ids)


def test_a_complete_study_has_every_section_and_figure(complete):
    workdir, _, text = complete
    page = Page(text)
    assert set(SECTIONS) <= set(page.ids) and not page.all("p", class_="absent")
    assert {f"figure-{name}" for name in FIGURES} <= set(page.ids)
    captions = [caption for caption in page.all("figcaption") if caption["text"].endswith(".")]
    assert len(page.all("svg")) == len(FIGURES) == len(captions)
    for name in FIGURES:
        png = (workdir / "report" / "figures" / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG") and int.from_bytes(png[16:20], "big") > 1000


def test_colours_are_those_of_both_schemes(complete):
    text = complete[2]
    drawings = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert not re.search(r"#[0-9a-f]{6}\b", drawings)
    light, dark = re.findall(r":root \{ (--paper[^}]*)\}", text)
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    for scheme in (light, dark):
        assert used - {"--mono", "--good", "--bad", "--wash"} <= set(re.findall(r"(--[\w-]+):", scheme))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_drawn_can_be_told_from_the_background(scheme):
    palette = report.Palette(range(6), range(6))
    colours = dict(getattr(palette, scheme))
    paper = colours.pop("paper")
    del colours["grid"]
    assert min(contrast(colour, paper) for colour in colours.values()) > 3.7
    for name in ("size", "data"):
        ramp = [contrast(colours[f"{name}-{i}"], paper) for i in range(6)]
        assert ramp == sorted(ramp), "more is farther from the background"


def contrast(a, b):
    """Ratio of relative luminances as WCAG 2 defines it, 1 to 21."""
    def luminance(colour):
        channels = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in channels]
        return np.dot((0.2126, 0.7152, 0.0722), linear)
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_samples_are_shown_as_text_whatever_they_hold(complete):
    page = Page(complete[2])
    shown = [e["text"] for e in page.all("pre") if "class" not in e]
    hostile = "<script>alert('owned')</script> & </pre>\ufffd\ufffd"
    assert len(shown) == 4 and sum(hostile in text for text in shown) == 2
    assert sum(SAMPLE in text for text in shown) == 2 and "<script>alert" not in complete[2]


def test_text_from_every_file_is_escaped(tmp_path):
    fill(tmp_path)
    bad = "<img src=x onerror=alert(1)>"
    for name, change in {"study": {"title": bad, "command": bad, "config": bad, "versions": {bad: bad}},
                         "fit": {"diagnostics": [bad]}, "forecast": {"hash": bad}}.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    text = page_of(tmp_path)
    assert not Page(text).all("img") and text.count(html.escape(bad)) >= 7


def test_the_table_holds_the_records(complete):
    _, runs, text = complete
    page = Page(text)
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


def test_the_verdict_is_that_of_the_files(tmp_path):
    fill(tmp_path)
    check = json.loads((tmp_path / "forecast_check.json").read_text())
    assert "The forecast held." in page_of(tmp_path)
    (tmp_path / "forecast_check.json").write_text(json.dumps(check | {"observed": 1.9, "inside": False}))
    text = Page(page_of(tmp_path)).text
    assert "The forecast missed." in text and "outside its 90% interval" in text
    assert words.number(1.9 - check["predicted"], 2) in text
    (tmp_path / "forecast_check.json").unlink()
    assert "not yet checked" in page_of(tmp_path)


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
    page = Page(page_of(tmp_path))
    assert set(SECTIONS) <= set(page.ids) and said in page.text
    assert {name for name in FIGURES if f"figure-{name}" not in page.ids} == set(lost)


def test_an_empty_workdir_gives_a_report_that_says_so(tmp_path):
    page = Page(report.write(tmp_path).read_text())
    assert set(SECTIONS) <= set(page.ids) and not page.all("svg") and len(page.all("p", class_="absent")) >= 7


def test_a_damaged_file_is_named(tmp_path):
    fill(tmp_path)
    (tmp_path / "fit.json").write_text('{"form": "chinch')
    curve_file = next((tmp_path / "curves").iterdir())
    curve_file.write_text(curve_file.read_text() + '\n{"step": 9, "tok')
    assert "fit.json cannot be read" in Page(page_of(tmp_path)).text


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_few_runs_are_enough(tmp_path, kept):
    for run in sweep()[:kept]:
        Records(tmp_path).write(run)
    assert Page(page_of(tmp_path)).all("table", class_="sortable")


def test_a_size_of_which_every_run_diverged_is_said_and_survived(tmp_path):
    for run in sweep():
        lost = run["params_non_embedding"] == SIZES[2]
        Records(tmp_path).write(run | ({"diverged": True, "bits_per_byte": None} if lost else {}))
    text = Page(page_of(tmp_path)).text
    assert text.count("diverged: the fit has no point there") == len(DATA)
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)


@pytest.mark.parametrize("seed", range(5))
def test_monotone_names_exactly_the_planted_violations(tmp_path, seed):
    rng = np.random.default_rng(seed)
    losses = surface(np.array(SIZES)[:, None], np.array(DATA)[None, :]) * (1 + 0.08 * rng.normal(size=(4, 4)))
    runs = [record(n, d, rate, losses[i, j] + extra) for i, n in enumerate(SIZES) for j, d in enumerate(DATA)
            for rate, extra in ((0.001, 0.3), (0.01, 0.0), (0.1, 0.5))]
    for run in runs:
        Records(tmp_path).write(run)
    study = report.read(tmp_path)
    in_size, in_data = report.sections.monotone(study)
    for answer, rises, units in ((in_size, np.argwhere(np.diff(losses, axis=0) >= 0), "parameters"),
                                 (in_data, np.argwhere(np.diff(losses, axis=1) >= 0), "tokens")):
        assert answer["verdict"] == ("no" if len(rises) else "yes")
        assert answer["tally"] == f"it falls at {12 - len(rises)} of 12 steps"
        assert len(answer["against"]) == len(rises)
        for i, j in rises:
            n, d = words.count(SIZES[i]), words.count(DATA[j])
            start = f"at {d} tokens, from {n} to" if units == "parameters" else f"at {n} parameters, from {d}"
            assert any(sentence.startswith(start) for sentence in answer["against"])


def test_tuned_is_the_least_finite_loss_of_the_sweep(complete):
    _, runs, _ = complete
    cells = report.read(complete[0]).cells
    assert len(cells) == len(SIZES) * len(DATA)
    for _, cell in cells.iterrows():
        rivals = [r["bits_per_byte"] for r in runs if r["role"] == "sweep" and not r["diverged"]
                  and all(r[key] == cell[key] for key in ("params_non_embedding", "tokens_seen"))]
        assert cell["bits_per_byte"] == min(rivals)


@pytest.mark.parametrize("best, edge", [(0, "lowest"), (1, ""), (2, "highest")])
def test_a_best_learning_rate_at_the_edge_of_its_sweep_is_said(tmp_path, best, edge):
    for i, rate in enumerate((0.001, 0.01, 0.1)):
        Records(tmp_path).write(record(5_000, 4_096, rate, 2.0 + (i != best)))
    [row] = tuned.learning_rates(report.read(tmp_path).runs, "bits_per_byte").to_dict("records")
    assert row["edge"] == edge and row["best"] == (0.001, 0.01, 0.1)[best]
    said = Page(page_of(tmp_path)).text
    sides = [side for side in ("lowest", "highest") if f"is the {side} tried" in said]
    assert sides == ([edge] if edge else [])


def test_the_caption_of_the_learning_rates_is_what_was_planted(complete):
    study = report.read(complete[0])
    rates = tuned.learning_rates(study.runs, study.metric).sort_values(["params_non_embedding", "data"])
    best = rates.groupby("params_non_embedding")["best"].last()
    first, last = best[SIZES[0]], best[SIZES[-1]]
    text = Page(complete[2]).text
    assert "on both sides in 16 of 16 sweeps" in text
    assert f"from {words.short(first)} at 5.2k to {words.short(last)} at 393k parameters" in text


def test_nearly_equal_amounts_of_data_are_one_level():
    levels = tuned.merge_levels(pd.Series([1000, 2000, 1010, 995, 2030, 4000])).tolist()
    assert levels == [1000, 2015, 1000, 1000, 2015, 4000]


def test_the_law_drawn_is_the_law_fitted():
    n, d = np.geomspace(1e3, 1e9, 7), 3e6
    fit = {"form": "chinchilla", "params": LAW, "columns": {"N": "params_non_embedding", "D": "tokens_seen"}}
    columns = {"params_non_embedding": n, "tokens_seen": d}
    np.testing.assert_allclose(predict(fit, columns), surface(n, d), rtol=1e-12)
    assert predict({**fit, "form": "of my own"}, columns) is None
    assert predict(fit, {"params_non_embedding": n}) is None and predict(None, columns) is None


def test_writing_again_gives_the_same_bytes_and_a_failure_keeps_the_old_report(complete, monkeypatch):
    workdir, _, text = complete
    assert page_of(workdir) == text
    monkeypatch.setattr(report, "render", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write(workdir)
    assert (workdir / "report" / "index.html").read_text() == text
    assert {p.name for p in (workdir / "report").iterdir()} == {"index.html", "figures"}


def test_a_workdir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="file"):
        report.write(tmp_path / "file")


@given(st.floats(1e-12, 1e15), st.integers(2, 5))
def test_numbers_mean_what_they_say(value, digits):
    ordinary = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-", ",")
    for signed in (value, -value):
        for write in (words.number, words.short, words.power):
            plain = float(write(signed, digits).replace(" × 10", "e").translate(ordinary))
            assert plain == pytest.approx(signed, rel=0.51 * 10.0 ** (1 - digits))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_labels_are_kept_apart_in_order_and_moved_no_more_than_they_must(heights):
    heights, gap = sorted(heights), 0.05
    moved = plot.spread(heights, gap)
    assert np.all(np.diff(moved) >= gap - 1e-9)
    assert np.mean(moved) == pytest.approx(np.mean(heights))
    if len(heights) < 2 or np.diff(heights).min() >= gap:
        np.testing.assert_allclose(moved, heights)
