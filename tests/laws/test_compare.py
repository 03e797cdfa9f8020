"""Laws are ranked by their predictions: a planted law wins, and criteria that do not apply are not shown."""
import importlib
import json

import numpy as np
import pandas as pd
import pytest
from reference import case

from scaling.laws.fitting.search import fit
from scaling.laws.forms.form import LawError
from scaling.laws.scores.compare import compare

comparing = importlib.import_module("scaling.laws.scores.compare")  # the module, not its function `compare`
ONE = ("power", "saturating_power", "shifted_power", "bnsl")
TWO = ("chinchilla", "tied_chinchilla", "kaplan", "interaction")


def planted(law, seed=0, noise=0.004):
    """Runs of a law, over a range in which each of its terms matters."""
    x = np.geomspace(1e3, 1e8, 24)
    N, D = (v.ravel() for v in np.meshgrid(np.geomspace(1e7, 3e9, 7), np.geomspace(3e8, 1e11, 7)))
    points = pd.DataFrame({"x": x} if law in ONE else {"N": N, "D": D})
    additive = 1.69 + 400 * N ** -0.34 + 400 * D ** -0.28
    y = {"power": lambda: 12 * x ** -0.2,
         "saturating_power": lambda: 0.8 + 12 * x ** -0.2,
         "shifted_power": lambda: 0.5 + 300 * (x + 2e4) ** -0.5,
         "bnsl": lambda: 0.6 + 4 * x ** -0.08 * (1 + (x / 2e4) ** (1 / 0.3)) ** (-0.3 * 0.4),
         "chinchilla": lambda: additive,
         "tied_chinchilla": lambda: 1.8 + 500 * N ** -0.35 + 1500 * D ** -0.35,
         "kaplan": lambda: ((8.8e13 / N) ** (0.076 / 0.095) + 5.4e13 / D) ** 0.095,
         "interaction": lambda: additive + 2e5 * N ** -0.34 * D ** -0.28}[law]()
    return points.assign(y=y * np.exp(noise * np.random.default_rng(seed).standard_normal(len(y))))


@pytest.mark.parametrize("law, rivals", [("kaplan", TWO), ("interaction", TWO),
                                         ("shifted_power", ("power", "saturating_power", "shifted_power"))])
def test_a_planted_law_wins(law, rivals):
    found = compare(planted(law), rivals, draws=0, loss="mse_log")
    assert found.best == law and set(found.table.law) == set(rivals)
    assert found.table.aicc.idxmin() == 0


@pytest.mark.slow
@pytest.mark.parametrize("law", ONE + TWO)
def test_a_planted_law_wins_in_most_seeds(law):
    rivals = ONE if law in ONE else TWO
    assert sum(compare(planted(law, seed), rivals, draws=0).best == law for seed in range(10)) >= 6


def test_the_broken_law_extrapolates_its_own_reference():
    data, _ = case("bnsl")
    measured = data[data.group == "4digit_addition_measured"]
    cut = measured[measured.split == "extrapolate"].x.min()
    rivals = "power", "saturating_power", "m4", "bnsl"
    found = compare(measured, rivals, cuts=[cut], loss="mse_log1p", draws=0)
    assert found.best == "bnsl"
    scores = found.table.set_index("law").rmse
    assert scores["bnsl"] < 0.5 * scores["m4"] and scores["bnsl"] < 0.02 * scores["power"]


def test_criteria_only_under_a_likelihood():
    points = planted("chinchilla")
    robust = compare(points, TWO[:2], cuts=[1e20], draws=0)
    assert "aicc" not in robust.table and any("not a likelihood" in note for note in robust.notes)
    squares = compare(points, TWO[:2], cuts=[1e20], draws=0, loss="mse_log")
    assert not any("likelihood" in note for note in squares.notes)
    n = len(points)
    for name, k in (("chinchilla", 6), ("tied_chinchilla", 5)):  # the noise counts
        law = squares.fits[name]
        deviance = n * np.log((law.residuals ** 2).sum() / n)
        expected = deviance + 2 * k + 2 * k * (k + 1) / (n - k - 1), deviance + k * np.log(n)
        assert comparing.criteria(law) == pytest.approx(expected)
    assert squares.table[["aicc", "bic"]].min().tolist() == [0, 0]


def test_runs_refute_laws_that_fit_them_worse_than_chance_allows():
    found = compare(planted("interaction", noise=0.002), TWO, draws=0)
    refuted = dict(zip(found.table.law, found.table.refuted))
    assert refuted["kaplan"] and refuted["tied_chinchilla"] and not refuted["interaction"] and found.best == "interaction"
    assert not (found.table.refuted & found.table.tied).any()
    assert found.table.refuted.is_monotonic_increasing  # refuted ones come last, whatever they predict
    assert any("kaplan" in note and "refuted" in note for note in found.notes)


@pytest.mark.slow
def test_the_true_law_is_hardly_ever_refuted():
    fits = [{law: fit(planted("chinchilla", seed, noise=0.01), law) for law in ("chinchilla", "interaction", "kaplan")}
            for seed in range(30)]
    found = np.array([comparing.refuted(each) for each in fits])
    assert found[:, 0].sum() <= 1 and not found[:, 1].any() and found[:, 2].mean() > 0.9


def test_a_law_with_as_many_parameters_as_runs_refutes_none():
    points = planted("chinchilla").iloc[[0, 6, 24, 42, 48]]
    fits = {law: fit(points, law) for law in ("chinchilla", "tied_chinchilla")}
    assert not comparing.refuted(fits).any()


def test_cross_validation_is_that_of_fits_without_each_fold():
    points = planted("chinchilla", noise=0.01)
    law = fit(points, loss="mse_log")
    labels = np.arange(len(points)) % 3
    found = comparing.cross_validate(law, labels)
    for fold in range(3):
        others, out = points[labels != fold], points[labels == fold]
        expected = fit(others, loss="mse_log").predict(out.N, out.D)
        np.testing.assert_allclose(found[labels == fold], expected, rtol=1e-6)
    assert np.isnan(comparing.cross_validate(fit(points.iloc[:8]), np.arange(8) // 4)).all()


def test_whole_sizes_or_whole_clusters_are_left_out(monkeypatch):
    seen = []
    monkeypatch.setattr(comparing, "cross_validate", lambda law, labels: seen.append(labels) or law.predicted)
    points = planted("chinchilla").assign(run=np.random.default_rng(0).permutation(49) // 7)
    compare(points, TWO[:2], cuts=[1e20], draws=0)
    compare(points, TWO[:2], cuts=[1e20], draws=0, cluster="run", folds=3)
    for labels, groups, folds in ((seen[0], points.N, 5), (seen[-1], points.run, 3)):
        assert (pd.Series(labels).groupby(groups.to_numpy()).nunique() == 1).all()
        assert set(labels) == set(range(folds))


def test_ties_go_to_the_law_with_fewer_parameters():
    points = planted("power", seed=1)
    found = compare(points, ["saturating_power", "power"], draws=0, cuts=[1e6])
    same = found.table.set_index("law")
    assert same.tied.all() and found.best == "power" and "do not tell them apart" in found.notes[-1]


def test_a_tie_is_within_one_standard_error():
    rng = np.random.default_rng(0)
    base = np.abs(rng.normal(size=400))
    near = base + 0.1 * rng.normal(size=400) + 0.001
    errors = pd.DataFrame({"best": base, "near": near, "far": base + 0.1})
    assert list(comparing.tied(errors, np.arange(400) % 2)) == [True, True, False]
    assert list(comparing.tied(errors[["far", "best"]].iloc[:2], [0, 1])) == [False, True]
    assert comparing.tied(errors * np.nan, np.arange(400) % 2).all()


def test_a_comparison_becomes_text_and_json():
    found = compare(planted("chinchilla"), cuts=[1e20], draws=50, laws=TWO[:3])
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [row["law"] for row in content["table"]] == list(found.table.law)
    assert found.table.coverage.between(0, 1).all() and found.best in str(found) and content["notes"]


def test_without_names_all_laws_whose_inputs_are_columns_are_compared():
    one = comparing.candidates(planted("power"))
    assert {"power", "saturating_power", "shifted_power", "m4", "bnsl"} <= set(one)
    two = comparing.candidates(planted("chinchilla"))
    assert set(TWO) <= set(two) and not {"power", "data_constrained", "downstream"} & set(two)
    found = compare(planted("power").rename(columns={"x": "L"}), draws=0, cuts=[1e6])
    assert set(found.table.law) == set(comparing.candidates({"L": [1.0], "y": [1.0]}))


@pytest.mark.parametrize("options, words", [
    ({"laws": ["chinchilla"]}, "at least two laws"),
    ({"laws": TWO, "cluster": "corpus"}, "no column 'corpus' to cluster by"),
    ({"laws": TWO, "cluster": "one"}, "a single one of the clusters of one"),
    ({"laws": TWO, "folds": 1}, "at least 2 folds"),
    ({"laws": ["chinchilla", "power"]}, "which column is x?"),
    ({"laws": TWO, "cuts": [1e30]}, "holds out no run"),
])
def test_what_cannot_be_compared_is_refused_in_one_sentence(options, words):
    with pytest.raises(LawError) as caught:
        compare(planted("chinchilla").assign(one=1), draws=0, **{"cuts": [1e20], **options})
    assert words in str(caught.value) and "\n" not in str(caught.value)
