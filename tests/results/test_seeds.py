"""The noise of seeds, and the part that runs of a trunk share, are those that were planted."""
import numpy as np
import pandas as pd
import pytest

from scaling.results import tuned
from scaling.results.seeds import ASSUMED, seed_noise, size_labels

SIZES, DATA = [1_000, 4_000, 16_000], [10_000, 20_000, 40_000, 80_000]


def records(seeds, noise=0.01, shared=0.6, rng=0):
    """Runs of several seeds at one learning rate, whose trunk has a part of the variance of their errors."""
    rng, rows = np.random.default_rng(rng), []
    for size in SIZES:
        for seed in range(seeds):
            trunk = rng.standard_normal()
            for data in DATA:
                error = noise * (np.sqrt(shared) * trunk + np.sqrt(1 - shared) * rng.standard_normal())
                rows.append({"fingerprint": f"{size}-{data}-{seed}", "role": "sweep", "params_non_embedding": size,
                             "tokens_seen": data, "tokens_unique": data, "flops": 6.0 * size * data, "learning_rate": 0.01,
                             "seed": seed, "loss": 3 * size ** -0.1 * data ** -0.05 * np.exp(error), "diverged": False})
    return tuned.clean(pd.DataFrame(rows), "loss")


def measured(seeds, **changes):
    runs = records(seeds, **changes)
    return seed_noise(runs, tuned.tuned_cells(runs, "loss"), "loss")


def test_planted_noise_and_its_shared_part_come_back():
    found = [measured(4, rng=i) for i in range(30)]
    assert all(one.measured and one.degrees == 36 for one in found)
    assert np.sqrt(np.mean([one.variance for one in found])) == pytest.approx(0.01, rel=0.08)
    assert np.mean([one.shared for one in found]) == pytest.approx(0.6, abs=0.08)
    assert np.mean([measured(4, shared=0.0, rng=i).shared for i in range(15)]) < 0.12


def test_one_seed_tells_nothing_and_few_leave_the_part_assumed():
    one = measured(1)
    assert np.isnan(one.variance) and (one.shared, one.measured, one.degrees) == (ASSUMED, False, 0)
    runs = records(2)
    few = runs[(runs["seed"] == 0) | (runs["data"] == DATA[0])]
    found = seed_noise(few, tuned.tuned_cells(few, "loss"), "loss")
    assert found.degrees == 3 and np.isfinite(found.variance) and not found.measured and found.shared == ASSUMED


def test_a_metric_of_either_sign_is_taken_as_it_is():
    runs = records(3)
    runs["loss"] -= 5.0
    found = seed_noise(runs, tuned.tuned_cells(runs, "loss"), "loss", log=False)
    assert np.isfinite(found.variance) and found.variance > 0


def test_runs_of_one_size_share_the_luck_of_their_seeds_at_any_rate():
    cells = tuned.tuned_cells(records(1), "loss")
    assert size_labels(cells).nunique() == len(SIZES)
    cells.loc[cells["data"] == DATA[-1], "learning_rate"] = 0.02
    assert size_labels(cells).nunique() == len(SIZES)
