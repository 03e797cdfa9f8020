"""Held-out scores are what a reader would compute by hand, and a cut that cannot be scored is refused."""
import json

import numpy as np
import pandas as pd
import pytest
from reference import case

from scaling.laws.fitting.search import fit
from scaling.laws.forms.catalogue import get_form
from scaling.laws.forms.form import LawError
from scaling.laws.runs import Runs
from scaling.laws.scores.holdout import holdout


def grid(models=6, sizes=6, noise=0.003, seed=0):
    N, D = (v.ravel() for v in np.meshgrid(np.geomspace(2e7, 2e9, models), np.geomspace(1e9, 3e10, sizes)))
    loss = 1.69 + 406.4 * N ** -0.34 + 410.7 * D ** -0.28
    normal = np.random.default_rng(seed).standard_normal(len(N))
    return pd.DataFrame({"N": N, "D": D, "loss": loss * np.exp(noise * normal)})


@pytest.mark.parametrize("name, options", [("huber", {}), ("mse_linear", {"loss": "mse"})])
def test_published_points_held_out_by_compute(name, options):
    data, expected = case("epoch_chinchilla")
    target = next(t for t in expected["targets"] if t["name"] == "hold_out_largest_compute")
    runs = Runs.from_dataframe(data, params="model_params", data="train_tokens", where="kept")
    table = holdout(runs, cuts=[row["cut"] for row in target["rows"]], draws=0, **options).table
    for found, row in zip(table.itertuples(), target["rows"]):
        assert (found.cut, found.n_fit, found.n_test) == (row["cut"], row["n_fit"], row["n_test"])
        for key, value in row[name].items():
            assert getattr(found, key) == pytest.approx(value, abs=target["tol_abs"][key]), (row["cut"], key)


def test_scores_are_those_of_a_fit_and_a_bootstrap_made_by_hand():
    runs = Runs.from_dataframe(grid())
    held = holdout(runs, cut=5e19, draws=100)
    below, above = grid().query("6 * N * D < 5e19"), grid().query("6 * N * D >= 5e19")
    law = fit(below)
    ratio = law.predict(above.N, above.D) / above.loss
    row = held.table.iloc[0]
    assert (row.n_fit, row.n_test) == (len(below), len(above)) and row.law == "chinchilla"
    assert row.mape == pytest.approx(np.abs(ratio - 1).mean(), rel=1e-9)
    assert row.bias == pytest.approx((ratio - 1).mean(), rel=1e-9)
    assert row.rmse == pytest.approx(np.sqrt((np.log(ratio) ** 2).mean()), rel=1e-9)
    assert row.a == pytest.approx(law.params["beta"] / (law.params["alpha"] + law.params["beta"]), rel=1e-9)
    assert pytest.approx(law.params["E"], rel=1e-9) == row.E
    points = held.points
    assert list(points.row) == list(above.index) and list(points.observed) == list(above.loss)
    assert row.coverage == np.mean((points.low <= points.observed) & (points.observed <= points.high))
    assert np.all((points.low < points.predicted) & (points.predicted < points.high))
    assert held.fits["chinchilla", 5e19].params == law.params


def test_several_laws_and_cuts_make_one_table():
    held = holdout(grid(), cuts=[1e19, 1e20], laws=["chinchilla", "tied_chinchilla"], draws=0)
    assert list(held.table.law) == ["chinchilla", "tied_chinchilla"] * 2
    assert list(held.table.cut) == [1e19, 1e19, 1e20, 1e20]
    assert held.table.a.iloc[1] == 0.5 and "coverage" not in held.table
    assert np.isnan(held.table.beta.iloc[1])
    content = json.loads(json.dumps(held.to_json(), allow_nan=False))
    assert content["table"][1]["beta"] is None and content["points"][0]["low"] is None
    assert "tied_chinchilla" in str(held)


@pytest.mark.parametrize("by, cut, mask", [
    ("N", 1e9, lambda p: p.N >= 1e9), ("D", 1e10, lambda p: p.D >= 1e10), ("age", 30, lambda p: p.age >= 30)])
def test_any_column_cuts(by, cut, mask):
    points = grid().assign(age=np.arange(36))
    held = holdout(points, cut=cut, by=by, draws=0)
    assert list(held.points.row) == list(np.flatnonzero(mask(points)))


def test_without_cuts_the_largest_half_third_and_sixth_are_held_out():
    table = holdout(grid(8, 8), draws=0).table
    assert table.n_test.to_numpy() / 64 == pytest.approx([1 / 2, 1 / 3, 1 / 6], abs=0.08)
    x = np.geomspace(1, 1e4, 30)
    one = holdout({"x": x, "y": 1 + 3 * x ** -0.3}, laws=["saturating_power"], draws=0)
    assert one.by == "x" and list(one.table.n_test) == [15, 10, 5] and one.table.mape.max() < 1e-6


def test_a_fit_is_scored_with_its_own_settings():
    points = grid().assign(w=1.0 + (np.arange(36) % 3))
    law = fit(points, "chinchilla", loss="mse_log", fix={"alpha": 0.34}, weights="w")
    held = holdout(law, cut=5e19, laws=["tied_chinchilla"], draws=0)
    found = held.fits["chinchilla", 5e19]
    below = points.query("6 * N * D < 5e19")
    expected = fit(below, "chinchilla", loss="mse_log", fix={"alpha": 0.34}, weights="w")
    assert found.params == expected.params and found.params["alpha"] == 0.34
    assert held.fits["tied_chinchilla", 5e19].spec.name == "mse_log"


def test_a_restricted_law_is_scored_beside_the_free_one():
    free = get_form("chinchilla")
    held = holdout(grid(), cut=5e19, laws=[free, free.with_tied({"beta": "alpha"})], draws=0)
    assert list(held.table.law) == ["chinchilla", "chinchilla (beta = alpha)"]


def test_a_law_whose_intervals_are_too_narrow_is_named():
    x = np.geomspace(1e3, 1e8, 60)
    normal = np.random.default_rng(0).standard_normal(60)
    points = {"x": x, "y": 12 * x ** -0.2 * (1 + (x / 1e6) ** 2) ** -0.1 * np.exp(0.002 * normal)}
    held = holdout(points, cut=1e6, laws=["power"], draws=100)
    said, = held.diagnostics
    assert said.about == ("power",) and "held 0% of 24" in said and said in str(held)
    assert held.to_json()["diagnostics"][0]["code"] == "under-coverage"
    straight = {"x": x, "y": 12 * x ** -0.2 * np.exp(0.002 * normal)}
    assert not holdout(straight, cut=1e6, laws=["power"], draws=100).diagnostics


@pytest.mark.slow
def test_coverage_of_a_true_law_is_about_the_level():
    tables = [holdout(grid(seed=seed), cuts=[1e20], draws=300).table for seed in range(60)]
    assert 0.8 < pd.concat(tables).coverage.mean() < 0.97


@pytest.mark.parametrize("options, words", [
    ({"cut": 7.5e17}, "leaves 5 runs below it, and chinchilla with its 5 parameters needs 6; choose one"),
    ({"cut": 1e30}, "holds out no run; choose one above"),
    ({"cuts": [1e20, 1e10]}, "the cut flops = 1e+10 leaves 0 runs"),
    ({"cut": 1e20, "cuts": [1e20]}, "not both"),
    ({"cut": 1, "by": "tokens"}, "cannot cut by 'tokens': say 'flops', an input (y, N, D) or a column"),
    ({"cut": 1, "by": "name"}, "it is not a number in 36 of 36 runs (first: row 0)"),
    ({"cut": 1e20, "fix": {"alpha": 0.3}}, "fix belongs to one law"),
    ({"cut": 1e20, "weights": np.ones(36)}, "must be the name of a column"),
    ({"cut": 1e20, "laws": ["chinchila"]}, "did you mean 'chinchilla'"),
    ({"cut": 1e20, "laws": []}, "name at least one law"),
])
def test_what_cannot_be_scored_is_refused_in_one_sentence(options, words):
    with pytest.raises(LawError) as caught:
        holdout(grid().assign(name="a"), draws=0, **options)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_cut_needs_enough_runs_below_it():
    with pytest.raises(LawError, match="with N below 1e.08 cannot be fitted: column .N. has a single value"):
        holdout(grid(2, 18), cut=1e8, by="N")
    with pytest.raises(LawError, match="6 runs are too few to hold any out: chinchilla has 5 parameters"):
        holdout(grid(3, 2), cut=1e19)
