"""Fits are exact: they recover planted laws, reach SciPy's optimum, and depend on neither units nor order."""
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling import laws
from scaling.laws.fitting import newton
from scaling.laws.fitting.search import fit_again

TRUTH = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}


def grid(models=5, sizes=4, noise=0.0, seed=0, truth=TRUTH):
    """Runs of a planted Chinchilla surface on a grid, with normal noise in log loss."""
    N, D = (v.ravel() for v in np.meshgrid(np.geomspace(2e7, 2e9, models), np.geomspace(1e9, 3e10, sizes)))
    loss = truth["E"] + truth["A"] * N ** -truth["alpha"] + truth["B"] * D ** -truth["beta"]
    loss = loss * np.exp(noise * np.random.default_rng(seed).standard_normal(loss.shape))
    return pd.DataFrame({"params_non_embedding": N, "tokens_seen": D, "flops": 6 * N * D,
                         "bits_per_byte": loss})


def same(found, expected, rel=1e-6):
    assert found == pytest.approx(expected, rel=rel)


@pytest.mark.parametrize("truth", [TRUTH, dict(E=0.4, A=9.0, B=3e4, alpha=0.12, beta=0.61),
                                   dict(E=0.0, A=50.0, B=30.0, alpha=0.2, beta=0.15)])
@pytest.mark.parametrize("loss", ["huber_log", "huber", "mse_log", "mse_log1p", "absolute"])
def test_a_fit_recovers_a_planted_law_without_noise(truth, loss):
    found = laws.fit(grid(truth=truth), loss=loss).params
    same(found, pytest.approx(truth, rel=1e-6, abs=1e-6).expected)


def test_wide_intervals_hold_the_truth_of_noisy_data():
    law = laws.fit(grid(6, 6, noise=0.003))
    boot = laws.bootstrap(law, draws=400)
    for name, value in TRUTH.items():
        low, high = boot.interval(name, 0.999)
        assert low < value < high, name
    assert 0.0025 < laws.fit(grid(20, 20, noise=0.003)).noise < 0.0035


def scipy_optimum(points, delta, start):
    """The same objective, written another way (logsumexp of logarithms), minimised by SciPy from `start`."""
    x, y, z = (np.log(points[c].to_numpy()) for c in ("params_non_embedding", "tokens_seen", "bits_per_byte"))
    cx, cy = x.mean(), y.mean()

    def value(p):
        e, a, b, alpha, beta = p
        parts = np.exp(np.stack([e + 0 * x, a - alpha * (x - cx), b - beta * (y - cy)]))
        r = np.log(parts.sum(0)) - z
        pull = np.clip(r, -delta, delta) / parts.sum(0)
        slopes = np.stack([*parts, -(x - cx) * parts[1], -(y - cy) * parts[2]])
        size = np.abs(r)
        return np.where(size < delta, r * r / 2, delta * (size - delta / 2)).sum(), slopes @ pull

    p = np.array([np.log(start["E"]), np.log(start["A"]) - start["alpha"] * cx,
                  np.log(start["B"]) - start["beta"] * cy, start["alpha"], start["beta"]])
    for _ in range(5):
        p = scipy.optimize.minimize(value, p, jac=True, method="BFGS", options={"gtol": 1e-13}).x
    return value(p)[0]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("delta", [1e-3, 0.02])
def test_the_fit_reaches_scipys_optimum(seed, delta):
    points = grid(5, 5, noise=0.005, seed=seed)
    law = laws.fit(points, delta=delta)
    assert law.objective == pytest.approx(scipy_optimum(points, delta, TRUTH), rel=1e-9)


def test_least_absolute_values_agree_with_linear_programming():
    """With fixed exponents the law is linear, and its least absolute residuals solve a linear programme."""
    points = grid(6, 5, noise=0.02)
    fixed = {"alpha": 0.34, "beta": 0.28}
    law = laws.fit(points, loss="absolute", fix=fixed)
    N, D, y = (points[c].to_numpy() for c in ("params_non_embedding", "tokens_seen", "bits_per_byte"))
    features = np.stack([np.ones(len(y)), N ** -0.34, D ** -0.28], axis=1)
    features /= (unit := features.mean(0))
    n, eye = len(y), np.eye(len(y))
    best = scipy.optimize.linprog(np.r_[np.zeros(3), np.ones(2 * n)], A_eq=np.c_[features, eye, -eye], b_eq=y)
    assert law.objective == pytest.approx(best.fun, rel=1e-6)
    assert [law.params[k] for k in "EAB"] == pytest.approx(best.x[:3] / unit, rel=1e-3)


@pytest.mark.parametrize("quantile", [0.1, 0.25, 0.5])
def test_a_quantile_has_that_share_of_runs_below_it(quantile):
    law = laws.fit(grid(12, 12, noise=0.02), delta=1e-5, quantile=quantile)
    assert np.mean(law.residuals < 0) == pytest.approx(quantile, abs=0.03)


def test_a_low_quantile_fits_the_lower_envelope():
    """Bad hyperparameters raise the loss of half the runs, and the truth is the envelope of the others."""
    points = grid(8, 8, noise=0.002)
    rng = np.random.default_rng(0)
    points["bits_per_byte"] *= np.exp(np.where(rng.random(64) < 0.5, rng.exponential(0.1, 64), 0.0))
    middle, envelope = (laws.fit(points, quantile=q).predict(1e9, 1e10) / grid_loss(1e9, 1e10) - 1
                        for q in (0.5, 0.15))
    assert abs(envelope) < 0.01 < middle


def grid_loss(N, D):
    return TRUTH["E"] + TRUTH["A"] * N ** -TRUTH["alpha"] + TRUTH["B"] * D ** -TRUTH["beta"]


def test_the_solver_agrees_with_lapack_and_sees_indefinite_matrices():
    rng = np.random.default_rng(0)
    square = rng.normal(size=(20, 5, 5))
    matrix = square @ square.transpose(0, 2, 1) + 0.1 * np.eye(5)
    matrix[::2] -= 3.0 * np.eye(5) * np.linalg.eigvalsh(matrix[::2])[:, :1, None]
    right = rng.normal(size=(20, 5))
    x, definite = newton.solve(matrix, right)
    np.testing.assert_array_equal(definite, np.linalg.eigvalsh(matrix)[:, 0] > 0)
    assert definite.any() and not definite.all()
    expected = np.linalg.solve(matrix, right[..., None])[:, :, 0]
    np.testing.assert_allclose(x[definite], expected[definite], rtol=1e-8)


positive = st.floats(1e-6, 1e6)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 99), n=positive, d=positive, y=positive)
def test_order_of_points_and_units_do_not_matter(seed, n, d, y):
    points = grid(noise=0.004, seed=seed)
    law = laws.fit(points, delta=0.005)  # convex enough that no two optima lie within rounding of each other
    other = points.assign(params_non_embedding=points.params_non_embedding * n, tokens_seen=points.tokens_seen * d,
                          bits_per_byte=points.bits_per_byte * y).sample(frac=1, random_state=seed)
    moved = laws.fit(other, delta=0.005)
    same(moved.objective, law.objective, rel=1e-9)
    same([moved.params["alpha"], moved.params["beta"]], [law.params["alpha"], law.params["beta"]])
    same(moved.params["E"], y * law.params["E"])
    same(moved.params["A"], y * law.params["A"] * n ** law.params["alpha"], rel=1e-5)
    same(moved.params["B"], y * law.params["B"] * d ** law.params["beta"], rel=1e-5)


def test_a_linear_fit_scales_with_the_loss():
    points = grid(noise=0.004)
    law = laws.fit(points, loss="huber", delta=0.01)
    moved = laws.fit(points.assign(bits_per_byte=points.bits_per_byte * 50), loss="huber", delta=0.5)
    same(moved.objective, law.objective * 2500)
    same(moved.params["E"], law.params["E"] * 50)


@settings(max_examples=10, deadline=None)
@given(counts=st.lists(st.integers(0, 3), min_size=25, max_size=25).filter(lambda c: sum(map(bool, c)) > 14))
def test_a_weight_counts_as_repetitions(counts):
    points = grid(5, 5, noise=0.004)
    weighted = laws.fit(points, weights=counts, delta=0.005)
    repeated = laws.fit(points.loc[np.repeat(points.index, counts)], delta=0.005)
    same(weighted.objective, repeated.objective, rel=1e-9)
    same([weighted.params[k] for k in TRUTH], [repeated.params[k] for k in TRUTH], rel=1e-5)
    assert laws.fit(points.assign(seeds=counts), weights="seeds", delta=0.005).params == weighted.params


def test_fixed_and_tied_parameters_hold_while_the_rest_is_fitted():
    points = grid(6, 6, noise=0.003)
    free = laws.fit(points)
    tied = laws.fit(points, tie={"beta": "alpha"})
    same(tied.params["beta"], tied.params["alpha"])
    same(tied.objective, laws.fit(points, "tied_chinchilla").objective, rel=1e-9)
    fixed = laws.fit(points, fix={"A": free.params["A"], "E": free.params["E"]})
    same(fixed.params, free.params, rel=1e-4)
    assert fixed.params["A"] == free.params["A"] and fixed.degrees_of_freedom == 33
    off = laws.fit(points, fix={"E": 1.5})
    assert off.params["E"] == 1.5 and off.objective > free.objective
    for name, (low, high) in {"alpha": (0.4, 0.5), "A": (0.0, 300.0)}.items():
        assert low <= laws.fit(points, bounds={name: (low, high)}).params[name] <= high * (1 + 1e-9)


def test_a_noise_scaled_delta_follows_the_noise():
    quiet, loud = (laws.fit(grid(20, 20, noise=s), delta="noise").spec.delta for s in (0.002, 0.02))
    assert quiet == pytest.approx(1.345 * 0.002, rel=0.2) and loud == pytest.approx(1.345 * 0.02, rel=0.2)


def test_a_robust_fit_is_not_moved_by_one_wild_run():
    points = grid(6, 6)
    points.loc[10, "bits_per_byte"] *= 1.3
    law = laws.fit(points)
    robust, squares = (abs(laws.fit(points, loss=loss).params["alpha"] - TRUTH["alpha"])
                       for loss in ("huber_log", "mse_log"))
    assert 10 * robust < squares
    assert law.residuals[10] == pytest.approx(np.log(1.3), rel=1e-2)


def without(column):
    return grid().drop(columns=column)


def with_value(value, column="bits_per_byte"):
    points = grid()
    points.loc[2, column] = value
    return points


@pytest.mark.parametrize("points, options, words", [
    (without("tokens_seen"), {}, "which column is D? Say data=<column>; the columns are params_non_embedding, fl"),
    (with_value(0.0), {}, "'bits_per_byte' must be positive"),
    (with_value(-1.0, "tokens_seen"), {}, "row 2"),
    (with_value(np.nan), {}, "drop those rows"),
    (with_value(np.nan), {"loss": "mse"}, "'bits_per_byte' has values that are not finite"),
    (grid().iloc[:4], {}, "4 points cannot determine 5 parameters"),
    (grid().iloc[:0], {}, "0 points cannot determine"),
    (grid(1, 8), {}, "'params_non_embedding' has a single value"),
    (grid().assign(bits_per_byte="a"), {}, "is not numeric"),
    (grid(), {"law": "chinchila"}, "unknown form 'chinchila', did you mean 'chinchilla'?"),
    (grid(), {"law": "power"}, "which column is x?"),
    (grid(), {"delta": -1.0}, "delta must be"),
    (grid(), {"loss": "hubr_log"}, "unknown loss 'hubr_log', did you mean 'huber_log'?"),
    (grid(), {"quantile": 1.0}, "quantile must lie"),
    (grid(), {"weights": [1.0]}, "weights must be"),
    (grid(), {"weights": "seeds"}, "no column 'seeds'"),
    (grid(), {"bounds": {"gamma": (0, 1)}}, "no parameter 'gamma'; it has E, A, B, alpha, beta"),
    (grid(), {"bounds": {"alpha": (1, 0)}}, "low < high"),
    (grid(), {"fix": {"gamma": 1}}, "no parameter 'gamma'"),
    (grid(), {"fix": dict(TRUTH)}, "every parameter of chinchilla is fixed"),
    (grid(), {"tie": {"alpha": "A"}}, "cannot tie 'alpha' to 'A'"),
])
def test_bad_input_gives_one_sentence(points, options, words):
    with pytest.raises(laws.LawError) as caught:
        laws.fit(points, **options)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_predictions_broadcast_and_refuse_nonsense():
    law = laws.fit(grid())
    assert law.predict(np.array([[1e8], [1e9]]), [1e9, 1e10, 1e11]).shape == (2, 3)
    assert law.predict(1e8, 1e9) == law.predict(D=1e9, N=1e8) == law.predict(1e8, D=1e9)
    for bad in (lambda: law.predict(1e8), lambda: law.predict(1e8, -1), lambda: law.predict(1, 2, N=3)):
        with pytest.raises(laws.LawError):
            bad()


def test_importing_the_laws_does_not_import_jax():
    code = "import sys, scaling.laws; sys.exit('jax' in sys.modules or 'tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_manifest_identifies_the_fitted_runs():
    points = grid(noise=0.003)
    law = laws.fit(laws.Runs.from_dataframe(points, where="tokens_seen > 2e9"))
    about = law.manifest
    assert about["points"] == len(law.runs) == 15 and len(about["dropped"]) == 5
    assert set(about["rows"]) | {gone["row"] for gone in about["dropped"]} == set(range(20))
    assert {gone["why"] for gone in about["dropped"]} == {"not tokens_seen > 2e9"}
    assert about["search"]["reached_best"] > 1 and about["objective"].startswith("sum of Huber(0.001)")
    assert law.manifest == laws.fit(laws.Runs.from_dataframe(points, where="tokens_seen > 2e9")).manifest
    points.loc[19, "bits_per_byte"] *= 1 + 1e-12
    assert laws.fit(laws.Runs.from_dataframe(points, where="tokens_seen > 2e9")).manifest["sha256"] != about["sha256"]


@pytest.mark.parametrize("options", [{}, {"loss": "mse"}, {"fix": {"alpha": 0.3}, "tie": {"beta": "alpha"}},
                                     {"law": "kaplan"}, {"weights": np.arange(1.0, 21.0)}])
def test_a_saved_fit_is_read_back(tmp_path, options):
    law = laws.fit(grid(noise=0.003), **options)
    boot = laws.bootstrap(law, draws=50)
    content = laws.save_fit(tmp_path / "fit.json", law, boot, laws.frontier(law, [1e18, 1e20], boot=boot))
    assert set(content["intervals"]) >= set(law.form.free) and len(content["points"]) == 20
    assert set(content["frontier"][0]) >= {"flops", "params_non_embedding", "tokens_seen", "loss", "lo", "hi"}
    back = laws.load_fit(tmp_path / "fit.json")
    assert back.params == law.params and back.diagnostics == law.diagnostics
    assert back.manifest == law.manifest and back.to_json() == law.to_json()
    np.testing.assert_array_equal(back.residuals, law.residuals)
    pd.testing.assert_frame_equal(laws.bootstrap(back, draws=50).draws, boot.draws)
    again = fit_again(back, back.runs)
    same([again.params[k] for k in law.form.free], [law.params[k] for k in law.form.free], rel=1e-5)
    for name in law.params:
        assert f"  {name} " in laws.table(law, boot)
