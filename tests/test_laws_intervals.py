"""Intervals hold what they say: in simulations of planted laws, 90% intervals cover about 90% of the time."""
import numpy as np
import pandas as pd
import pytest

from scaling import laws
from scaling.laws import uncertainty
from test_laws import TRUTH, grid

SMALL = {"E": 1.0, "A": 25.0, "B": 150.0, "alpha": 0.3, "beta": 0.35}


def planted(rng, noise, models=4, sizes=4):
    """A quickstart's grid: a factor 50 in N and 8 in D, and a target run of ten times the largest compute."""
    N, D = (v.ravel() for v in np.meshgrid(np.geomspace(1e4, 5e5, models), np.geomspace(1e6, 8e6, sizes)))
    target = 5e5 * 10 ** 0.5, 8e6 * 10 ** 0.5

    def law(n, d):
        return SMALL["E"] + SMALL["A"] * n ** -SMALL["alpha"] + SMALL["B"] * d ** -SMALL["beta"]
    loss = law(N, D) * np.exp(noise * rng.standard_normal(N.shape))
    observed = law(*target) * np.exp(noise * rng.standard_normal())
    points = pd.DataFrame({"params_non_embedding": N, "tokens_seen": D, "bits_per_byte": loss})
    return points, target, law(*target), observed


def coverage(studies, draws, noise, delta, seed=0):
    """Share of simulated studies whose 90% intervals hold: each parameter, the law at the target, the
    target's run."""
    rng = np.random.default_rng(seed)
    hits = {name: 0 for name in [*SMALL, "law at target", "forecast"]}
    for study in range(studies):
        points, target, truth, observed = planted(rng, noise)
        boot = laws.bootstrap(laws.fit(points, delta=delta), draws=draws, seed=study)
        held = {name: boot.interval(name) for name in SMALL} | {
            "law at target": boot.predict(*target, noise=False), "forecast": boot.predict(*target)}
        true = SMALL | {"law at target": truth, "forecast": observed}
        for name, (low, high) in held.items():
            hits[name] += low <= true[name] <= high
    return {name: count / studies for name, count in hits.items()}


@pytest.mark.parametrize("delta", [1e-3, "noise-scaled"])
def test_intervals_cover_in_a_small_simulation(delta):
    # Of 120 studies, fewer than 93 hits happen once in 700 times when the true coverage is 0.87, and all 120
    # once in 500 when it is 0.95: a test for gross errors. The slow one below is the measurement.
    for name, share in coverage(120, 150, 0.005, delta).items():
        assert 93 / 120 <= share < 1, (name, share)


@pytest.mark.slow
@pytest.mark.parametrize("delta", [1e-3, "noise-scaled"])
@pytest.mark.parametrize("noise", [0.002, 0.005])
def test_intervals_cover_between_85_and_95_percent(delta, noise):
    for name, share in coverage(600, 300, noise, delta).items():
        assert 0.85 <= share <= 0.95, (name, share)


def test_clustered_runs_need_a_cluster_bootstrap():
    """Runs that share a seed's error: resampling rows takes them for independent, and its intervals are too
    narrow."""
    points = pd.concat([grid(6, 6)] * 4, ignore_index=True)
    rng = np.random.default_rng(1)
    points["group"] = np.tile(np.arange(36), 4)
    points["bits_per_byte"] *= np.exp(0.004 * rng.standard_normal(36)[points["group"]]
                                      + 0.0005 * rng.standard_normal(len(points)))
    law = laws.fit(points, delta="noise-scaled")
    rows, groups = laws.bootstrap(law, 300), laws.bootstrap(law, 300, cluster="group")
    assert rows.method == "case" and groups.method == "cluster"
    for name in TRUTH:
        assert groups.standard_errors()[name] > 1.4 * rows.standard_errors()[name]


def test_refits_are_the_optima_of_their_resamples():
    points = grid(5, 5, noise=0.005)
    law = laws.fit(points)
    weights = np.random.default_rng(0).multinomial(25, np.full(25, 1 / 25), size=40).astype(float)
    found = uncertainty.refit(law, law.loss, weights)
    assert found.converged.all()
    alone = [laws.fit(points, weights=weight) for weight in weights]
    gap = found.objective / [law.objective for law in alone] - 1
    assert np.abs(gap).max() < 1e-2 and np.mean(np.abs(gap) < 1e-9) >= 0.95
    for vector, one in zip(found.vectors[np.abs(gap) < 1e-9], np.array(alone)[np.abs(gap) < 1e-9]):
        np.testing.assert_allclose(vector, one.vector, rtol=1e-3)


def test_a_prediction_interval_is_wider_than_the_laws_own():
    law = laws.fit(grid(noise=0.005))
    boot = laws.bootstrap(law, 300)
    at = np.array([1e9, 1e10]), 1e11
    inner, outer = boot.predict(*at, noise=False), boot.predict(*at)
    assert (outer[0] < inner[0]).all() and (inner[1] < outer[1]).all()
    wider = boot.predict(*at, level=0.99)
    assert (wider[0] < outer[0]).all() and (wider[1] > outer[1]).all()
    assert (boot.predict(*at)[0] == outer[0]).all()


def test_the_same_seed_gives_the_same_draws_and_another_others():
    law = laws.fit(grid(noise=0.005))
    one, two, other = (laws.bootstrap(law, 20, seed=s).draws for s in (0, 0, 1))
    pd.testing.assert_frame_equal(one, two)
    assert not np.allclose(one, other)


def test_an_interval_at_a_bound_says_so():
    boot = laws.bootstrap(laws.fit(grid(4, 4, noise=0.05, truth=TRUTH | {"E": 0.2})), 200)
    assert boot.interval("E")[0] == 0 and any("E = 0 in" in line for line in boot.diagnostics)


@pytest.mark.parametrize("options, words", [
    ({"cluster": "family"}, "no column 'family'"), ({"method": "jackknife"}, "method must be"),
    ({"method": "cluster"}, "go together"), ({"draws": 1}, "draws must be")])
def test_bad_requests_give_one_sentence(options, words):
    with pytest.raises(laws.LawError, match=words):
        laws.bootstrap(laws.fit(grid(noise=0.005)), **options)


def test_no_degrees_of_freedom_no_interval():
    with pytest.raises(laws.LawError, match="degrees of freedom"):
        laws.bootstrap(laws.fit(grid(3, 3, noise=0.005).iloc[[0, 2, 4, 6, 8]]))
    with pytest.raises(laws.LawError, match="no parameter 'gamma'"):
        laws.bootstrap(laws.fit(grid(noise=0.005)), 10).interval("gamma")
    with pytest.raises(laws.LawError, match="level must lie"):
        laws.bootstrap(laws.fit(grid(noise=0.005)), 10).interval("alpha", 90)
