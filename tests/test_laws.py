"""Laws are fitted exactly: planted laws come back, the optimum is SciPy's, and nothing depends on units or
order."""
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.optimize

from scaling import laws
from scaling.laws import diagnose, newton
from scaling.laws.forms import CHINCHILLA, SATURATING_POWER

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
@pytest.mark.parametrize("space", ["log", "linear"])
def test_a_planted_law_without_noise_comes_back_exactly(truth, space):
    same(laws.fit(grid(truth=truth), space=space).params, pytest.approx(truth, rel=1e-6, abs=1e-6).expected)


def test_one_input():
    x = np.geomspace(1e3, 1e9, 8)
    law = laws.fit({"flops": x, "loss": 0.8 + 12 * x ** -0.2}, "saturating_power", loss="loss")
    same(law.params, {"E": 0.8, "A": 12.0, "alpha": 0.2})
    same(law.predict(1e12), 0.8 + 12 * 1e12 ** -0.2)


def test_noisy_data_leave_the_truth_inside_wide_intervals():
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
def test_the_objective_is_scipys_optimum(seed, delta):
    points = grid(5, 5, noise=0.005, seed=seed)
    law = laws.fit(points, delta=delta)
    assert law.objective == pytest.approx(scipy_optimum(points, delta, TRUTH), rel=1e-9)


def shifted_terms(theta, logs):
    """E + A (x + c)^-alpha: nonlinear in c, and its derivative differs from row to row of the batch."""
    alpha, c = theta[:, 0, None], theta[:, 1, None]
    x = np.exp(logs[0])
    g = np.stack([0 * x + 0 * alpha, -alpha * np.log(x + c)], axis=1)
    dg = np.zeros((len(theta), 2, 2, len(x)))
    dg[:, 1, 0], dg[:, 1, 1] = -np.log(x + c), -alpha / (x + c)
    return g, dg


SHIFTED = laws.Form("shifted", "E + A (x + c)^-alpha", "a user's own", ("x",), ("E", "A"),
                    (laws.Parameter("alpha", 0.05, 2.0), laws.Parameter("c", 0.0, 100.0)), shifted_terms,
                    scale_free=False)


def test_a_form_of_the_users_own_is_fitted_like_any_other():
    x = np.geomspace(1, 1e4, 12)
    law = laws.fit({"x": x, "loss": 0.5 + 3 * (x + 7) ** -0.4}, SHIFTED, x="x", loss="loss")
    same(law.params, {"E": 0.5, "A": 3.0, "alpha": 0.4, "c": 7.0}, rel=1e-4)


@pytest.mark.parametrize("space", ["log", "linear"])
@pytest.mark.parametrize("form", [CHINCHILLA, SATURATING_POWER, SHIFTED], ids=lambda form: form.name)
def test_derivatives_are_those_of_the_objective(form, space):
    rng = np.random.default_rng(0)
    logs = rng.normal(size=(len(form.inputs), 30))
    loss = np.exp(0.3 * rng.normal(size=30) + 1.5)
    vector = np.array([1.5, 0.8, 0.6, 0.5, 0.3])[-len(form.names):]
    vector[:len(form.amplitudes)] = 1.2
    target, weights = (np.log(loss) if space == "log" else loss), rng.exponential(size=30)

    def at(v):
        return newton.evaluate(form, v[None].copy(), logs, target[None], weights[None], 0.2, space)

    steps = 1e-6 * np.eye(len(vector))
    point = at(vector)
    gradient = [(at(vector + s).objective[0] - at(vector - s).objective[0]) / 2e-6 for s in steps]
    np.testing.assert_allclose(point.gradient[0], gradient, rtol=1e-5, atol=1e-6)
    hessian = np.stack([(at(vector + s).gradient[0] - at(vector - s).gradient[0]) / 2e-6 for s in steps])
    if form is SHIFTED:  # the curvature of g itself, only in c here, is left out
        hessian, point.hessian[0, 2:, 2:] = hessian, hessian[2:, 2:]
    np.testing.assert_allclose(point.hessian[0], hessian, rtol=1e-4, atol=1e-5)


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


@pytest.mark.parametrize("seed", range(3))
def test_order_of_points_and_units_do_not_matter(seed):
    points = grid(noise=0.004, seed=seed)
    law = laws.fit(points)
    same(laws.fit(points.sample(frac=1, random_state=seed)).params, law.params)
    other = points.assign(params_non_embedding=points.params_non_embedding / 1e6,
                          tokens_seen=points.tokens_seen * 4.2, bits_per_byte=points.bits_per_byte * 100)
    moved = laws.fit(other)
    same(moved.objective, law.objective, rel=1e-9)
    same([moved.params["alpha"], moved.params["beta"]], [law.params["alpha"], law.params["beta"]])
    same(moved.params["E"], 100 * law.params["E"])
    same(moved.params["A"], 100 * law.params["A"] * 1e-6 ** law.params["alpha"])
    same(moved.params["B"], 100 * law.params["B"] * 4.2 ** law.params["beta"])


def test_a_linear_fit_scales_with_the_loss():
    points = grid(noise=0.004)
    law = laws.fit(points, space="linear", delta=0.01)
    moved = laws.fit(points.assign(bits_per_byte=points.bits_per_byte * 50), space="linear", delta=0.5)
    same(moved.objective, law.objective * 2500)
    same(moved.params["E"], law.params["E"] * 50)


def test_a_weight_of_two_is_the_run_twice():
    points = grid(noise=0.004)
    weights = np.ones(len(points))
    weights[3] = 2
    same(laws.fit(points, weights=weights).params, laws.fit(pd.concat([points, points.iloc[[3]]])).params)


def test_a_noise_scaled_delta_follows_the_noise():
    quiet, loud = (laws.fit(grid(20, 20, noise=s), delta="noise-scaled").delta for s in (0.002, 0.02))
    assert quiet == pytest.approx(1.345 * 0.002, rel=0.2) and loud == pytest.approx(1.345 * 0.02, rel=0.2)


def test_a_robust_fit_is_not_moved_by_one_wild_run():
    points = grid(6, 6)
    points.loc[10, "bits_per_byte"] *= 1.3
    law = laws.fit(points)
    robust, squares = (abs(laws.fit(points, delta=delta).params["alpha"] - TRUTH["alpha"])
                       for delta in (1e-3, np.inf))
    assert 10 * robust < squares
    assert law.residuals[10] == pytest.approx(np.log(1.3), rel=1e-2)


def said(law, words):
    return any(words in line for line in law.diagnostics)


def test_diagnostics_say_what_is_wrong_and_only_then():
    assert laws.fit(grid(6, 6, noise=0.002)).diagnostics == []
    assert said(laws.fit(grid(3, 6, noise=0.002)), "N has 3 distinct levels")
    assert said(laws.fit(grid(3, 2, noise=0.002)), "1 degrees of freedom")
    line = grid(6, 6, noise=0.002).iloc[::7]
    assert said(laws.fit(line), "confounded")
    assert said(laws.fit(grid(6, 6, truth=TRUTH | {"E": 0.0})), "E is at its bound 0")
    assert said(laws.fit(grid(6, 6, noise=0.002), bounds={"alpha": (0.4, 1.0)}), "alpha = 0.4 is at a bound")
    absent = laws.fit(grid(noise=0.003, truth=TRUTH | {"A": 0.0}))
    assert said(absent, "as good within noise") and said(absent, "poorly determined")
    wild = grid(6, 6, noise=0.002)
    wild.loc[7, "bits_per_byte"] *= 1.2
    assert said(laws.fit(wild), "row 7")
    assert diagnose.condition_number(CHINCHILLA, np.array([1.0, 0.0, 1.0, 0.3, 0.3]), np.eye(2)) == np.inf


def without(column):
    return grid().drop(columns=column)


def with_value(value, column="bits_per_byte"):
    points = grid()
    points.loc[2, column] = value
    return points


@pytest.mark.parametrize("points, options, words", [
    (without("tokens_seen"), {}, "no column 'tokens_seen' for D; the columns are params_non_embedding, fl"),
    (with_value(0.0), {}, "'bits_per_byte' must be positive"),
    (with_value(-1.0, "tokens_seen"), {}, "row 2"),
    (with_value(np.nan), {}, "drop those rows"),
    (grid().iloc[:4], {}, "4 points cannot determine 5 parameters"),
    (grid().iloc[:0], {}, "0 points cannot determine"),
    (grid(1, 8), {}, "'params_non_embedding' has a single value"),
    (grid().assign(bits_per_byte="a"), {}, "is not numeric"),
    (grid(), {"form": "chinchila"}, "unknown form 'chinchila'; the forms are chinchilla"),
    (grid(), {"delta": -1.0}, "delta must be"),
    (grid(), {"space": "loglog"}, "space must be"),
    (grid(), {"weights": [1.0]}, "weights must be"),
    (grid(), {"bounds": {"gamma": (0, 1)}}, "cannot bound 'gamma'"),
    (grid(), {"bounds": {"alpha": (1, 0)}}, "low < high"),
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


def test_a_saved_fit_is_read_back(tmp_path):
    law = laws.fit(grid(noise=0.003))
    boot = laws.bootstrap(law, draws=50)
    content = laws.save(tmp_path / "fit.json", law, boot, laws.frontier(law, [1e18, 1e20], boot=boot))
    assert set(content["intervals"]) == set(TRUTH) and len(content["points"]) == 20
    assert set(content["frontier"][0]) >= {"flops", "params_non_embedding", "tokens_seen", "loss", "lo", "hi"}
    back = laws.load(tmp_path / "fit.json")
    assert back.params == law.params and back.diagnostics == law.diagnostics
    np.testing.assert_array_equal(back.residuals, law.residuals)
    pd.testing.assert_frame_equal(laws.bootstrap(back, draws=50).draws, boot.draws)
    for name in TRUTH:
        assert f"  {name} " in laws.table(law, boot)
