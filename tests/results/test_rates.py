"""The rate of a target follows the priors where the runs say nothing, and the runs where they say much."""

import numpy as np
import pandas as pd
import pytest

from scaling.results import rates
from scaling.results.tuned import PARAMS


def cells(sizes, amounts, rate):
    return pd.DataFrame([{PARAMS: n, "tokens_seen": d, "learning_rate": rate(n, d)} for n in sizes for d in amounts])


def test_one_tuned_cell_transfers_by_the_priors():
    rule = rates.target_rate(cells([1e4], [1e6], lambda n, d: 8e-3), 1e6, 1e8)
    assert rule.rate == pytest.approx(8e-3 * 100**-0.3) and rule.nearest == pytest.approx(8e-3)
    # the error of the rate itself, and of the two exponents over their ranges
    spread = np.sqrt(rates.LEAST_ERROR**2 + (0.15 * np.log(1e2))**2 + (0.1 * np.log(1e2))**2)
    assert np.log(rule.high / rule.rate) == pytest.approx(rates.Z * spread)
    assert rule.low * rule.high == pytest.approx(rule.rate**2)


@pytest.mark.parametrize(("a", "b"), [(0.0, -0.3), (-0.2, -0.1), (0.1, -0.5)])
def test_many_cells_over_a_wide_range_overrule_the_priors(a, b):
    table = cells(np.geomspace(1e3, 1e7, 9), np.geomspace(1e5, 1e9, 9), lambda n, d: 0.1 * n**a * (d / 1e5)**b)
    rule = rates.target_rate(table, 1e8, 1e10)
    assert rule.exponents["N"][0] == pytest.approx(a, abs=0.01) and rule.exponents["D"][0] == pytest.approx(b, abs=0.01)
    assert rule.rate == pytest.approx(0.1 * 1e8**a * 1e5**b, rel=0.2)


def test_a_coarse_grid_leaves_more_to_the_priors_than_a_fine_one():
    def found(factor):
        def rate(n, d):
            return float(factor ** np.round(np.log(0.01 * (d / 1e6)**-0.6) / np.log(factor)))
        return rates.target_rate(cells([1e4], [1e6, 2e6, 4e6, 8e6], rate), 1e4, 1e7)

    coarse, fine = found(2.0), found(1.02)
    assert fine.exponents["D"][0] < coarse.exponents["D"][0] < -0.3
    assert coarse.high / coarse.low > fine.high / fine.low


def test_intervals_cover_the_rates_of_larger_runs():
    """Planted exponents from the priors, best rates on a grid of factor 2 with its error: the interval covers about 90%."""
    rng = np.random.default_rng(0)

    def covered():
        a, b, level = rng.normal(0, 0.15), rng.normal(-0.3, 0.1), 0.01 * 2 ** rng.uniform(0, 1)
        table = cells([1e4, 4e4, 1.6e5], [1e6, 4e6, 1.6e7],
                      lambda n, d: 2 ** np.round(np.log2(level * (n / 1e4)**a * (d / 1e6)**b)))
        rule = rates.target_rate(table, 1e6, 1e8)
        return rule.low <= level * 100**a * 100**b <= rule.high

    assert 0.85 <= np.mean([covered() for _ in range(400)]) <= 0.97


def test_the_sentence_says_the_rate_its_interval_and_the_exponents():
    rule = rates.target_rate(cells([1e4, 1e5], [1e6, 1e7], lambda n, d: 0.01 * (d / 1e6)**-0.3), 1e6, 1e8)
    for said in (f"{rule.rate:.3g}", f"{rule.low:.3g} to {rule.high:.3g}", "4 tuned cells", "D^(-0.30", "N^("):
        assert said in rule.sentence


def test_the_best_rate_is_the_vertex_of_a_parabola_in_its_logarithm():
    curve = {rate: 2 + 0.1 * np.log(rate / 0.011)**2 for rate in (0.004, 0.008, 0.016, 0.032)}
    rate, loss, edge = rates.vertex(curve)
    assert rate == pytest.approx(0.011) and loss == pytest.approx(2) and not edge
    assert rates.vertex({0.1: 3.0, 0.2: 2.0}) == (0.2, 2.0, True)


def test_the_critical_batch_size_is_the_noise_scale():
    signal, noise = 0.02, 1.3
    squares = {batch: signal + noise / batch for batch in (4, 16, 256)}
    assert rates.critical_batch(squares) == pytest.approx(noise / signal)
    assert rates.critical_batch({8: 1.0, 16: 0.5}) == np.inf
    with pytest.raises(ValueError, match="two batch sizes"):
        rates.critical_batch({8: 1.0})


def test_the_critical_batch_size_of_a_linear_regression_is_found_from_its_gradients():
    rng = np.random.default_rng(0)
    weights, at = rng.normal(size=4), np.zeros(4)
    x = rng.normal(size=(200_000, 4))
    each = 2 * ((x @ at - x @ weights - rng.normal(size=len(x)))[:, None] * x)
    truth = each.var(0).sum() / np.square(each.mean(0)).sum()
    squares = {b: np.square(each.reshape(-1, b, 4).mean(1)).sum(1).mean() for b in (2, 8, 32)}
    assert rates.critical_batch(squares) == pytest.approx(truth, rel=0.03)
