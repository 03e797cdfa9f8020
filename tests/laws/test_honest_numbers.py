"""What is printed beside a number is true of it: bounds that exist, refits that converged, FLOPs that were counted."""
import dataclasses

import numpy as np
import pandas as pd
import pytest
from planted_laws import planted
from planted_table import table

from scaling import laws
from scaling.laws.checks.sensitivity import is_at_bound
from scaling.laws.fitting.fit import refit
from scaling.laws.intervals import uncertainty


@pytest.mark.parametrize("name", ["kaplan", "experts", "interaction",
                                  pytest.param("farseer", marks=pytest.mark.slow)])
def test_a_bound_that_is_infinite_is_none(name):
    fit = laws.fit(planted(name, noise=0.002), name)
    inner = [p for p in fit.form.free if not np.isfinite([fit.form.parameter(p).low, fit.form.parameter(p).high]).all()]
    said = {about for each in fit.diagnostics if each.code == "at-bound" for about in each.about}
    assert inner and not said & set(inner)


@pytest.mark.parametrize("low, high, value, at", [
    (-np.inf, np.inf, 3.0, False), (-np.inf, 1.0, 1.0, True), (0.0, np.inf, 0.0, True), (0.01, 4.0, 4.0, True),
    (0.01, 4.0, 0.01, True), (0.01, 4.0, 1.0, False), (-1.0, 1.0, 0.0, False), (0.0, np.inf, 1e-30, False),
    (0.01, 4.0, 4.0 * (1 - 1e-12), True)])
def test_what_is_at_a_bound(low, high, value, at):
    assert is_at_bound(laws.Parameter("p", low, high), value) == at


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_refits_that_did_not_converge_take_their_intervals_along(monkeypatch, share):
    def mostly_failing(law, y, weights, *iterations):
        found = refit(law, y, weights, *iterations)
        return found._replace(converged=np.arange(len(found.converged)) >= share * len(found.converged))

    monkeypatch.setattr(uncertainty, "refit", mostly_failing)
    fit = laws.fit(laws.Runs.from_dataframe(table(0.003)))
    boot = laws.bootstrap(fit, 100)
    text, saved = laws.table(fit, boot), laws.store.fit_content(fit, boot)
    assert boot.failed == pytest.approx(share)
    assert ("did not converge" in text) == (share > 0) and ("UNRELIABLE" in text) == (share > 0.05)
    assert ("90% [" in text) == (share < 0.5) and ("no interval" in text) == (share > 0.5)
    assert set(saved["intervals"]) == ({*fit.params, "a_N"} if share < 0.5 else set())
    assert bool(saved["standard_errors"]) == (share < 0.5)


COSTS = {"6 N": lambda N: 6 * N, "attention": lambda N: 6 * N + 3e5 * np.sqrt(N),
         "a head": lambda N: 6 * N + 3e6 * N ** 0.35}


@pytest.mark.parametrize("name", COSTS)
def test_counted_flops_give_the_optimum_of_the_true_cost(name):
    flops = COSTS[name]
    N, D = map(np.ravel, np.meshgrid(np.geomspace(1e6, 1e9, 7), [1e8, 1e9, 1e10]))
    runs = pd.DataFrame({"N": N, "D": D, "C": flops(N) * D, "loss": 1.69 + 406 * N ** -0.34 + 410 * D ** -0.28})
    fit, cost = laws.fit(runs), laws.counted(runs)
    assert cost.error < 0.002 and not cost.diagnostics
    budgets = [1e17, 1e19, 1e21]   # the last one's optimum is twice the largest size
    truth = laws.frontier(fit, budgets, lambda n, d: flops(n) * d)
    np.testing.assert_allclose(laws.frontier(fit, budgets, cost).params, truth.params, rtol=0.03)


def test_flops_that_do_not_follow_from_n_and_d_are_said_and_then_refused():
    rng = np.random.default_rng(0)
    N, D = map(np.ravel, np.meshgrid(np.geomspace(1e6, 1e9, 7), [1e8, 1e9, 1e10]))
    for size, happens in ((0.05, "said"), (0.5, "refused")):
        runs = pd.DataFrame({"N": N, "D": D, "C": 6 * N * D * np.exp(rng.uniform(-size, size, len(N))), "loss": 3.0})
        if happens == "refused":
            with pytest.raises(laws.LawError, match="FLOPs that the runs counted are no function of N times D"):
                laws.counted(runs)
        else:
            cost = laws.counted(runs)
            assert 0.02 < cost.error < 0.1 and f"{cost.error:.1%}" in cost.diagnostics[0]


def test_signed_exponents_are_searched_where_bounds_allow_them():
    x = np.geomspace(1e3, 1e7, 12)
    rising = pd.DataFrame({"x": x, "loss": 0.2 + 0.01 * x ** 0.3})
    fit = laws.fit(rising, "saturating_power", bounds={"alpha": (-1.0, 1.0)})
    assert fit.params["alpha"] == pytest.approx(-0.3, rel=1e-4) and fit.params["E"] == pytest.approx(0.2, rel=1e-3)
    falling = laws.fit(rising.assign(loss=0.2 + 3 * x ** -0.3), "saturating_power", bounds={"alpha": (-1.0, 1.0)})
    assert falling.params["alpha"] == pytest.approx(0.3, rel=1e-4)


def test_a_metric_of_either_sign_is_fitted_as_advised():
    frame = table()
    runs = laws.Runs.from_dataframe(frame.assign(loss=frame["loss"] - 2.5))
    fit = laws.fit(runs, loss="huber", bounds={"E": (-np.inf, np.inf)})
    assert fit.params["E"] == pytest.approx(1.69 - 2.5, abs=1e-4) and fit.params["alpha"] == pytest.approx(0.34, rel=1e-3)


def test_settings_of_a_fit_are_saved_as_they_were_asked():
    frame = table(0.01).assign(seeds=2)
    fit = laws.fit(laws.Runs.from_dataframe(frame), delta="noise", weights="seeds")
    assert laws.store.fit_content(fit)["settings"] == {"loss": "huber_log", "delta": "noise", "quantile": 0.5,
                                                       "weights": "seeds"}
    assert fit.spec.delta != 1e-3


@pytest.mark.parametrize("numbers, texts", [
    ((1.66889, 1.5693, 1.7547), ("1.67", "1.57", "1.75")), ((433.465, 313.61, 596.26), ("430", "310", "600")),
    ((0.344706, 0.32279, 0.36614), ("0.345", "0.323", "0.366")), ((0.0, 0.0, 0.02), ("0.000", "0.000", "0.020")),
    ((1.234567e9, 1.2e9, 1.3e9), ("1.23e+09", "1.2e+09", "1.3e+09")), ((2.0, 2.0, 2.0), ("2", "2", "2")),
    ((2.18, 0.0, 830.0), ("2.2", "0", "830")), ((1e-12, 0.0, 0.9), ("0.00", "0.00", "0.90")),
    ((3.0, 1.0, np.inf), ("3", "1", "inf")), ((3e-7, 2e-7, 5e-7), ("3e-07", "2e-07", "5e-07"))])
def test_numbers_have_as_many_digits_as_their_interval_allows(numbers, texts):
    assert laws.store.as_known(*numbers) == texts


@pytest.mark.parametrize("delta", [1e-6, 1e-9])
def test_a_delta_far_below_the_noise_gives_the_fit_and_intervals_of_least_absolute_values(delta):
    runs = laws.Runs.from_dataframe(table(0.003))
    fit, other = laws.fit(runs, delta=delta), laws.fit(runs, loss="absolute_log")
    assert fit.params == pytest.approx(other.params, rel=2e-3) and not fit.diagnostics
    tiny, absolute = laws.bootstrap(fit, 100), laws.bootstrap(other, 100)
    assert tiny.failed < 0.02
    for name in ("E", "alpha", "beta"):
        np.testing.assert_allclose(tiny.interval(name), absolute.interval(name), rtol=0.01)


def test_a_search_that_did_not_converge_is_said():
    fit = laws.fit(laws.Runs.from_dataframe(table(0.003)))
    assert fit.search["best_converged"]
    said = laws.diagnose(dataclasses.replace(fit, search=fit.search | {"best_converged": False}))
    assert said[0].code == "not-converged" and not any(each.code == "not-converged" for each in laws.diagnose(fit))


@pytest.mark.parametrize("law", ["kaplan", "chinchilla"])
def test_a_law_that_cannot_leave_0_is_said_to_vanish(law):
    rng = np.random.default_rng(0)
    runs = laws.Runs.from_dataframe(pd.DataFrame({
        "N": 10 ** rng.uniform(4, 8, 5), "D": 10 ** rng.uniform(6, 10, 5), "loss": -rng.uniform(1, 3, 5)}))
    fit = laws.fit(runs, law, loss="mse")
    assert not fit.predicted.any() and "vanishes" in {said.code for said in fit.diagnostics}


def test_a_derived_parameter_beyond_all_floats_is_infinite():
    n, d = np.meshgrid([1e3, 1e4, 1e5], [1e5, 1e6, 1e7])
    loss = 3e5 * n.ravel() ** -0.01 * (1 + 1e3 / d.ravel())
    fit = laws.fit(laws.Runs.from_dataframe(pd.DataFrame({"N": n.ravel(), "D": d.ravel(), "loss": loss})), "kaplan")
    assert fit.params["alpha"] < 0.017 and fit.derived["N_c"] == np.inf
    low, high = laws.bootstrap(fit, 20).interval("N_c")
    assert low == high == np.inf
    assert "inf" in laws.table(fit)
