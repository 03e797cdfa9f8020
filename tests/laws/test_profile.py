"""Profiles are exact where theory is exact, as wide as simulated noise elsewhere, and flat where data say nothing."""
import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from reference import case
from scipy import stats

from scaling.laws import Runs
from scaling.laws.fitting.search import fit
from scaling.laws.forms.form import LawError
from scaling.laws.intervals.profile import CLOSE, profile
from scaling.laws.intervals.uncertainty import bootstrap


def runs(n=24, noise=0.01, seed=0, repeats=1, shared=0.0):
    """E = 1, A = 30, alpha = 0.25 over five orders of x; errors share some of their variance at equal x."""
    x = np.tile(np.geomspace(1e3, 1e8, n), repeats)
    rng = np.random.default_rng(seed)
    error = np.sqrt(shared) * np.tile(rng.standard_normal(n), repeats)
    error = error + np.sqrt(1 - shared) * rng.standard_normal(len(x))
    return Runs.from_dataframe(pd.DataFrame({"x": x, "loss": (1 + 30 * x ** -0.25) * np.exp(noise * error),
                                             "level": np.tile(np.arange(n), repeats)}))


def test_the_profile_interval_of_a_linear_law_is_students():
    table = runs()
    law = fit(table, "saturating_power", loss="mse", fix={"alpha": 0.25})
    X = np.stack([np.ones(24), table.values("x") ** -0.25], axis=1)
    error = np.sqrt(np.diag(np.linalg.inv(X.T @ X)) * law.objective / 22)
    for level in (0.5, 0.9, 0.99):
        for name, size in zip(("E", "A"), error):
            found = profile(law, name, points=0, level=level)
            width = size * stats.t.ppf((1 + level) / 2, 22)
            expected = law.params[name] - width, law.params[name] + width
            assert found.interval == pytest.approx(expected, abs=CLOSE * width) and not found.flat
            assert found.cut == pytest.approx(law.objective * (1 + stats.f.ppf(level, 1, 22) / 22))


@pytest.mark.parametrize("options", [{}, {"loss": "mse_log"}, {"loss": "huber", "delta": 0.01},
                                     {"quantile": 0.3}], ids=str)
def test_a_profile_has_its_minimum_at_the_fit_and_reaches_the_cut_at_both_ends(options):
    law = fit(runs(), "saturating_power", **options)
    shape = profile(law, "alpha", points=9)
    assert shape.objective.min() == pytest.approx(law.objective, rel=1e-6) and not shape.diagnostics
    assert shape.values[shape.objective.argmin()] == pytest.approx(law.params["alpha"], rel=1e-3)
    assert np.all(np.diff(shape.values) > 0) and len(shape.values) >= 9
    rise = shape.cut - law.objective
    low, high = np.interp(shape.interval, shape.values, shape.objective)
    assert (low, high) == pytest.approx((shape.cut, shape.cut), abs=2 * CLOSE * rise)
    inside = (shape.values > shape.interval[0]) & (shape.values < shape.interval[1])
    assert np.all(shape.objective[inside] < shape.cut + CLOSE * rise)
    assert np.all(shape.objective[~inside] > shape.cut - 2 * CLOSE * rise)


def test_a_higher_level_gives_a_wider_interval():
    law = fit(runs(), "saturating_power")
    (a, b), (c, d) = (profile(law, "E", points=0, level=level).interval for level in (0.9, 0.5))
    assert a < c < law.params["E"] < d < b


def test_a_simulated_cut_agrees_with_the_exact_one():
    """A Huber loss far wider than the noise is half the squares. 200 resamples give its cut roughly."""
    wide = fit(runs(), "saturating_power", delta=1.0)
    squares = fit(runs(), "saturating_power", loss="mse_log")
    assert wide.params == pytest.approx(squares.params, rel=1e-6)
    rises = [profile(law, "alpha", 0).cut - law.objective for law in (wide, squares)]
    assert 2 * rises[0] == pytest.approx(rises[1], rel=0.35)


def test_a_point_of_the_profile_is_the_fit_with_the_parameter_fixed():
    law = fit(runs(), "saturating_power")
    shape = profile(law, "alpha", points=[0.2, 0.24, 0.3])
    for value in (0.2, 0.24, 0.3):
        alone = fit(law.runs, "saturating_power", fix={"alpha": value})
        assert shape.objective[shape.values == value] == pytest.approx(alone.objective, rel=1e-6)


def test_units_do_not_matter():
    law = fit(runs(), "saturating_power")
    table = law.runs.frame.assign(x=law.runs.frame["x"] * 1e9, loss=law.runs.frame["loss"] * 7)
    other = fit(Runs.from_dataframe(table), "saturating_power")
    assert profile(other, "alpha", 0).interval == pytest.approx(profile(law, "alpha", 0).interval, rel=0.02)


def test_clusters_widen_the_profile():
    law = fit(runs(8, repeats=4, shared=0.9), "saturating_power", loss="mse_log")
    alone, together = profile(law, "alpha", 0), profile(law, "alpha", 0, cluster="level")
    assert np.diff(together.interval) > 1.4 * np.diff(alone.interval)
    by_labels = profile(law, "alpha", 0, cluster=law.runs.frame["level"].to_numpy())
    assert by_labels.interval == together.interval
    boot = bootstrap(law, 300, cluster="level")
    assert np.diff(together.interval) / np.diff(boot.interval("alpha")) == pytest.approx(1, abs=0.35)


def test_a_profile_is_flat_if_a_parameter_makes_no_difference():
    """The losses do not depend on x, so a constant and a power cannot be told apart."""
    x = np.repeat([1e6, 1.4e6, 2e6], 5)
    loss = 2 * np.exp(0.01 * np.random.default_rng(0).standard_normal(15))
    law = fit(Runs.from_dataframe({"x": x, "loss": loss}), "saturating_power", loss="mse_log")
    shape = profile(law, "alpha", points=5)
    bounds = law.form.parameter("alpha")
    assert shape.flat and shape.interval == (bounds.low, bounds.high)
    constant = profile(law, "E", points=5)
    assert law.params["E"] == 0 and constant.flat and constant.interval == pytest.approx((0, 2), abs=0.02)
    json.dumps([shape.to_json(), constant.to_json()], allow_nan=False)


def test_tied_parameters_move_together():
    N, D = (v.ravel() for v in np.meshgrid(np.geomspace(1e6, 1e9, 5), np.geomspace(1e8, 1e10, 5)))
    noise = 0.005 * np.random.default_rng(0).standard_normal(25)
    loss = (1.5 + 300 * N ** -0.3 + 600 * D ** -0.3) * np.exp(noise)
    law = fit(Runs.from_dataframe({"N": N, "D": D, "loss": loss}), tie={"beta": "alpha"}, loss="mse_log")
    shape = profile(law, "alpha", points=[0.28])
    alone = fit(law.runs, fix={"alpha": 0.28, "beta": 0.28}, loss="mse_log")
    assert shape.objective[shape.values == 0.28] == pytest.approx(alone.objective, rel=1e-8)
    with pytest.raises(LawError, match="'beta' cannot be profiled: the fitted parameters of chinchilla are"):
        profile(law, "beta")


def test_a_better_optimum_is_reported():
    law = fit(runs(), "saturating_power")
    missed = law.params | {"alpha": law.params["alpha"] * 1.2}
    vector = np.array([[missed[name] for name in law.form.names]])
    worse = float(law.spec.value(law.spec.residuals(law.y, law.form.predict(vector, law.logs)[0])))
    said = profile(dataclasses.replace(law, params=missed, objective=worse), "alpha").diagnostics
    assert [s.code for s in said] == ["better-optimum"] and f"{law.objective:.4g}"[:5] in said[0]


def test_bad_requests_give_one_sentence():
    law = fit(runs(), "saturating_power", fix={"E": 1.0})
    with pytest.raises(LawError, match="'E' cannot be profiled"):
        profile(law, "E")
    with pytest.raises(LawError, match="level must lie"):
        profile(law, "alpha", level=90)
    with pytest.raises(LawError, match="no degrees of freedom"):
        profile(fit(runs(3), "saturating_power"), "alpha")
    with pytest.raises(LawError, match="no column 'seed'"):
        profile(law, "alpha", cluster="seed")


# ------------------------------------------------------------------------------------------- published data

def test_published_data_do_not_identify_the_value_of_repetition():
    """Muennighoff et al.: the profile of R_D passes through the published local optimum and is flat up to a bound."""
    data, expected = case("muennighoff_data_constrained")
    known, targets = expected["fixed"], {t["name"]: t for t in expected["targets"]}
    held = {name: float(np.exp(known[f"log{name}"])) for name in ("A", "B", "E")}
    held |= {name: known[name] for name in ("alpha", "beta", "G")}
    table = Runs.from_dataframe(data, params="model_params", data="train_tokens", unique="unique_tokens")
    law = fit(table, "data_constrained", fix=held)
    points = targets["published_is_a_local_minimum"]["profile_over_R_D_star"]
    points = {float(value): objective for value, objective in points.items()}
    shape = profile(law, "R_D", points=list(points))
    assert not shape.diagnostics
    for value, objective in points.items():  # a grid's minimum over R_N, or better
        found = shape.objective[shape.values == value]
        assert objective * (1 - 2e-3) < found <= objective * (1 + 1e-6)
    low, high = shape.interval
    assert shape.flat and high == law.form.parameter("R_D").high
    assert low < targets["published"]["values"]["R_D_star"] < high


def test_profiles_of_the_chinchilla_points_agree_with_their_bootstrap():
    data, _ = case("epoch_chinchilla")
    law = fit(Runs.from_dataframe(data, where="kept", params="model_params", data="train_tokens"))
    boot = bootstrap(law, 500)
    for name in ("alpha", "beta", "E"):
        width = np.diff(boot.interval(name))[0]
        assert profile(law, name, points=0).interval == pytest.approx(boot.interval(name), abs=0.35 * width)
