"""Tuned runs with several seeds, and the trends computed from them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from report_study import image_record, record

from scaling.results import tuned

METRIC = "bits_per_byte"


def frame(rows):
    """Clean records of (params, data, rate, seed, loss); a loss of NaN diverged."""
    return tuned.clean(pd.json_normalize([
        record(n, d, rate, loss) | {"seed": seed, "fingerprint": f"{n}-{d}-{rate}-{seed}"}
        for n, d, rate, seed, loss in rows]), METRIC)


def several(rng, seeds=4):
    """Random losses at two sizes, two amounts of data, three rates, and some diverged."""
    return [(n, d, rate, seed, math.nan if rng.random() < 0.1 else 2 + rng.normal())
            for n in (1_000, 4_000) for d in (10_000, 40_000) for rate in (0.001, 0.01, 0.1)
            for seed in range(seeds)]


@pytest.mark.parametrize("seed", range(8))
def test_tuned_is_the_rate_of_the_best_mean_over_seeds(seed):
    rows = several(np.random.default_rng(seed))
    cells = tuned.tuned_cells(frame(rows), METRIC).set_index([tuned.PARAMS, "data"])
    for key in {row[:2] for row in rows}:
        here = [row for row in rows if row[:2] == key]
        losses = {rate: [row[4] for row in here if row[2] == rate] for rate in (0.001, 0.01, 0.1)}
        survived = {rate: [x for x in found if not math.isnan(x)] for rate, found in losses.items()}
        means = {rate: np.mean(found) for rate, found in survived.items() if found}
        whole = [rate for rate in means if len(survived[rate]) == len(losses[rate])]
        best = min(whole or means, key=means.get)
        cell, kept = cells.loc[key], survived[best]
        assert cell["learning_rate"] == best and cell["seeds"] == len(kept)
        assert cell[METRIC] == pytest.approx(means[best])
        assert cell[f"{METRIC}_seeds_se"] == pytest.approx(np.std(kept, ddof=1) / math.sqrt(len(kept)))
        named = {f"{n}-{d}-{rate}-{s}": loss for n, d, rate, s, loss in here
                 if rate == best and not math.isnan(loss)}
        assert sorted(cell["fingerprints"]) == sorted(named)
        assert abs(named[cell["fingerprint"]] - means[best]) == min(abs(x - means[best]) for x in kept)


def test_the_luckiest_seed_does_not_choose_the_rate():
    lucky, steady = (0.01, [1.0, 3.0, 3.0]), (0.02, [2.0, 2.0, 2.0])
    runs = frame([(1_000, 10_000, rate, seed, loss) for rate, losses in (lucky, steady)
                  for seed, loss in enumerate(losses)])
    assert tuned.tuned_cells(runs, METRIC)["learning_rate"].tolist() == [0.02]
    assert tuned.learning_rates(runs, METRIC)["best"].tolist() == [0.02]


def test_a_rate_with_a_diverged_seed_wins_only_where_all_rates_have_one():
    risky = [(1_000, 10_000, 0.1, 0, 1.0), (1_000, 10_000, 0.1, 1, math.nan)]
    safe = (1_000, 10_000, 0.01, 0, 1.5)
    assert tuned.tuned_cells(frame([*risky, safe]), METRIC)["learning_rate"].tolist() == [0.01]
    [only] = tuned.tuned_cells(frame(risky), METRIC).to_dict("records")
    assert (only["learning_rate"], only["seeds"], only["seeds_diverged"]) == (0.1, 1, 1)


def test_only_runs_that_differ_in_their_seed_alone_are_averaged():
    rows = [record(1_000, 10_000, 0.01, 2.0) | {"fingerprint": "a"},
            record(1_000, 10_000, 0.01, 2.2) | {"fingerprint": "b", "weight_decay": 0.3},
            record(1_000, 10_000, 0.01, 2.4) | {"fingerprint": "c", "optim.betas": [0.9, 0.99]}]
    table = tuned.trials(tuned.clean(pd.DataFrame(rows), METRIC), METRIC)
    assert sorted(table["fingerprint"]) == ["a", "b", "c"] and set(table["seeds"]) == {1}


def test_every_metric_is_the_mean_of_the_same_seeds():
    runs = [image_record(1_000, 4_096, 0.01, value, seed) for seed, value in enumerate((0.1, 0.2, 0.6))]
    [cell] = tuned.tuned_cells(tuned.clean(pd.DataFrame(runs), "fd_infinity"), "fd_infinity").to_dict("records")
    for metric in ("fd_infinity", "fd", "kid", "fd_infinity_font"):
        assert cell[metric] == pytest.approx(np.mean([run[metric] for run in runs]))
    assert cell["fingerprint"] == runs[1]["fingerprint"] and len(cell["fingerprints"]) == 3


def test_a_metric_that_rises_is_tuned_upwards():
    runs = tuned.clean(pd.DataFrame([image_record(1_000, 4_096, rate, value)
                                      for rate, value in ((0.1, 0.05), (0.01, 0.15))]), "coverage")
    assert tuned.tuned_cells(runs, "coverage")["learning_rate"].tolist() == [0.1]
    assert tuned.tuned_cells(runs, "missed")["learning_rate"].tolist() == [0.1]


def test_runs_on_repeated_data_are_not_tuned_against_runs_on_fresh_data():
    runs = tuned.clean(pd.DataFrame([
        {"params_non_embedding": 10, "examples_seen": 100, "examples_unique": unique, "learning_rate": 0.1, "seed": 0,
         "fd_infinity": distance, "fingerprint": str(unique)}
        for unique, distance in ((20, 0.1), (100, 0.2))]), "fd_infinity")
    assert tuned.tuned_cells(runs, "fd_infinity")["fingerprint"].tolist() == ["100"]
    assert sorted(tuned.repeated_cells(runs, "fd_infinity")["fingerprint"]) == ["100", "20"]


def test_the_error_of_a_cell_joins_seeds_and_evaluation():
    cells = pd.DataFrame({"kid": [1.0] * 4, "kid_seeds_se": [3.0, np.nan, 3.0, np.nan],
                          "kid_se": [4.0, 4.0, np.nan, np.nan]})
    np.testing.assert_allclose(tuned.standard_error(cells, "kid"), [5.0, 4.0, 3.0, np.nan])
    assert tuned.standard_error(cells, "fd").isna().all()


def test_repeated_data_is_compared_at_the_most_data_seen():
    runs = tuned.clean(pd.DataFrame([image_record(1_000, seen, 0.01, 1 / unique, unique=unique)
                                      for seen in (4_096, 65_536) for unique in (512, 2_048)]), "fd_infinity")
    table = tuned.repeated_cells(runs, "fd_infinity")
    assert table["data"].tolist() == [65_536] * 2 and table["unique"].tolist() == [512, 2_048]
    assert tuned.repeated_cells(runs[runs["unique"] == 512], "fd_infinity").empty


def test_the_effect_of_data_is_the_planted_one_and_its_interval_covers():
    rng, held, wide, trials = np.random.default_rng(0), 0, 0, 400
    sizes = np.array([1e3, 4e3, 1.6e4, 6.4e4])
    for _ in range(trials):
        metric = np.concatenate([sizes**-0.3, 0.8 * sizes**-0.3]) * np.exp(0.1 * rng.normal(size=8))
        cells = pd.DataFrame({tuned.PARAMS: np.tile(sizes, 2), "data": np.repeat([100.0, 1600.0], 4),
                              METRIC: metric})
        found = tuned.mean_effect(cells, "data", tuned.PARAMS, METRIC)
        assert found.factor == 16 and found.pairs == 4
        held += found.low < 0.8 < found.high
        wide += found.ratio
    assert wide / trials == pytest.approx(0.8, rel=0.02)
    assert abs(held / trials - 0.9) < 0.05  # three standard errors of the share


def test_an_effect_without_pairs_has_no_interval_or_is_none():
    one = pd.DataFrame({tuned.PARAMS: [1e3, 4e3], "data": [100.0, 100.0], METRIC: [2.0, 1.0]})
    assert tuned.mean_effect(one, "data", tuned.PARAMS, METRIC) is None
    found = tuned.mean_effect(one, tuned.PARAMS, "data", METRIC)
    assert found.ratio == pytest.approx(0.5) and math.isnan(found.low) and math.isnan(found.high)
    assert tuned.mean_effect(one.assign(**{METRIC: [2.0, -0.1]}), tuned.PARAMS, "data", METRIC) is None


def test_diverged_runs_are_counted_where_they_are():
    rows = several(np.random.default_rng(3))
    found = tuned.count_diverged(frame(rows)).set_index([tuned.PARAMS, "data"])
    for key in {row[:2] for row in rows}:
        lost = [math.isnan(row[4]) for row in rows if row[:2] == key]
        assert tuple(found.loc[key]) == (len(lost), sum(lost))
    assert tuned.count_diverged(frame([row for row in rows if not math.isnan(row[4])])) is None
