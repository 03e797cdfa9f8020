"""No exponent and no yes stands on a page without its interval, and numbers have the digits that it allows."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_page import words_of
from report_study import DATA, SIZES, record

from scaling.figures import words
from scaling.report import bootstraps, comparison, fitting, reading, trends
from scaling.results import tuned
from scaling.results.records import Records
from scaling.store import files

INTERVAL = r" \((90% interval [−\d.,]+ to [−\d.,]+|no interval is known)\)"


def test_every_exponent_on_the_page_has_its_interval(workdirs):
    for workdir in workdirs:
        fit = files.read_json(workdir / "fit.json")
        text = words_of(workdir).text
        assert len(re.findall(r"\bto the power of [\d.]+" + INTERVAL, text)) == text.count("to the power of") == 2
        assert len(re.findall(r"[αβ] is [\d.]+" + INTERVAL, text)) == 2
        for name in ("alpha", "beta"):
            ends = words.interval(*fit["intervals"][name])
            assert text.count(ends) >= 2  # in the abstract and in the table
        low, high = fit["intervals"]["a_N"]
        assert words.interval(low, high) in text and words.interval(1 - high, 1 - low) in text


def test_a_yes_has_its_interval(workdirs):
    for workdir in workdirs:
        answers = trends.monotone(reading.read_study(workdir))
        assert len(answers) == 2
        for answer in answers:
            assert answer["verdict"] == "yes" and "(90% interval: " in answer["effect"]
            assert "uncertain" not in answer["effect"]


@pytest.mark.parametrize("ratios, verdict", [
    ((0.9, 0.88), "yes"), ((0.99, 0.5), "not shown"), ((1.01, 0.5), "no"), ((0.9,), "not shown")])
def test_a_trend_whose_interval_leaves_the_sign_open_is_not_shown(tmp_path, ratios, verdict):
    for data, ratio in zip(DATA, ratios):
        for size, loss in ((SIZES[0], 3.0), (SIZES[1], 3.0 * ratio)):
            Records(tmp_path).write(record(size, data, 0.01, loss))
    study = reading.read_study(tmp_path)
    answer = trends.monotone(study)[0]
    assert answer["verdict"] == verdict
    text = words_of(tmp_path).text
    assert f"{verdict.capitalize()}: it falls in" in text
    assert ("is not shown" in text) == (verdict == "not shown")
    if verdict == "not shown":
        assert "uncertain" in answer["effect"] or "no interval is known" in answer["effect"]


@pytest.mark.parametrize("error, shown", [(0.01, True), (0.4, False)])
def test_one_pair_of_runs_has_the_interval_of_its_standard_errors(error, shown):
    cells = pd.DataFrame({tuned.PARAMS: [1e3, 4e3], "data": [10.0, 10.0], "loss": [2.0, 1.8], "loss_se": [error, error]})
    found = tuned.mean_effect(cells, tuned.PARAMS, "data", "loss")
    half = 1.6449 * np.hypot(error / 2.0, error / 1.8)
    assert (found.low, found.high) == pytest.approx((0.9 * np.exp(-half), 0.9 * np.exp(half)), rel=1e-3)
    assert found.shown == shown


def test_where_most_refits_failed_no_interval_is_shown_and_the_page_says_why(workdirs, tmp_path):
    shutil.copytree(workdirs[0], tmp_path, dirs_exist_ok=True)
    fit = files.read_json(tmp_path / "fit.json")
    said = {"code": "refits-failed", "about": [], "message": "991 of 1000 refits did not converge."}
    fit["bootstrap"]["diagnostics"].append(said)
    files.write_json(tmp_path / "fit.json", fit)
    text = words_of(tmp_path).text
    assert "Only 9 of 1,000 refits" in text and "no interval is known" in text
    for name in ("alpha", "beta", "E", "a_N"):
        assert words.interval(*fit["intervals"][name]) not in text
    [member] = comparison.read_members([tmp_path])
    assert all(np.isnan(ends).all() for _, *ends in member.exponents.values())
    assert bootstraps.without_failed_intervals(files.read_json(workdirs[0] / "fit.json"))[1] == ""


@given(st.floats(-1e5, 1e5), st.floats(1e-6, 1e4))
def test_a_number_has_the_decimals_of_two_digits_of_its_error(value, error):
    text = words.to_error(value, error)
    plain = float(text.translate(str.maketrans({"−": "-", ",": ""})).replace(" × 10", "e").translate(
        str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))
    if "×" not in text and max(abs(value), error) >= 1e-4:
        assert abs(plain - value) <= max(0.05 * error, 0.5) * 1.001
        assert len(text.partition(".")[2]) <= max(0, 1 - np.floor(np.log10(error)))


def test_how_the_law_was_fitted_is_on_the_page(workdirs):
    text, fit = words_of(workdirs[1]).text, files.read_json(workdirs[1] / "fit.json")
    assert f"delta = {words.number(fit['delta'], 2)}" in text and "as measured from the residuals" in text
    assert "percentiles over 60 refits" in text and "all converged" in text
    assert "the same on all hardware" in text and "FLOPs executed" in text
    changed = fit | {"loss": "mse_log", "settings": {}, "bootstrap": None}
    said = " ".join(fitting.methods(reading.StudyFiles(*_bare(workdirs[1]), fit=changed)))
    assert "the square of the residual in the logarithm" in said and "No bootstrap was made" in said


def _bare(workdir):
    study = reading.read_study(workdir)
    return study.runs, study.cells, study.metric, study.unit
