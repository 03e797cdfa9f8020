"""Every form of the catalogue recovers planted parameters, has right derivatives, and ignores units where it has none.

The worked examples of docs/laws-forms.md have the same tests in tests/docs/test_laws_forms_page.py.
"""
import numpy as np
import pandas as pd
import planted_laws
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_laws import CATALOGUE, LOOSE, PLANTED, planted

from scaling import laws
from scaling.laws.fitting import projection
from scaling.laws.fitting.fit import jacobian
from scaling.laws.forms.catalogue import FORMS, get_form, register
from scaling.laws.forms.jets import Jet

SHIPPED = set(FORMS)  # before the fixture of this folder registers the worked examples


def test_every_form_is_tested_here():
    assert set(CATALOGUE) - {"bnsl2"} == SHIPPED


@pytest.mark.parametrize("name", CATALOGUE)
def test_planted_parameters_come_back(name):
    planted_laws.comes_back(name)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_noisy_fit_is_at_least_as_good_as_the_truth_and_near_it(name):
    planted_laws.beats_the_truth(name)


@pytest.mark.parametrize("name", CATALOGUE)
def test_refits_of_a_fit_start_where_it_ended(name):
    planted_laws.refits_to_itself(name)


@pytest.mark.parametrize("loss", ["huber_log", "mse", "mse_log1p", "huber"])
@pytest.mark.parametrize("name", CATALOGUE)
def test_derivatives_are_those_of_the_objective(name, loss):
    planted_laws.has_its_derivatives(name, loss)


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name not in LOOSE])
@settings(max_examples=2, deadline=None)
@given(unit=st.floats(1e-4, 1e4), y=st.floats(1e-3, 1e3))
def test_units_of_inputs_and_loss_do_not_matter_if_the_form_has_none(name, unit, y):
    planted_laws.knows_no_units(name, unit, y)


def test_kaplans_constants_give_the_loss_when_one_resource_is_unlimited():
    law = laws.fit(planted("kaplan"), "kaplan")
    assert law.predict(1e9, 1e60) == pytest.approx((law.derived["N_c"] / 1e9) ** law.params["alpha"], rel=1e-3)
    assert law.predict(1e90, 1e9) == pytest.approx((law.derived["D_c"] / 1e9) ** law.params["beta"], rel=1e-3)


def test_the_data_constrained_law_is_chinchilla_if_no_data_repeat():
    form, other = get_form("data_constrained"), get_form("chinchilla")
    N, D = np.log([[1e6, 1e7], [1e10, 1e11]])
    vector = [PLANTED["data_constrained"][p] for p in form.names]
    once = form.predict(np.array([vector]), np.stack([N, D, D]))   # U = D, and N far below what D supports
    np.testing.assert_allclose(once, other.predict(np.array([vector[:5]]), np.stack([N, D])), rtol=1e-12)


def test_a_form_of_the_users_own_is_fitted_like_any_other(monkeypatch):
    monkeypatch.delitem(FORMS, "logarithmic", raising=False)
    register(laws.Form(
        name="logarithmic", formula="E + A / (1 + c log x)", source="my notebook", inputs=("x",),
        amplitudes=(laws.Amplitude("E"), laws.Amplitude("A")),
        nonlinear=(laws.Parameter("c", 1e-3, 1e3, scale="log"),),
        terms=lambda p, log: (0.0, -np.log1p(p.c * log.x)), centred=()))
    x = np.geomspace(2, 1e6, 40)
    law = laws.fit(pd.DataFrame({"x": x, "y": 0.4 + 3 / (1 + 0.7 * np.log(x))}), "logarithmic")
    assert law.params == pytest.approx({"E": 0.4, "A": 3.0, "c": 0.7}, rel=1e-5)
    low, high = laws.bootstrap(law, draws=50).interval("c")
    assert low == pytest.approx(high, rel=1e-3)


@pytest.mark.parametrize("function", [
    lambda a, b: a * b, lambda a, b: a / b, lambda a, b: a ** b, lambda a, b: 2.0 ** a - b ** 2.0,
    lambda a, b: np.logaddexp(a, b), lambda a, b: np.maximum(a, b) * np.minimum(a * a, b),
    lambda a, b: np.exp(-a) / (1 + np.log(b)), lambda a, b: np.sqrt(a) * np.tanh(b) + np.log1p(a * b),
    lambda a, b: np.expm1(a) - np.square(b) / 3.0])
def test_jets_are_derivatives(function):
    point, h = np.array([0.8, 1.7]), 1e-4
    jet = function(Jet(point[0], {0: 1.0}), Jet(point[1], {1: 1.0}))

    def plain(p):
        return float(function(*p))

    assert jet.value == pytest.approx(plain(point))
    for k in (0, 1):
        e = h * np.eye(2)[k]
        assert jet.first.get(k, 0.0) == pytest.approx((plain(point + e) - plain(point - e)) / (2 * h), rel=1e-5)
        for m in range(k, 2):
            d = h * np.eye(2)[m]
            second = (plain(point + e + d) - plain(point + e - d) - plain(point - e + d) + plain(point - e - d))
            assert jet.second.get((k, m), 0.0) == pytest.approx(second / (4 * h * h), rel=1e-4, abs=1e-6)


def test_a_function_without_derivatives_is_refused_by_name():
    with pytest.raises(TypeError, match="np.sin of a parameter has no derivative here"):
        np.sin(Jet(np.ones(1), {0: 1.0}))


def test_the_jacobian_is_the_slope_of_the_prediction():
    law = laws.fit(planted("shifted_power", noise=0.01, n=40), "shifted_power", fix={"E": 1.6})
    found = jacobian(law)
    for column, name in zip(found.T, law.form.free):
        change = 1e-5 * law.params[name]
        ends = [law.form.predict(np.array([[law.params[p] + (p == name) * c for p in law.form.names]]), law.logs)
                for c in (change, -change)]
        np.testing.assert_allclose(column, np.log(ends[0] / ends[1])[0] / (2 * change), rtol=1e-4)


def test_random_starts_reach_the_searched_optimum():
    points = planted("chinchilla", noise=0.01, n=80)
    searched, random = laws.fit(points), laws.fit(points, starts=64, seed=5)
    assert random.objective == pytest.approx(searched.objective, rel=1e-9)
    assert random.search["reached_best"] >= 64


def test_amplitudes_are_nonnegative_least_squares():
    from scipy.optimize import nnls
    form, rng = get_form("chinchilla"), np.random.default_rng(0)
    features, loss = rng.normal(size=(50, 3, 20)), rng.normal(size=20)
    found = projection.amplitudes(form, features, np.ones(20), loss)
    for row, one in zip(found, features):
        np.testing.assert_allclose(row, nnls(one.T, loss)[0], atol=1e-8)
