"""Bootstraps of every kind of fit: the resamples, the warnings, and the requests that are refused."""
import json

import numpy as np
import pandas as pd
import pytest
from simulated import noisy, planted

from scaling.laws import Runs
from scaling.laws.fitting.fit import EFFICIENT, refit
from scaling.laws.fitting.search import fit, fit_again
from scaling.laws.forms.form import LawError
from scaling.laws.intervals import resample, uncertainty
from scaling.laws.intervals.uncertainty import bootstrap


@pytest.fixture(scope="module")
def law():
    return fit(Runs.from_dataframe(noisy("chinchilla", 25)(np.random.default_rng(3)).assign(
        group=np.tile(np.arange(5), 5))))


@pytest.mark.parametrize("loss", ["huber_log", "mse", "huber_log1p", "mse_log"])
@pytest.mark.parametrize("form, options", [
    ("chinchilla", {"fix": {"E": 1.0}}), ("chinchilla", {"tie": {"beta": "alpha"}}), ("shifted_power", {}),
    ("power", {})])
def test_every_method_works_with_every_objective_and_restricted_forms(form, options, loss):
    kind = "saturating_power" if form == "shifted_power" else form
    table = noisy(kind, 16)(np.random.default_rng(0)).assign(group=np.arange(16) % 8)
    law = fit(Runs.from_dataframe(table), form, loss=loss, **options)
    for method, cluster in (("case", None), ("noise", None), ("wild", None), ("cluster", "group"),
                            ("wild", "group")):
        boot = bootstrap(law, 20, method, cluster)
        errors = boot.standard_errors()
        for name in law.form.names:
            fixed = name in law.form.fixed
            assert (errors[name] < 1e-9) == fixed, (method, name)
            assert fixed or np.all(np.isfinite(boot.interval(name)))
        if "tie" in options:
            np.testing.assert_allclose(boot.draws["beta"], boot.draws["alpha"])
        assert np.isfinite(boot.predict(*np.exp(law.logs[:, :3]))).all()
        json.dumps(boot.to_json(), allow_nan=False)


def test_errors_for_the_wild_bootstrap_are_residuals_without_their_cluster():
    """Exact for least squares of a law that is linear in its free parameters."""
    table, mean = planted("saturating_power", 12)
    noise = 0.01 * np.random.default_rng(1).standard_normal(12)
    table = table.assign(loss=mean + noise, group=np.arange(12) // 3)
    law = fit(Runs.from_dataframe(table), "saturating_power", loss="mse", fix={"alpha": 0.25})
    numbers, _ = resample.cluster_numbers(law, "group")
    without = []
    for g in range(4):
        other = fit_again(law, law.runs.select(numbers != g, "left out"))
        without += [*(law.y - law.form.predict(other.vector[None], law.logs)[0])[numbers == g]]
    near = np.abs(law.residuals) < EFFICIENT * law.noise
    assert near.sum() > 6
    found = resample.errors(law, numbers) / np.sqrt(3 / 4)
    if near.all():
        np.testing.assert_allclose(found, without, rtol=1e-6)
    else:
        assert np.corrcoef(found, without)[0, 1] > 0.9


def test_errors_are_not_zero_where_the_fit_passes_through_points(law):
    """A small delta pins the law to about P of its points, where the residuals are smaller than the errors."""
    pinned = np.abs(law.residuals) < law.spec.delta
    assert pinned.sum() >= 5
    errors = resample.errors(law, np.arange(25))
    rms = [np.sqrt(np.mean(values[pinned] ** 2)) for values in (law.residuals, errors)]
    assert rms[0] < 0.2 * 0.005 and rms[1] > 1.5 * rms[0]
    assert 0.7 < np.sqrt(np.mean(errors ** 2)) / 0.005 < 1.6


def test_signs_have_mean_zero_and_variance_one():
    for count, values in ((8, 6), (30, 2)):
        signs = resample.signs(20_000, count, np.random.default_rng(0))
        assert len(np.unique(signs)) == values
        assert np.abs(signs.mean(0)).max() < 0.04                # five standard errors
        assert np.abs(signs.var(0) - 1).max() < 0.04


def test_auto_chooses_the_method_by_the_data(law):
    assert bootstrap(law, 2).method == "noise"
    assert bootstrap(law, 2, cluster="group").method == "wild cluster"
    assert bootstrap(law, 2, cluster=np.arange(25)).method == "cluster"
    assert bootstrap(fit(law.runs, quantile=0.3), 2).method == "case"
    many = Runs.from_dataframe(noisy("power", 40)(np.random.default_rng(0)))
    assert bootstrap(fit(many, "power"), 2).method == "case"


def test_few_clusters_give_a_warning(law):
    wild, whole = bootstrap(law, 10, cluster="group"), bootstrap(law, 10, "cluster", "group")
    for boot, words in ((wild, "4 degrees of freedom"), (whole, "method='wild' is better")):
        said = [s for s in boot.diagnostics if s.code == "few-clusters"]
        assert len(said) == 1 and said[0].about == ("group",)
        assert "5 clusters of group" in said[0] and words in said[0]
    uneven = bootstrap(law, 10, cluster=np.r_[np.zeros(20, int), 1:6])
    assert any("worth 1.5 equal ones" in said for said in uneven.diagnostics)
    assert not [s for s in bootstrap(law, 10, cluster=np.arange(25)).diagnostics if s.code == "few-clusters"]


def test_the_noise_method_takes_weights_as_one_over_the_variance():
    table, mean = planted("power", 40)
    weights = np.where(np.arange(40) < 20, 1.0, 9.0)
    noise = 0.01 * np.random.default_rng(0).standard_normal(40) / np.sqrt(weights)
    table = table.assign(loss=mean * np.exp(noise))
    law = fit(Runs.from_dataframe(table), "power", weights=weights, loss="mse_log")
    rng = np.random.default_rng(0)
    y, same = uncertainty.resamples(law, "noise", np.arange(40), np.full(4000, 0.005), rng)
    spread = np.log(y / law.predicted).std(0)
    np.testing.assert_allclose(spread[:20] / spread[20:], 3.0, rtol=0.1)
    assert same is law.weights


def test_refits_are_the_optima_of_their_resamples(law):
    weights = np.random.default_rng(0).multinomial(25, np.full(25, 1 / 25), size=8).astype(float)
    found = refit(law, law.y, weights)
    assert found.converged.all()
    gap = found.objective / [fit(law.runs, weights=weight).objective for weight in weights] - 1
    assert np.abs(gap).max() < 1e-2 and np.mean(np.abs(gap) < 1e-9) >= 0.7


def test_a_prediction_interval_is_wider_than_the_laws_own(law):
    boot = bootstrap(law, 300)
    at = {"N": np.array([2e4, 2e5]), "D": 1e7}
    inner, outer, wider = boot.predict(**at, noise=False), boot.predict(**at), boot.predict(**at, level=0.99)
    assert (outer[0] < inner[0]).all() and (inner[1] < outer[1]).all()
    assert (wider[0] < outer[0]).all() and (wider[1] > outer[1]).all()
    assert (boot.predict(**at)[0] == outer[0]).all()


def test_derived_quantities_have_intervals(law):
    boot = bootstrap(law, 200)
    low, high = boot.interval(lambda p: p.beta / (p.alpha + p.beta))
    assert low < law.params["beta"] / (law.params["alpha"] + law.params["beta"]) < high
    both = boot.interval(lambda p: np.stack([p.alpha, p.beta], axis=1))
    np.testing.assert_allclose(np.transpose(both), [boot.interval("alpha"), boot.interval("beta")])
    kaplan = fit(law.runs, "kaplan", loss="mse_log")
    draws = bootstrap(kaplan, 50)
    low, high = draws.interval("N_c")
    assert 0 < low < kaplan.derived["N_c"] < high and "N_c" in draws.to_json()["intervals"]


def test_the_seed_decides_the_draws(law):
    for method in ("noise", "wild", "case"):
        one, two, other = (bootstrap(law, 20, method, seed=s).draws for s in (0, 0, 1))
        pd.testing.assert_frame_equal(one, two)
        assert not np.allclose(one, other)


def test_an_interval_at_a_bound_gives_a_warning():
    table, mean = planted("chinchilla", 16)
    noise = np.random.default_rng(0).standard_normal(16)
    boot = bootstrap(fit(Runs.from_dataframe(table.assign(loss=(mean - 0.8) * np.exp(0.05 * noise)))), 200)
    assert boot.interval("E")[0] == 0
    assert any(said.code == "refits-at-bound" and said.about == ("E",) for said in boot.diagnostics)


@pytest.mark.parametrize("options, words", [
    ({"cluster": "family"}, "no column 'family'"), ({"method": "jackknife"}, "method must be"),
    ({"method": "cluster"}, "needs cluster="), ({"method": "wild cluster"}, "needs cluster="),
    ({"draws": 1}, "draws must be"),
    ({"method": "case", "cluster": "group"}, "independent"), ({"cluster": [1, 2, 3]}, "3 labels for 25 runs"),
    ({"cluster": np.zeros(25)}, "single cluster"),
    ({"cluster": np.r_[np.nan, np.arange(24)]}, "1 runs have no label")])
def test_bad_requests_give_one_sentence(law, options, words):
    with pytest.raises(LawError, match=words):
        bootstrap(law, **options)


def test_symmetric_methods_refuse_one_sided_fits(law):
    with pytest.raises(LawError, match="symmetric"):
        bootstrap(fit(law.runs, quantile=0.2), 10, "noise")


def test_intervals_need_degrees_of_freedom(law):
    five = fit(law.runs.select(np.isin(np.arange(25), [0, 4, 12, 20, 24]), "few"))
    with pytest.raises(LawError, match="degrees of freedom"):
        bootstrap(five)
    boot = bootstrap(law, 10)
    with pytest.raises(LawError, match="no parameter 'gamma'"):
        boot.interval("gamma")
    with pytest.raises(LawError, match="level must lie"):
        boot.interval("alpha", 90)
    with pytest.raises(LawError, match="one value a draw"):
        boot.interval(lambda p: 1.0)
