"""Which runs to buy next: a design keeps its budget and shrinks the error of its target."""

import json

import numpy as np
import pandas as pd
import pytest

from scaling.laws import LawError, best_loss, best_size, bootstrap, first_grid, fit, loss_at, suggest
from scaling.laws.design import design
from scaling.laws.design.design import simulate
from scaling.laws.design.grid import prior, trunks
from scaling.laws.design.search import Information, natural, slopes
from scaling.laws.design.targets import target_of

SURFACE = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}  # Besiroglu et al. 2024
FAR = {"N": 1.5e10, "D": 3e11}
BUDGET = 2e20


def points(sizes, amounts):
    n, d = (axis.ravel() for axis in np.meshgrid(sizes, amounts, indexing="ij"))
    return pd.DataFrame({"N": n, "D": d})


@pytest.fixture(scope="module")
def boot():
    """The bootstrap of a law fitted to a first grid of sixteen simulated runs."""
    frame = points(np.geomspace(5e7, 4e8, 4), np.geomspace(1e9, 8e9, 4))
    law = fit(frame.assign(loss=simulate("chinchilla", SURFACE, 0.005, seed=1)(frame)), delta="noise")
    return bootstrap(law, draws=200)


def information(boot, frame, target=FAR):
    """(the search for a target over candidates whose costs add up, the candidates)."""
    frame = frame.assign(cost=6 * frame["N"] * frame["D"], seed=0)
    return design._information(frame, boot, target_of(target),
                               lambda frame, masks: masks @ frame["cost"].to_numpy(), 16), frame


# ------------------------------------------------------------------------------------------------ the search


def test_sensitivities_are_the_fit_s_jacobian_in_natural_units(boot):
    from scaling.laws.fitting.fit import jacobian
    law = boot.fit
    changes = natural(law.form, law.vector[None], law.logs)

    def predicted(rows):
        return law.spec.transform(law.form.predict(rows, law.logs))
    found = slopes(predicted, law.vector[None], changes)[0]
    np.testing.assert_allclose(found, jacobian(law) * np.diagonal(changes[0]), rtol=1e-5, atol=1e-7)


def test_variance_of_a_linear_law_is_that_of_least_squares():
    """For a law that is linear in its parameters the design's standard error is the textbook's."""
    frame = pd.DataFrame({"x": np.geomspace(1, 100, 8)})
    frame["loss"] = 1.5 + 4 / frame["x"] + 0.01 * np.random.default_rng(0).standard_normal(8)
    law = fit(frame, "saturating_power", loss="mse", fix={"alpha": 1.0})
    drawn = bootstrap(law, draws=50, method="noise")
    asked = loss_at(x=1000.0)
    candidates = pd.DataFrame({"x": [50.0, 200.0], "cost": [1.0, 1.0], "seed": [0, 0]})
    found = design._information(candidates, drawn, asked, lambda frame, masks: masks.sum(1), 4)
    old, both = (np.stack([np.ones_like(x), 1 / x], axis=1)
                 for x in (frame["x"].to_numpy(), np.append(frame["x"], candidates["x"])))
    goal = np.array([1.0, 1e-3])
    before, after = (law.noise ** 2 * goal @ np.linalg.solve(x.T @ x, goal) for x in (old, both))
    assert found.change([0, 1]) == pytest.approx(np.log(after / before), rel=1e-3)


def test_gains_are_what_adding_a_candidate_changes(boot):
    found, _ = information(boot, points(np.geomspace(5e7, 1e9, 3), np.geomspace(1e9, 2e10, 3)))
    for taken in ([], [4, 7]):
        gains = found.gains(found.of(taken))
        for k in (0, 3, 8):
            assert gains[k] == pytest.approx(found.change([*taken, k]) - found.change(taken), rel=1e-6)
    masks = np.zeros((2, 9), bool)
    masks[1, [4, 7]] = True
    changes = (found.log_variances(masks) - found.before).mean(1)
    np.testing.assert_allclose(changes, [0.0, found.change([4, 7])], atol=1e-9)


def test_the_search_comes_close_to_the_best_of_all_sets(boot):
    found, frame = information(boot, points(np.geomspace(5e7, 1.6e9, 3), np.geomspace(1e9, 3e10, 4)))
    cost = frame["cost"].to_numpy()
    sets = (np.arange(2 ** 12)[:, None] >> np.arange(12) & 1).astype(bool)
    for budget in (3e18, 3e19, 2e20):
        allowed = sets[sets @ cost <= budget]
        best = (found.log_variances(allowed) - found.before).mean(1).min()
        assert found.change(found.search(budget)) <= best + 0.02  # 2% of the variance


def test_a_run_the_target_does_not_depend_on_is_not_worth_buying():
    """Two unknowns, of which only the first matters."""
    bought, candidates = np.eye(2)[None], np.array([[[1.0, 0.0], [0.0, 5.0]]])
    found = Information(bought, np.ones(2), candidates, np.array([[1.0, 0.0]]), lambda masks: masks.sum(1))
    assert found.gains(found.start)[1] == pytest.approx(0.0) and found.search(1.0) == [0]


# ---------------------------------------------------------------------------------------------- suggestions


@pytest.mark.parametrize("target", [
    FAR, "alpha", best_size(1e22), best_loss(1e22),
    lambda p: p["beta"] / (p["alpha"] + p["beta"])])
def test_a_suggestion_keeps_to_the_budget_and_improves_the_target(boot, target):
    found = suggest(boot, None, BUDGET, target=target)
    assert found.cost <= BUDGET * (1 + 1e-9) and found.cost == pytest.approx(found.runs["cost"].sum())
    assert found.se_after < 0.7 * found.se_now and found.variance_per_flop > 0
    assert (found.runs["gain"] >= 0).all() and not found.runs.duplicated(["N", "D"]).any()
    content = json.loads(json.dumps(found.to_json()))
    assert content["se_now"] == found.se_now and len(content["runs"]) == len(found.runs)
    assert found.target in str(found)


def test_estimates_and_standard_errors_are_the_bootstrap_s(boot):
    found = suggest(boot, None, BUDGET, target=FAR)
    assert found.estimate == pytest.approx(boot.fit.predict(**FAR))
    low, high = np.log(boot.predict(**FAR, level=0.6826, noise=False))
    assert found.se_now == pytest.approx((high - low) / 2, rel=1e-3) and found.relative


def test_more_money_never_buys_less(boot):
    changes = [suggest(boot, None, budget, target=FAR).se_after for budget in (1e19, 4e19, 1.6e20)]
    assert changes == sorted(changes, reverse=True)


def test_points_that_were_bought_are_left_out_or_bought_as_new_seeds(boot):
    old = boot.fit.runs.frame[["N", "D"]]
    found = suggest(boot, old, BUDGET, target=FAR, seeds=3).runs
    assert len(found) and set(found["seed"]) <= {1, 2}
    with pytest.raises(LawError, match="bought already"):
        suggest(boot, old, BUDGET, target=FAR)


def test_a_law_in_one_input_needs_a_cost():
    frame = pd.DataFrame({"x": np.geomspace(1e15, 1e18, 8)})
    wave = np.exp(0.01 * np.sin(np.arange(8.0)))
    law = fit(frame.assign(loss=1 + 3e3 * frame["x"] ** -0.25 * wave), "saturating_power", delta="noise")
    with pytest.raises(LawError, match="the cost of a run is unknown"):
        suggest(law, None, 1e19, target={"x": 1e21})
    found = suggest(law, None, 1e19, target={"x": 1e21}, cost=lambda x: x)
    assert found.runs["cost"].equals(found.runs["x"]) and found.se_after < found.se_now


def test_runs_of_one_size_share_a_trunk():
    frame = pd.DataFrame({"N": [1.0, 1.0, 2.0, 2.0], "D": [1.0, 4.0, 1.0, 4.0],
                          "cost": [10.0, 40.0, 20.0, 80.0], "seed": [0, 0, 0, 1]})
    masks = np.array([[1, 1, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
    # the trunk before the longest cooldown, and each run's own; other seeds have other trunks
    np.testing.assert_allclose(trunks(0.2)(frame, masks), [32 + 10, 40, 42 + 20 + 80, 0])


def test_shared_trunks_buy_more_for_the_same_money(boot):
    alone = suggest(boot, None, 2e19, target=FAR)
    shared = suggest(boot, None, 2e19, target=FAR, together=trunks())
    assert shared.cost <= 2e19 * (1 + 1e-9) < shared.runs["cost"].sum() and shared.se_after < alone.se_after


def test_batches_are_bought_within_the_budget_and_refitted(boot):
    run = simulate("chinchilla", SURFACE, 0.005, seed=7)
    found = suggest(boot, None, 4e19, target=FAR, run=run, batches=3, most=9)
    assert found.runs["batch"].is_monotonic_increasing and set(found.runs["batch"]) <= {0, 1, 2}
    assert found.cost <= 4e19 * (1 + 1e-9) and len(found.runs) <= 9
    assert len(found.fit.runs) == len(boot.fit.runs) + len(found.runs)
    np.testing.assert_array_equal(found.fit.runs.y[len(boot.fit.runs):], found.runs["y"])
    assert found.se_found < found.se_now


@pytest.mark.parametrize("change,said", [
    ({"budget": 0}, "budget must be positive"), ({"budget": 1e3}, "cheapest"), ({"target": "alhpa"}, "alpha"),
    ({"target": {"N": 1e9}}, "needs N, D"), ({"target": {"N": 1e9, "D": -1}}, "positive"),
    ({"batches": 2}, "way to run"), ({"candidates": {"N": [1e8]}}, "column D"),
    ({"candidates": {"N": [1e8], "D": [0.0]}}, "D of the candidates"),
    ({"cost": lambda N, D: -N}, "cost of the candidates"), ({"target": 3}, "a target is"),
    ({"target": lambda p: 0 * p["E"]}, "does not depend"),
])
def test_bad_input_is_one_sentence(boot, change, said):
    given = {"candidates": None, "budget": BUDGET, "target": FAR} | change
    with pytest.raises(LawError, match=said):
        suggest(boot, given.pop("candidates"), given.pop("budget"), **given)


def test_simulated_runs_repeat_with_the_seed_and_differ_between_calls():
    def planted(N, D):
        return (SURFACE["E"] + SURFACE["A"] * N ** -SURFACE["alpha"]
                + SURFACE["B"] * D ** -SURFACE["beta"])
    run, again = (simulate(planted, noise=0.01, seed=3) for _ in range(2))
    frame = points([1e8, 2e8], [1e9, 2e9])
    first, second = run(frame), run(frame)
    np.testing.assert_array_equal(first, again(frame))
    assert (first != second).all()
    exact = simulate("chinchilla", SURFACE, noise=0.0)(frame)
    np.testing.assert_allclose(exact, planted(frame["N"], frame["D"]))


# ------------------------------------------------------------------------------------------- the first grid


@pytest.mark.parametrize("options", [
    {"budget": 1e19}, {"budget": 1e21, "together": trunks()},
    {"budget": 1e19, "target": {"N": 2e8, "D": 3e9}},
    {"budget": 1e14, "sizes": [5e3, 1e4, 2e4, 4e4, 8e4, 1.6e5, 3.2e5, 6.4e5], "data": (2e4, np.inf)}])
def test_a_first_grid_identifies_exponents_and_leaves_money_for_its_check(options):
    found = first_grid(**options)
    levels = found.runs.groupby("N")["D"].nunique()
    assert len(levels) >= 4 and levels.min() >= 3
    assert found.cost + found.held_out["cost"] <= options["budget"] * (1 + 1e-9)
    assert found.runs["cost"].max() <= found.held_out["cost"] / 5 * (1 + 1e-9)
    if "sizes" in options:
        assert {*levels.index, found.held_out["N"]} <= set(options["sizes"]) and found.runs["D"].min() >= 2e4
    assert json.loads(json.dumps(found.to_json()))["se"] == found.se and "then forecast" in str(found)


def test_a_first_grid_forecasts_as_well_as_it_promises():
    """Of laws drawn from the prior. The promise is a geometric mean over laws; 12 seeds know it to about
    30%."""
    grid, errors = first_grid(1e19, noise=0.005), []
    at = {name: grid.held_out[name] for name in ("N", "D")}
    for seed, params in enumerate(prior(**at, draws=8, seed=5).to_dict("records")):
        run = simulate("chinchilla", params, 0.005, seed)
        law = fit(grid.runs.assign(loss=run(grid.runs)), delta="noise")
        truth = simulate("chinchilla", params, 0.0)(pd.DataFrame([at]))[0]
        errors.append(np.log(law.predict(**at) / truth))
    assert grid.se / 2.5 < np.median(np.abs(errors)) / 0.6745 < 2.5 * grid.se


@pytest.mark.parametrize("options,said", [
    ({"budget": -1}, "budget must be positive"), ({"budget": 1e19, "law": "farseer"}, "no prior of farseer"),
    ({"budget": 1e19, "target": {"N": 1e10, "D": 1e11}}, "all of the budget"),
    ({"budget": 1e19, "sizes": [1e8, 2e8]}, "no grid of 4 sizes"),
    ({"budget": 1e9, "sizes": [1e8, 2e8, 3e8, 4e8]}, "smallest size")])
def test_a_first_grid_that_cannot_be_is_one_sentence(options, said):
    with pytest.raises(LawError, match=said):
        first_grid(**options)
