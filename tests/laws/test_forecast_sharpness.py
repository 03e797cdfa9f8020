"""A forecast says how sharp it is: its width, what forecasters without the law said, and its error in three units."""
import numpy as np
import pandas as pd
import pytest
from planted_forecast import fitted, grid

from scaling import laws
from scaling.laws.forecasts import forecast, naive
from scaling.laws.forecasts.score import score


def written(points, law, target, tmp_path, **options):
    fit = laws.fit(points, law, **options)
    return forecast.write(tmp_path / "f.json", fit, laws.bootstrap(fit, 10), target, points), fit


def test_a_pure_power_law_is_forecast_exactly_by_every_line(tmp_path):
    x = np.geomspace(1e18, 1e20, 8)
    points = pd.DataFrame({"flops": x, "loss": 50 * x ** -0.07})
    content, fit = written(laws.Runs.from_dataframe(points, x="flops"), "saturating_power", {"x": 1e22}, tmp_path,
                           loss="mse_log")
    truth = 50 * 1e22 ** -0.07
    assert content["naive"][naive.LINE] == pytest.approx(truth, rel=1e-9)
    assert content["naive"][naive.POWER] == pytest.approx(truth, rel=1e-6)
    assert content["naive"][naive.BEST] == points.loss.min() == content["best_fitted"]


def test_the_line_goes_through_the_last_two_of_the_frontier(tmp_path):
    points = pd.DataFrame({"flops": [1e18, 1e19, 1.1e19, 1e20, 2e20], "loss": [4.0, 3.5, 3.4, 3.0, 3.6]})
    content, _ = written(laws.Runs.from_dataframe(points, x="flops"), "power", {"x": 1e22}, tmp_path)
    # The run of 2e20 is beaten by a cheaper one; that of 1e19 is not the last before 1e20.
    slope = np.log(3.0 / 3.4) / np.log(1e20 / 1.1e19)
    assert content["naive"][naive.LINE] == pytest.approx(3.0 * 100 ** slope, rel=1e-9)
    # A law without E is replaced by a power law in compute through the whole frontier.
    slope, start = np.polyfit(np.log(points.flops[:4]), np.log(points.loss[:4]), 1)
    assert content["naive"][naive.POWER] == pytest.approx(np.exp(start + slope * np.log(1e22)), rel=1e-9)


def test_e_at_0_is_the_same_law_without_its_floor(tmp_path):
    content, fit = written(grid(), "chinchilla", {"N": 1e10, "D": 1e11}, tmp_path)
    assert content["naive"][naive.POWER] == pytest.approx(
        laws.fit(grid(), fix={"E": 0.0}).predict(1e10, 1e11), rel=1e-6)
    assert content["naive"][naive.POWER] < content["predicted"] < content["naive"][naive.BEST]
    assert content["compute_counted_as"] == "flops" and not content["naive_left_out"]
    assert content["width"] == (content["interval"][1] - content["interval"][0]) / content["predicted"]


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_the_error_in_compute_is_the_multiple_at_which_the_law_has_the_value(tmp_path, factor):
    content, fit = written(grid(), "chinchilla", {"N": 1e10, "D": 1e11}, tmp_path)
    observed = fit.predict(1e10 * factor ** 0.5, 1e11 * factor ** 0.5)
    found = score(content, observed)
    assert found["errors"]["compute"] == pytest.approx(factor, rel=2e-3)
    best = content["best_fitted"]
    assert found["errors"]["of_fall"] == pytest.approx((observed - content["predicted"]) / (best - observed))
    assert found["errors"]["relative"] == found["relative_error"] == found["error"] / content["predicted"]
    assert found["naive_errors"][naive.BEST] == pytest.approx({"relative": observed / best - 1, "of_fall": -1.0})


def test_units_that_do_not_exist_are_left_out_with_the_reason():
    content = laws.predict_run(*fitted(), {"N": 1e10, "D": 1e11})
    content |= naive.sharpness(fitted()[0], {"N": 1e10, "D": 1e11}, content["compute_ratio"], content["predicted"],
                               content["interval"])
    floor = score(content, 0.9)
    assert floor["errors"]["compute"] is None and "does not have this value" in floor["errors_left_out"]["compute"]
    assert "does not have this value" in floor["verdict"]
    worse = score(content, 2.6)
    assert worse["errors"]["of_fall"] is None and "not better than the best" in worse["errors_left_out"]["of_fall"]
    assert "of the fall" not in worse["verdict"]


def test_the_verdict_says_what_a_forecaster_without_the_law_would_have_had(tmp_path):
    content, fit = written(grid(), "chinchilla", {"N": 1e10, "D": 1e11}, tmp_path)
    said = score(content, content["naive"][naive.LINE] * 1.0001)["verdict"]
    assert "The best naive forecaster, the line through the last two, said" in said
    assert "a forecast without the law would lie inside as well. The forecast held." in said
    assert "which is closer" in score(content, content["naive"][naive.BEST])["verdict"]


def test_a_power_law_that_is_the_law_itself_is_no_naive_forecaster(tmp_path):
    sizes = pd.DataFrame({"compute": np.geomspace(1e15, 1e18, 8), "loss": np.geomspace(4.0, 2.0, 8)})
    content, _ = written(laws.Runs.from_dataframe(sizes, compute="compute", x="compute"), "power", {"x": 1e19}, tmp_path)
    found = score(content, content["predicted"] * 1.01)
    assert found["naive_same"] == [naive.POWER] and found["naive_best"] == naive.LINE
    assert naive.POWER not in found["naive_inside"] and "is the fitted law itself" in found["verdict"]


def test_a_metric_that_rises_and_is_negative_has_a_best_run_and_a_line(tmp_path):
    x = np.geomspace(1, 1e4, 12)
    noise = 0.02 * np.random.default_rng(0).standard_normal(12)
    points = laws.Runs.from_dataframe(pd.DataFrame({"x": x, "score": -4 * x ** -0.4 + noise - 1}), y="score")
    content, _ = written(points, "rising_power", {"x": 1e5}, tmp_path, loss="mse")
    assert content["rises"] and content["best_fitted"] == points.y.max()
    assert content["naive"][naive.LINE] >= content["best_fitted"]
    assert "positive metric" in content["naive_left_out"][naive.POWER]
    found = forecast.check(tmp_path / "f.json", -0.9, points)
    assert found["errors"]["compute"] is None and "not in compute" in found["errors_left_out"]["compute"]
    assert "of the rise" in found["verdict"] or "the rise" in found["verdict"]


def test_tables_without_compute_have_6nd_and_laws_in_other_inputs_their_input(tmp_path):
    renamed = grid().rename(columns={"params_non_embedding": "N", "tokens_seen": "D"}).drop(columns="flops")
    content, _ = written(renamed, "chinchilla", {"N": 1e10, "D": 1e11}, tmp_path)
    assert content["compute_counted_as"] == "6 N D" and set(content["naive"]) == {naive.BEST, naive.LINE, naive.POWER}
    (tmp_path / "f.json").unlink()
    sizes = pd.DataFrame({"width": [64, 128, 256, 512], "loss": [4.0, 3.4, 3.0, 2.7]})
    content, _ = written(laws.Runs.from_dataframe(sizes, x="width"), "power", {"x": 2048}, tmp_path)
    assert content["compute_counted_as"] is None and content["ray"]["of"] == "width" and naive.LINE in content["naive"]
    bare = grid().drop(columns="flops")
    fit = laws.fit(laws.Runs.from_dataframe(bare.assign(experts=8.0), experts="experts"), "chinchilla")
    assert naive.sharpness(fit, {"N": 1e10, "D": 1e11}, None, 2.0, [1.9, 2.1])["naive_left_out"] == {
        naive.LINE: "the compute of the runs or of the target is not known"}


def test_two_steps_have_naive_forecasters_of_the_metric(tmp_path):
    points = grid(noise=0.002)
    points["error"] = 0.95 - 1.9 * np.exp(-0.6 * points.bits_per_byte)
    two = laws.two_step(points, "chinchilla", "downstream", metric="error")
    content = forecast.write(tmp_path / "f.json", two, two.bootstrap(40), {"N": 1e10, "D": 1e11}, points)
    assert content["best_fitted"] == points.error.min() and not content["rises"]
    assert set(content["naive"]) == {naive.BEST, naive.LINE, naive.POWER}
    assert content["naive"][naive.POWER] < content["predicted"]


def test_a_saved_fit_forecasts_as_the_fit_did(tmp_path):
    fit, target = laws.fit(grid(), "chinchilla"), {"N": 1e10, "D": 1e11}
    laws.save_fit(tmp_path / "fit.json", fit)
    loaded = laws.load_fit(tmp_path / "fit.json")
    first, second = (forecast.write(tmp_path / name / "f.json", one, laws.bootstrap(one, 10), target, grid())
                     for name, one in (("a", fit), ("b", loaded)))
    assert first["naive"] == pytest.approx(second["naive"], rel=1e-6)
    assert first["predicted"] == pytest.approx(second["predicted"], rel=1e-9)
