"""The exponent of the best size by the law and by the two arms: equal where the law is right, apart where it is not."""
import json

import numpy as np
import pandas as pd
import pytest

from scaling import laws
from scaling.laws.optimum.exponents import size_exponents

ALPHA, BETA = 0.45, 0.35


def runs(combine, noise=0.001, seed=0, sizes=6, data=6):
    """Runs whose loss is 1 plus two powers, put together by `combine`."""
    N, D = (v.ravel() for v in np.meshgrid(np.geomspace(1e5, 3e7, sizes), np.geomspace(1e6, 1e9, data)))
    loss = 1 + combine(150 * N ** -ALPHA, 120 * D ** -BETA)
    normal = np.random.default_rng(seed).standard_normal(len(N))
    return pd.DataFrame({"N": N, "D": D, "loss": loss * np.exp(noise * normal)})


def test_both_ways_find_the_planted_exponent_under_the_additive_law():
    law = laws.fit(runs(np.add), loss="mse_log")
    found = size_exponents(law, laws.bootstrap(law, 100))
    truth = BETA / (ALPHA + BETA)
    assert found.by_law == pytest.approx(law.params["beta"] / (law.params["alpha"] + law.params["beta"]), abs=1e-3)
    for low, high in (found.law_interval, found.arms_interval):
        assert low < truth < high
    assert found.by_arms == pytest.approx(truth, abs=0.05) and found.agree
    assert found.arms["alpha"][1] < ALPHA < found.arms["alpha"][2] and found.arms["beta"][1] < BETA < found.arms["beta"][2]


@pytest.mark.parametrize("form", ["power_mean", "bounded", "interaction"])
def test_any_law_in_n_and_d_has_a_slope(form):
    law = laws.fit(runs(np.add), form, loss="mse_log", quick=True)
    assert size_exponents(law, draws=20).by_law == pytest.approx(BETA / (ALPHA + BETA), abs=0.05)


def test_the_ways_part_where_terms_do_not_add_up():
    """The larger of two terms alone: an additive law is wrong about the exponents, and each arm is not."""
    points = runs(lambda a, b: np.maximum(a, b), noise=0.0005, sizes=8, data=8)
    law = laws.fit(points, loss="mse_log")
    found = size_exponents(law, laws.bootstrap(law, 100))
    truth = BETA / (ALPHA + BETA)
    assert abs(found.by_arms - truth) < 0.7 * abs(found.by_law - truth)
    right = laws.fit(points, "power_mean", loss="mse_log", quick=True)
    assert size_exponents(right, draws=20).by_law == pytest.approx(truth, abs=0.03)


def test_few_levels_leave_out_the_arms_with_a_sentence():
    law = laws.fit(runs(np.add, sizes=3), loss="mse_log")
    found = size_exponents(law)
    assert np.isnan(found.by_arms) and np.isfinite(found.by_law) and set(found.arms) == {"beta"}
    assert found.left_out == ["no exponent by the two arms: fewer than 4 levels of N at the largest D"]
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["by_arms"] is None and "by the law" in str(found)


def test_other_inputs_are_refused():
    law = laws.fit({"x": [1.0, 2.0, 4.0, 8.0], "y": [3.0, 2.0, 1.5, 1.2]}, "power")
    with pytest.raises(laws.LawError, match="needs a law in N and D; power is in x"):
        size_exponents(law)


@pytest.mark.slow
def test_the_interval_of_the_arms_covers():
    truth, held = BETA / (ALPHA + BETA), []
    for seed in range(100):
        found = size_exponents(laws.fit(runs(np.add, 0.004, seed), loss="mse_log"), draws=150)
        held.append(found.arms_interval[0] <= truth <= found.arms_interval[1])
    assert 0.8 <= np.mean(held) <= 0.98
