"""What limits a study stands at the top of its page, and at the console where it is known there."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from report_page import words_of
from report_study import DATA, SIZES, fill, image_record, record

from scaling.figures import words
from scaling.report import caveats, dataset, reading, tuning
from scaling.results import rates, tuned
from scaling.results.records import Records
from scaling.store import files
from scaling.study import recipe


def limits(workdir):
    return " ".join(caveats.caveats(reading.read_study(workdir)))


def test_repeated_data_is_said_with_how_often(tmp_path):
    for i, unique in enumerate((DATA[0], DATA[0] // 4)):
        Records(tmp_path).write(record(SIZES[0], DATA[0], 0.01, 2.0 + i) | {"tokens_unique": unique, "fingerprint": str(i)})
    said = limits(tmp_path)
    assert "Data repeat in 1 of 2 runs" in said and "up to 4 times" in said
    assert all(one in words_of(tmp_path).text for one in caveats.caveats(reading.read_study(tmp_path)))
    assert f"4 at {words.count(DATA[0])}" in dataset.repetition(reading.read_study(tmp_path))


def test_fresh_data_is_said_to_be_fresh(tmp_path):
    Records(tmp_path).write(record(SIZES[0], DATA[0], 0.01, 2.0))
    assert "repeat" not in limits(tmp_path) and "No run saw any" in dataset.repetition(reading.read_study(tmp_path))


@pytest.mark.parametrize("seed", range(3))
def test_every_cell_at_the_edge_is_named_on_the_page_and_at_the_console(tmp_path, seed):
    rng, tried = np.random.default_rng(seed), (0.001, 0.01, 0.1)
    at = {(n, d): int(rng.integers(3)) for n in SIZES for d in DATA}
    for (n, d), best in at.items():
        for i, rate in enumerate(tried):
            Records(tmp_path).write(record(n, d, rate, 2.0 + abs(i - best)))
    study = reading.read_study(tmp_path)
    said = recipe.edges(study.runs, study.cells)
    assert said == tuning.edge_sentences(tuned.learning_rates(study.runs, study.metric), study.unit)
    lost = sum(best != 1 for best in at.values())
    assert f"In {lost} of {len(at)} sweeps of the learning rate" in limits(tmp_path)
    for (n, d), best in at.items():
        named = [one for one in said
                 if one.startswith(f"At {words.count(n)} ") and f"{words.count(d)} " in one.replace(",", " ")]
        assert ["lowest" if "lowest" in one else "highest" for one in named] == (["lowest"], [], ["highest"])[best]


@pytest.mark.parametrize("value, noisy", [(0.01, False), (0.2, True)])
def test_models_whose_samples_are_noise_are_named(tmp_path, value, noisy):
    run = image_record(1_000, 4_096, 0.01, value)
    missed = 0.995 if noisy else run["missed"]
    Records(tmp_path).write(run | {"missed": missed, "coverage": 1 - missed})
    said = limits(tmp_path)
    assert ("The samples are noise" in said) == noisy and ("1k parameters on 4.1k examples" in said) == noisy


def test_a_model_that_only_guesses_is_named(tmp_path):
    Records(tmp_path).write(record(SIZES[0], DATA[0], 0.01, 8.02))
    Records(tmp_path).write(record(SIZES[1], DATA[0], 0.01, 3.0))
    assert f"no better than guessing at random (8 bits per byte): {words.count(SIZES[0])} parameters" in limits(tmp_path)


@pytest.mark.parametrize("metric, said, never", [
    ("bits_per_bite", "was not measured in any run", "diverged"),
    ("bits_per_byte", "not measured in 1 of 2 runs", "diverged,")])
def test_a_metric_that_is_missing_is_not_called_divergence(tmp_path, metric, said, never):
    Records(tmp_path).write(record(SIZES[0], DATA[0], 0.01, 2.0))
    Records(tmp_path).write(record(SIZES[1], DATA[0], 0.01, 2.0) | {"bits_per_byte": None})
    files.write_json(tmp_path / "study.json", {"metric": metric})
    text = words_of(tmp_path).text
    assert said in text and never not in text.split("Words of this page")[0].replace("none diverged", "")
    assert ("not measured" in text) and not reading.read_study(tmp_path).runs["diverged"].any()


def test_failed_parts_and_the_records_of_other_studies_are_said(tmp_path):
    for size in SIZES[:2]:
        Records(tmp_path).write(record(size, DATA[0], 0.01, 2.0))
    files.write_json(tmp_path / "study.json", {
        "metric": "bits_per_byte", "runs": [record(SIZES[0], DATA[0], 0.01, 2.0)["fingerprint"]],
        "failed": ["The samples could not be made: no prompt fits."]})
    text, study = words_of(tmp_path).text, reading.read_study(tmp_path)
    assert "1 record of other studies" in text and "no prompt fits" in text and len(study.runs) == 1
    assert words.count(SIZES[1]) not in text


def test_what_was_found_in_the_data_is_on_the_page(tmp_path):
    Records(tmp_path).write(record(SIZES[0], DATA[0], 0.01, 2.0) | {"evaluated": 32_768, "bits_per_byte_se": 0.012})
    contents = {"documents": 1_234, "bytes": 5_600_000, "units": 4_000_000, "left_out": {"duplicate": 12, "binary": 0},
                "notes": ["Long documents were divided."]}
    found = {"name": "text:a.txt", "fingerprint": "f00d", "contents": contents}
    files.write_json(tmp_path / "study.json", {"data": [found]})
    text = words_of(tmp_path).text
    for said in ("1,234 documents", "5.6 MB", "4M tokens to train on", "12 (duplicate)", "Long documents were divided.",
                 "evaluated on 32,768 tokens", "0.012"):
        assert said in text
    assert "binary" not in text


def test_the_rule_of_the_targets_learning_rate_is_on_the_page(tmp_path_factory):
    whole = tmp_path_factory.mktemp("whole")
    fill(whole, without=("curves",))
    study = reading.read_study(whole)
    target = study.forecast["target"]
    rule = rates.target_rate(study.cells, target[tuned.PARAMS], target["tokens_seen"])
    assert rule.low < rule.rate < rule.high
    for rate, said in ((rule.rate, rule.sentence), (rule.rate * 1.3, "which the study's config chose")):
        study.forecast["target"]["learning_rate"] = rate
        assert said in tuning.rate_of_target(study)
    assert "The learning rate of the target is" in words_of(whole).text
    shutil.rmtree(whole)
