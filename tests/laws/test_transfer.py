"""Effective data transferred is what was planted, and is unknown where nobody trained from scratch for as long."""

import numpy as np
import pandas as pd
import pytest

from scaling import laws

SIZES, AMOUNTS = (1e4, 1e5), np.geomspace(1e5, 1e8, 40)


def loss(n, d):
    return 1 + 5 * n**-0.2 + 40 * d**-0.4


def runs(n, d, y):
    return laws.Runs.from_dataframe(pd.DataFrame({"N": n, "D": d, "loss": y}))


def moved(n, d):
    return 30 * d**0.18 * n**0.38  # equation 1.1, for Python from text


SCRATCH = runs(*(np.array(x) for x in zip(*[(n, d, loss(n, d)) for n in SIZES for d in AMOUNTS])))
TUNED = [(n, d) for n in SIZES for d in (2e5, 4e5, 8e5)]


def test_planted_transfer_comes_back_with_its_exponents():
    n, d = map(np.array, zip(*TUNED))
    found = laws.effective_data(SCRATCH, runs(n, d, loss(n, d + moved(n, d))))
    np.testing.assert_allclose(found["D_E"], d + moved(n, d), rtol=0.01)
    np.testing.assert_allclose(found["D_T"], found["D_E"] - found["D_F"])
    slopes = np.linalg.lstsq(np.c_[np.ones(6), np.log(d), np.log(n)], np.log(found["D_T"]), rcond=None)[0]
    np.testing.assert_allclose(slopes[1:], (0.18, 0.38), atol=0.05)


def test_losses_beyond_those_from_scratch_have_no_amount_and_sizes_must_be_shared():
    found = laws.effective_data(SCRATCH, runs([1e4, 1e4, 1e4], [1e5, 2e5, 4e5], [1.0, 2.0, 99.0]))
    assert found["D_E"].notna().tolist() == [False, True, False]
    with pytest.raises(laws.LawError, match="no size has both .*: the sizes are N = 3 and N = 10000, 100000; train both"):
        laws.effective_data(SCRATCH, runs([3, 3], [1e5, 2e5], [2, 1]))


def test_noise_from_scratch_does_not_make_more_data_worse():
    noisy = runs([1e4] * 4, [1e5, 2e5, 4e5, 8e5], [3.0, 2.5, 2.6, 2.0])
    found = laws.effective_data(noisy, runs([1e4] * 3, [1e5] * 3, [2.9, 2.3, 2.1]))  # seeds of one run, with a mean of 2.43
    assert len(found) == 1 and 4e5 < found["D_E"][0] < 8e5
