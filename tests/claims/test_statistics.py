"""Intervals for claims hold the planted number about as often as they say."""

import numpy as np
import pandas as pd
import pytest

from scaling.claims import LEVEL, statistics


def held(estimates, truth):
    return np.mean([found.low <= truth <= found.high for found in estimates])


def near_level(share, trials):
    """The share of intervals that hold the truth agrees with the level, up to four standard errors of the trials."""
    return abs(share - LEVEL) < 4 * np.sqrt(LEVEL * (1 - LEVEL) / trials)


def test_means_slopes_and_pairs_cover():
    rng, trials = np.random.default_rng(0), 400
    means, slopes, pairs = [], [], []
    x = np.repeat(np.log([1e3, 4e3, 1.6e4, 6.4e4]), 3)
    for _ in range(trials):
        means.append(statistics.mean(rng.normal(2.0, 0.3, 4)))
        slopes.append(statistics.slope(x, -0.07 * x + rng.normal(0, 0.02, len(x))))
        shared = np.repeat(rng.normal(0, 0.5, 5), 2)  # of the seed, in both runs of a pair
        runs = pd.DataFrame({"seed": np.repeat(range(5), 2), "optimiser": ["a", "b"] * 5,
                             "loss": np.exp(shared + np.tile([0.0, -0.1], 5) + rng.normal(0, 0.03, 10))})
        pairs.append(statistics.paired(runs, "loss", "optimiser", "a", "b", ["seed"]))
    assert near_level(held(means, 2.0), trials) and near_level(held(slopes, -0.07), trials)
    assert near_level(held(pairs, -0.1), trials)
    assert np.median([found.high - found.low for found in pairs]) < 0.2  # the noise that a pair shares is gone


def test_a_bend_widens_the_interval_of_a_slope():
    x = np.linspace(0, 3, 5)
    straight, bent = (statistics.slope(x, -x + bend * (x - 1.5) ** 2) for bend in (1e-6, 0.2))
    assert bent.high - bent.low > 100 * (straight.high - straight.low)
    with pytest.raises(ValueError, match="three different x, and there are 2"):
        statistics.slope([0, 0, 1, 1], [1, 2, 3, 4])


def test_resamples_keep_the_cells_and_cover_a_function_of_many_runs():
    rng, found = np.random.default_rng(1), []
    for _ in range(40):
        size = np.repeat([1.0, 2.0], 20)
        runs = pd.DataFrame({"size": size, "loss": size + rng.normal(0, 0.2, len(size))})

        def ratio(table):
            assert list(table["size"]) == list(np.repeat([1.0, 2.0], 20))
            means = table.groupby("size").loss.mean()
            return means[2.0] / means[1.0]

        found.append(statistics.resampled(runs, ratio, ["size"], resamples=120))
    assert near_level(held(found, 2.0), 40)


def test_a_share_stays_between_0_and_1_and_covers():
    rng, p = np.random.default_rng(2), 0.15
    found = [statistics.share(int(k), 30) for k in rng.binomial(30, p, 500)]
    assert all(0 <= f.low <= f.value <= f.high <= 1 for f in found) and held(found, p) > 0.85


def test_one_value_decides_nothing_and_runs_without_partners_are_refused():
    assert statistics.mean([1.0]).low == -np.inf
    runs = pd.DataFrame({"seed": [0, 1], "optimiser": ["a", "b"], "loss": [1.0, 2.0]})
    with pytest.raises(ValueError, match="no run with optimiser=b shares seed"):
        statistics.paired(runs, "loss", "optimiser", "a", "b", ["seed"])


def test_a_jackknife_over_seeds_covers_a_function_of_means():
    rng, found, trials = np.random.default_rng(3), [], 200
    for _ in range(trials):
        runs = pd.DataFrame({"seed": np.tile(range(4), 2), "size": np.repeat([1.0, 2.0], 4)})
        runs["loss"] = runs["size"] + rng.normal(0, 0.1, 8)

        def ratio(table):
            means = table["loss"].groupby(table["size"]).mean()
            return means[2.0] / means[1.0]

        found.append(statistics.jackknife(runs, ratio, "seed"))
    assert near_level(held(found, 2.0), trials) and found[0].runs == 8
    assert statistics.jackknife(runs[runs["seed"] == 0], ratio, "seed").high == np.inf
    assert np.isnan(statistics.jackknife(runs, lambda table: np.nan, "seed").low)
