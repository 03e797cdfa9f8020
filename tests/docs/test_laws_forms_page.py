"""docs/laws-forms.md: every block runs, and its laws recover planted parameters as those of the package do."""
import contextlib

import numpy as np
import planted_laws
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot
from planted_laws import EXAMPLES, LOOSE, PLANTED, planted

from scaling import laws
from scaling.laws.forms.catalogue import FORMS, get_form
from scaling.laws.forms.jets import Jet
from tools._example_laws import PAGE, register_examples


@pytest.fixture(autouse=True, scope="module")
def page(tmp_path_factory):
    """The names that the page's blocks define, while its laws are registered."""
    before = dict(FORMS)
    with contextlib.chdir(tmp_path_factory.mktemp("page")):
        yield register_examples(draw=True)
    FORMS.clear()
    FORMS.update(before)
    pyplot.close("all")  # the page draws; other tests of this process expect no open figure


def test_every_law_of_the_page_is_tested_here(page):
    shipped = {"power", "saturating_power", "bnsl", "chinchilla", "tied_chinchilla", "kaplan", "interaction",
               "power_mean", "bounded", "data_constrained", "downstream", "sigmoid"}
    assert set(FORMS) - shipped == set(EXAMPLES) | {"logarithmic"}
    text = PAGE.read_text()
    assert all(f"[`{name}`](#" in text for name in EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_planted_parameters_come_back(name):
    planted_laws.comes_back(name)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_noisy_fit_is_at_least_as_good_as_the_truth_and_near_it(name):
    planted_laws.beats_the_truth(name)


@pytest.mark.parametrize("name", EXAMPLES)
def test_refits_of_a_fit_start_where_it_ended(name):
    planted_laws.refits_to_itself(name)


@pytest.mark.parametrize("loss", ["huber_log", "mse", "mse_log1p", "huber"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_derivatives_are_those_of_the_objective(name, loss):
    planted_laws.has_its_derivatives(name, loss)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in LOOSE])
@settings(max_examples=2, deadline=None)
@given(unit=st.floats(1e-4, 1e4), y=st.floats(1e-3, 1e3))
def test_units_of_inputs_and_loss_do_not_matter(name, unit, y):
    planted_laws.knows_no_units(name, unit, y)


def test_the_published_constants_of_farseers_law_are_derived():
    law = laws.fit(planted("farseer", n=60), "farseer", fix={"beta_power": 0.123, "B_power": -0.1, "E_power": 0.169})
    p, d = law.params, law.derived
    N, D = 3e9, 2e10
    published = np.exp(d["a3"] * N ** p["E_power"] + d["b3"]) + np.exp(d["a2"] * N ** p["B_power"] + d["b2"]) * D ** (
        -np.exp(d["a1"] * N ** p["beta_power"] + d["b1"]))
    assert law.predict(N, D) == pytest.approx(published, rel=1e-9)


def test_overtraining_is_the_tied_law_in_other_inputs():
    points = planted("tied_chinchilla", noise=0.003)
    points = points.assign(C=6 * points["N"] * points["D"], M=points["D"] / points["N"])
    one, other = laws.fit(points, "tied_chinchilla"), laws.fit(points, "overtraining")
    assert other.params["eta"] == pytest.approx(one.params["alpha"] / 2, rel=1e-6)
    np.testing.assert_allclose(one.predicted, other.predicted, rtol=1e-7)
    from_runs = laws.Runs.from_dataframe(points.drop(columns=["C", "M"]))   # C = 6 N D and M = D / N are computed
    assert laws.fit(from_runs, "overtraining").params == pytest.approx(other.params)


def test_m4_is_what_it_says():
    law, x = PLANTED["m4"], np.geomspace(1e6, 1e11, 50)
    y = get_form("m4").predict(np.array([[law[p] for p in get_form("m4").names]]), np.log(x)[None])[0]
    u = (y - law["E"]) / law["A"]
    np.testing.assert_allclose(u / (1 - u) ** law["alpha"], (x / law["x0"]) ** -law["c"], rtol=1e-7)


def test_the_derivatives_of_m4s_implicit_function(page):
    def function(a, b):
        return page["way_to_go"](a - 2.0 * b, b + a)

    def plain(p):
        return float(function(*p))

    point, h = np.array([0.8, 1.7]), 1e-4
    jet = function(Jet(point[0], {0: 1.0}), Jet(point[1], {1: 1.0}))
    assert jet.value == pytest.approx(plain(point))
    for k in (0, 1):
        e = h * np.eye(2)[k]
        assert jet.first[k] == pytest.approx((plain(point + e) - plain(point - e)) / (2 * h), rel=1e-5)
        for m in range(k, 2):
            d = h * np.eye(2)[m]
            second = plain(point + e + d) - plain(point + e - d) - plain(point - e + d) + plain(point - e - d)
            assert jet.second[k, m] == pytest.approx(second / (4 * h * h), rel=1e-4, abs=1e-6)
