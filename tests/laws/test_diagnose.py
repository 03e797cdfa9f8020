"""Every diagnostic fires on data that have its fault, and good data give no warning."""
import copy
import json
import pickle

import numpy as np
import pandas as pd
import pytest
from reference import case

from scaling.laws.checks import sensitivity, structure
from scaling.laws.checks.diagnose import extrapolation, locate
from scaling.laws.checks.diagnostic import Diagnostic
from scaling.laws.checks.examine import examine
from scaling.laws.fitting.search import fit
from scaling.laws.forms.catalogue import get_form
from scaling.laws.forms.form import LawError
from scaling.laws.runs import Runs

X = np.geomspace(1e3, 1e8, 20)


def surface(N, D, interaction=0.0, E=1.69, A=406.4, B=410.7):
    return E + A * N ** -0.34 + B * D ** -0.28 + interaction * N ** -0.34 * D ** -0.28


def grid(models=6, sizes=6, noise=0.003, seed=0, **truth):
    """Runs of a planted surface on a grid, with normal noise in log loss."""
    N, D = (v.ravel() for v in np.meshgrid(np.geomspace(2e7, 2e9, models), np.geomspace(1e9, 3e10, sizes)))
    return noisy(pd.DataFrame({"N": N, "D": D, "y": surface(N, D, **truth)}), noise, seed)


def noisy(points, noise, seed=0):
    normal = np.random.default_rng(seed).standard_normal(len(points))
    return points.assign(y=points.y * np.exp(noise * normal))


def codes(law):
    return {said.code for said in law.diagnostics}


def the(law, code):
    found = [said for said in law.diagnostics if said.code == code]
    assert len(found) == 1, law.diagnostics
    return found[0]


def test_a_diagnostic_is_a_sentence_that_keeps_its_code_and_subject():
    said = Diagnostic("alpha is odd.", "odd", "alpha")
    copies = copy.deepcopy(said), pickle.loads(pickle.dumps(said)), Diagnostic.from_json(said.to_json())
    for other in (said, *copies):
        assert (other, other.code, other.about) == ("alpha is odd.", "odd", ("alpha",))
    assert json.loads(json.dumps([said, said.to_json()])) == [
        "alpha is odd.", {"code": "odd", "about": ["alpha"], "message": "alpha is odd."}]


@pytest.mark.parametrize("points, law, options", [
    (lambda seed: grid(seed=seed), "chinchilla", {}),
    (lambda seed: grid(8, 8, 0.01, seed), "chinchilla", {"loss": "mse_log"}),
    (lambda seed: noisy(pd.concat([grid(4, 4, 0)] * 3), 0.003, seed), "chinchilla", {}),
    (lambda seed: noisy(pd.DataFrame({"x": X, "y": 0.8 + 12 * X ** -0.2}), 0.003, seed), "saturating_power",
     {})],
    ids=["grid", "least squares", "three seeds", "one input"])
def test_good_data_give_no_warning(points, law, options):
    alarms = [fit(points(seed), law, **options).diagnostics for seed in range(6)]
    assert sum(map(bool, alarms)) <= 1, alarms


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["huber_log", "mse_log"])
@pytest.mark.parametrize("points", [grid, lambda seed: grid(5, 5, seed=seed),
                                    lambda seed: grid(10, 8, 0.01, seed)])
def test_false_alarms_are_rare(points, loss):
    alarms = [bool(fit(points(seed=seed), loss=loss).diagnostics) for seed in range(200)]
    assert np.mean(alarms) < 0.1


def seeds(points, noise, count=3):
    return noisy(pd.concat([points] * count, ignore_index=True), noise)


def grouped(shift):
    points = grid(noise=0.002).assign(corpus=np.tile(["web", "code", "books"], 12))
    return points.assign(y=points.y * np.where(points.corpus == "code", 1 + shift, 1.0))


def uneven():
    points = grid(10, 8, noise=0.0)
    return noisy(points, 0.02 * (points.N * points.D / (points.N * points.D).min()) ** -0.5)


def overtraining():
    C, M = np.array([1e17, 1e18, 1e19, 1e18, 1e19]), np.array([20.0, 20.0, 20.0, 80.0, 320.0])
    loss = 1.8 + (40 * M ** 0.12 + 90 * M ** -0.12) * C ** -0.12
    return noisy(pd.DataFrame({"C": C, "M": M, "y": loss}), 0.002)


def few():
    return grid(5, 5).iloc[[0, 8, 11, 19, 22]]


def line():
    """Runs that all have nearly 20 tokens a parameter."""
    N = np.geomspace(2e7, 2e9, 30)
    D = 20 * N * np.tile([0.99, 1.0, 1.01], 10)
    return noisy(pd.DataFrame({"N": N, "D": D, "y": surface(N, D)}), 0.003)


def bent(n=14):
    x = np.geomspace(1e3, 1e8, n)
    return noisy(pd.DataFrame({"x": x, "y": 12 * x ** -0.2 * (1 + (x / 1e5) ** 2) ** -0.2}), 0.002)


@pytest.mark.parametrize("points, options, code, about, words", [
    (grid(3, 6), {}, "few-levels", ("N",), "N has 3 distinct levels"),
    (grid().iloc[::7], {}, "confounded", ("N", "D"), "vary one at a fixed value"),
    (pd.concat([grid(), grid().iloc[[4]]]), {}, "duplicates", (), "row 36 is row 4"),
    (grid(3, 2), {}, "degrees-of-freedom", (), "1 degree of freedom (6 points, 5 parameters)"),
    (few(), {}, "degrees-of-freedom", (), "0 degrees of freedom (5 points, 5 parameters): the law passes"),
    (overtraining(), {"law": "overtraining"}, "degrees-of-freedom", (), "1 degree of freedom (5 points, 4"),
    (grid(8, 8, E=0.0, noise=0.0), {}, "vanishes", ("E",), "do not show this term"),
    (grid(), {"bounds": {"alpha": (0.45, 1.0)}}, "at-bound", ("alpha",), "alpha = 0.45 is at a bound"),
    (grid(), {"bounds": {"E": (1.8, 2.0)}}, "at-bound", ("E",), "E = 1.8 is at a bound"),
    (grid(A=0.0), {}, "undetermined", ("A", "alpha"), "within two standard errors"),
    (line(), {}, "ill-conditioned", ("E", "A", "B", "alpha", "beta"), "condition number"),
    (grid(interaction=3e5), {}, "residual-structure", None, "that chinchilla misses"),
    (bent(), {"law": "saturating_power"}, "residual-structure", ("x",), "neighbours"),
    (grid(), {"fix": {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34}, "bounds": {"beta": (0.1, 0.27)}},
     "one-sided", (), "does not suit these data"),
    (grouped(0.01), {}, "group-structure", ("corpus",), "for code"),
    (uneven(), {"loss": "mse_log"}, "uneven-noise", None, "weight runs by their noise"),
    (seeds(grid(4, 4, 0, interaction=3e5), 0.001), {}, "lack-of-fit", (), "more seeds will not lower it"),
])
def test_each_fault_is_named(points, options, code, about, words):
    said = the(fit(points, **options), code)
    assert words in said and (about is None or said.about == about)


def test_an_outlier_is_named_by_its_row_in_the_source():
    points = grid(noise=0.002)
    points.loc[7, "y"] *= 1.2
    law = fit(Runs.from_dataframe(points, where="N > 3e7"))
    assert "row 7 " in the(law, "outliers") and "+1" in the(law, "outliers")
    unweighted = fit(points.assign(w=(np.arange(36) != 7) * 1.0), weights="w")
    assert "outliers" not in codes(unweighted)


def test_fixed_and_tied_parameters_give_no_warning():
    free = fit(grid(), bounds={"alpha": (0.45, 1.0)})
    held = fit(grid(), fix={"alpha": 0.45}, bounds={"alpha": (0.45, 1.0)})
    assert "at-bound" in codes(free) and "at-bound" not in codes(held)
    assert the(fit(grid(3, 2), tie={"beta": "alpha"}), "degrees-of-freedom").startswith("2 degrees of "
                                                                                        "freedom")


def test_diagnostics_do_not_depend_on_order_or_units():
    points = grid(interaction=3e5).assign(corpus=grouped(0.0).corpus)
    points.loc[7, "y"] *= 1.2
    law = fit(points)
    shuffled = fit(points.sample(frac=1, random_state=1))
    scaled = fit(points.assign(N=points.N / 1e6, D=points.D * 4.2, y=points.y * 100))
    assert codes(law) == codes(shuffled) == codes(scaled) >= {"outliers", "residual-structure"}


# ------------------------------------------------------------------------------- the tests behind them

def test_the_rank_tests_hold_their_level_and_see_structure():
    rng = np.random.default_rng(0)
    labels, ramp = np.arange(40) % 4, np.linspace(0, 1, 40)
    tests = {"between": lambda noise: structure.between(noise, labels), "trend": lambda noise: structure.trend(noise, ramp)}
    for test in tests.values():
        p = np.array([test(rng.normal(size=40)) for _ in range(400)])
        assert 0.02 < (p < 0.05).mean() < 0.09
        assert test(np.ones(40)) == 1.0                     # equal residuals have no structure
    assert structure.between(rng.normal(size=40) + 2 * (labels == 3), labels) < 1e-3
    assert structure.trend(ramp + 0.2 * rng.normal(size=40), ramp) < 1e-3


def test_the_serial_test_holds_its_level_and_sees_bends():
    rng = np.random.default_rng(0)
    for n in (8, 14, 40):
        p = np.array([structure.serial(rng.normal(size=n)) for _ in range(1000)])
        assert 0.03 < (p < 0.05).mean() < 0.07
    wave = np.sin(np.linspace(0, 9, 30))
    assert structure.serial(wave) < 1e-5 < 0.5 < structure.serial((-1.0) ** np.arange(30))


@pytest.mark.parametrize("law", ["chinchilla", "kaplan", "interaction"])
def test_the_condition_number_does_not_depend_on_units(law):
    found = fit(grid(), law)
    moved = fit(grid().assign(N=grid().N / 1e7, D=grid().D * 30), law)
    one, other = (sensitivity.condition_number(f.form, f.vector, f.logs) for f in (found, moved))
    assert one == pytest.approx(other, rel=0.02)


def test_a_vanished_term_leaves_its_exponent_undetermined():
    form = get_form("chinchilla")
    vector = np.array([1.0, 0.0, 1.0, 0.3, 0.3])
    logs = np.log([[1, 2, 4, 8], [3, 1, 2, 9]])
    assert sensitivity.condition_number(form, vector, logs) == np.inf


# --------------------------------------------------------------------------- questions a user may ask

def test_locate_tells_whether_values_are_an_optimum():
    law = fit(grid())
    assert locate(law, {**law.params, "A": law.params["A"] * 1.0001}).code == "global-optimum"
    away = locate(law, {**law.params, "alpha": 0.5})
    assert away.code == "no-optimum" and "falls" in away
    with pytest.raises(LawError, match="needs a value of alpha, beta too"):
        locate(law, {"E": 1.0, "A": 1.0, "B": 1.0})
    with pytest.raises(LawError, match="no parameter 'gamma'"):
        locate(law, {**law.params, "gamma": 1.0})


def test_extrapolation_says_how_far():
    law = fit(grid())
    assert extrapolation(law, N=2e8, D=5e9) is None
    far = extrapolation(law, N=2e10, D=5e9)
    assert far.code == "extrapolation" and "N = 2e+10 is a factor 10 past the largest fitted, 2e+09" in far
    points = grid(7, 7)
    band = points[np.abs(np.log(points.N / 2e8) - np.log(points.D / 5.5e9)) < 1.2]
    assert "no fitted run is near" in extrapolation(fit(band), N=1.9e9, D=1.05e9)


def test_profiles_warn_of_parameters_that_are_not_identified():
    x = np.geomspace(1e3, 1e8, 20)
    long = pd.DataFrame({"x": x, "y": 0.8 + 12 * x ** -0.2})
    whole = fit(noisy(long, 0.003), "saturating_power", loss="mse_log")
    assert examine(whole) == whole.diagnostics == []
    short = fit(noisy(long[:9], 0.03), "saturating_power", loss="mse_log")
    said = {one.code: one.about for one in examine(short)}
    assert said["flat-profile"] == ("E",)
    none = fit(long[:3], "saturating_power", loss="mse_log")
    assert {one.code for one in examine(none)} == {"few-levels", "degrees-of-freedom"}


def data_constrained(loss="huber_log"):
    data, expected = case("muennighoff_data_constrained")
    held = expected["fixed"]
    fixed = {name: np.exp(held[f"log{name}"]) for name in "ABE"}
    fixed |= {name: held[name] for name in ("alpha", "beta", "G")}
    targets = {target["name"]: target["values"] for target in expected["targets"]}
    return fit(data, "data_constrained", loss=loss, fix=fixed), targets


def test_muennighoffs_published_optimum_is_local():
    law, targets = data_constrained()
    published, best = ({"R_D": v["R_D_star"], "R_N": v["R_N_star"]} for v in (
        targets["published"], targets["recomputed_optimum"]))
    said = locate(law, published)
    assert said.code == "local-optimum" and "better within noise" in said and "R_D = 95.37" in said
    assert locate(law, best).code == "global-optimum"
    assert locate(law, {"R_D": 3.0, "R_N": 30.0}).code == "no-optimum"
    gap = (law.optima[["R_D", "R_N"]] / [published["R_D"], published["R_N"]] - 1).abs().max(axis=1)
    assert gap.min() < 0.002 and gap.idxmin() != 0
    assert the(law, "rival-optima").about == ("R_D", "R_N")


@pytest.mark.parametrize("loss, code", [("huber_log", "flat-profile"), ("mse_log", "weak-profile")])
def test_muennighoffs_repetitions_are_not_identified(loss, code):
    law, _ = data_constrained(loss)
    said = {one.about: one.code for one in examine(law)}
    assert said["R_D",] == code and (loss == "mse_log" or said["R_N",] == "weak-profile")


def test_values_rounded_in_print_still_count_as_the_optimum():
    data, expected = case("epoch_chinchilla")
    targets = {t["name"]: t["values"] for t in expected["targets"] if "values" in t}
    law = fit(Runs.from_dataframe(data, params="model_params", data="train_tokens", where="kept"))
    assert locate(law, targets["published_table"]).code == "global-optimum"
    hoffmann = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
    assert locate(law, hoffmann).code == "no-optimum"
