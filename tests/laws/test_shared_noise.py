"""The bootstrap "noise cluster": runs of a cluster share a part of their errors, which a fit absorbs and residuals hide."""
import numpy as np
import pytest
from simulated import PLANTED, planted

from scaling import laws
from scaling.laws.fitting.fit import refit
from scaling.laws.intervals import resample
from scaling.laws.intervals.uncertainty import bootstrap, resamples, residual_spread

SHARED, NOISE = 0.6, 0.004


def study(rng, shared=SHARED):
    """16 runs of an additive law, whose four sizes have a trunk each: (table with the column trunk)."""
    table, mean = planted("chinchilla", 16)
    trunk = np.unique(table.N, return_inverse=True)[1]
    error = np.sqrt(shared) * rng.standard_normal(4)[trunk] + np.sqrt(1 - shared) * rng.standard_normal(16)
    return table.assign(loss=mean * np.exp(NOISE * error), trunk=trunk)


def test_the_size_of_errors_is_found_behind_residuals_that_hide_a_part():
    table, mean = planted("chinchilla", 16)
    law = laws.fit(table.assign(loss=mean * np.exp(1e-4 * np.random.default_rng(1).standard_normal(16))), loss="mse_log")
    numbers = np.unique(table.N, return_inverse=True)[1]
    rng, draws = np.random.default_rng(0), 600
    y, weights = resamples(law, "noise cluster", numbers, np.full(draws, NOISE), rng, SHARED)
    errors = np.log(y / law.predicted)
    assert errors.std() == pytest.approx(NOISE, rel=0.05)
    alike = np.flatnonzero(numbers == numbers[0])[1]
    assert np.corrcoef(errors[:, 0], errors[:, alike])[0, 1] == pytest.approx(SHARED, abs=0.1)
    found = refit(law, y, weights)
    left = ((np.log(y) - np.log(law.form.predict(found.vectors, law.logs))) ** 2).sum(1).mean() / law.degrees_of_freedom
    factor = resample.absorbed(law, numbers, SHARED)
    assert factor > 1.2 and np.sqrt(left) * factor == pytest.approx(NOISE, rel=0.05)


def test_without_a_shared_part_it_is_the_bootstrap_of_noise():
    law = laws.fit(study(np.random.default_rng(2)), loss="mse_log")
    one, two = bootstrap(law, 50, "noise"), bootstrap(law, 50, "noise", cluster="trunk", correlation=0.0)
    assert two.method == "noise cluster" and two.cluster == "trunk"
    spare, count = law.degrees_of_freedom, 4
    assert residual_spread(law) == pytest.approx(np.median(two.noise), rel=0.4) and spare > count - 1
    assert set(one.draws) == set(two.draws)


def test_more_sharing_makes_wider_intervals():
    law = laws.fit(study(np.random.default_rng(2)), loss="mse_log")
    widths = [np.ptp(bootstrap(law, 200, "noise", cluster="trunk", correlation=part).predict(N=2e6, D=1e8, noise=False))
              for part in (0.0, 0.5, 0.8)]
    assert widths[0] < widths[1] < widths[2]


@pytest.mark.parametrize("options, words", [
    ({"cluster": "trunk", "correlation": 1.0}, "correlation must be at least 0 and below 1"),
    ({"method": "noise cluster"}, "needs cluster=, a column of the runs"),
])
def test_what_makes_no_sense_is_refused(options, words):
    law = laws.fit(study(np.random.default_rng(2)))
    with pytest.raises(laws.LawError, match=words):
        bootstrap(law, 20, **{"method": "noise", **options})


@pytest.mark.slow
def test_predictions_of_clustered_studies_cover():
    """A run of ten times the compute. Taking runs as independent covers less."""
    truth, held = PLANTED["chinchilla"], np.zeros(2)
    at = {"N": 1.6e6, "D": 1e8}
    mean = truth["E"] + truth["A"] * at["N"] ** -truth["alpha"] + truth["B"] * at["D"] ** -truth["beta"]
    for seed in range(150):
        rng = np.random.default_rng([7, seed])
        law = laws.fit(study(rng, 0.8), delta="noise")
        observed = mean * np.exp(NOISE * rng.standard_normal())
        for k, options in enumerate(({}, {"cluster": "trunk", "correlation": 0.8})):
            low, high = bootstrap(law, 150, "noise", **options).predict(**at)
            held[k] += low <= observed <= high
    print(held / 150)
    assert 0.83 <= held[1] / 150 <= 0.97 and held[0] < held[1]
