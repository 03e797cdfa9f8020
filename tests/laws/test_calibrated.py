"""A calibrated forecast is made of its parts: each adds what it says, and the factor widens all of them."""
import dataclasses
import json

import numpy as np
import pytest
from boxed_flags import Box

from scaling import laws
from scaling.laws.forecasts.calibrated import Stacked, describe_parts
from scaling.report import forecast_table

with Box():
    from tools import judge_rules

AT = {"N": 3e5, "D": 7e6}


@pytest.fixture(scope="module")
def picked():
    points = judge_rules.simulated("additive", 3)
    return laws.choose_law(points, "best", ("chinchilla", "kaplan"), cluster="trunk", delta="noise")


def changed(picked, **changes):
    return dataclasses.replace(picked, **{"factor": 1.0, "spread": {picked.law: 1.0}, **changes})


def width(boot):
    low, high = np.log(boot.predict(**AT))
    return high - low


def test_without_other_parts_it_is_the_bootstrap_of_its_law(picked):
    boot = laws.calibrate(changed(picked), 4000, cluster="trunk")
    plain = laws.bootstrap(boot.fit, 4000, "noise", cluster="trunk")
    np.testing.assert_allclose(boot.samples(**AT), plain.samples(**AT))
    assert width(boot) == pytest.approx(width(plain), rel=0.1)
    assert boot.leading.method == "noise cluster" and boot.fit.predict(**AT) == picked.fit.predict(**AT)


def test_every_part_has_the_size_that_it_is_said_to_have(picked):
    boot = laws.calibrate(changed(picked, spread={"chinchilla": 0.5, "kaplan": 0.5}), 4000, seed_noise=0.03 ** 2,
                          evaluation=0.02)
    parts = boot.parts(**AT)
    ends = {name: fit.predict(**AT) for name, fit in picked.fits.items()}
    assert parts["predicted"] == pytest.approx(ends) and parts["evaluation"] == pytest.approx(0.02, rel=0.08)
    assert parts["noise"] == pytest.approx(np.hypot(0.03, np.median(boot.leading.noise)), rel=0.1)
    assert parts["forms"] == pytest.approx(abs(np.log(ends["kaplan"] / ends["chinchilla"])) / np.sqrt(2), rel=0.1)
    pieces = [parts[name] for name in ("parameters", "noise", "evaluation", "forms")]
    assert max(pieces) < parts["total"] < 1.2 * np.sqrt(np.sum(np.square(pieces)))
    assert "evaluation 2.0" in describe_parts(parts)


def test_the_factor_widens_the_interval_and_leaves_the_prediction(picked):
    one, two = (laws.calibrate(changed(picked, factor=factor), 500) for factor in (1.0, 2.5))
    assert width(two) == pytest.approx(2.5 * width(one)) and two.fit.predict(**AT) == one.fit.predict(**AT)
    assert two.predict(**AT, noise=False) == one.predict(**AT, noise=False)   # that of the law alone is as it was
    assert two.parts(**AT)["total"] == pytest.approx(2.5 * one.parts(**AT)["total"])
    assert "widened 2.5 times" in describe_parts(two.parts(**AT))


def test_a_stacked_prediction_is_the_weighted_mean(picked):
    weights = {"chinchilla": 0.7, "kaplan": 0.3}
    boot = laws.calibrate(changed(picked, law="chinchilla", weights=weights, spread=weights), 500)
    ends = {name: fit.predict(**AT) for name, fit in picked.fits.items()}
    mean = np.exp(sum(weights[name] * np.log(ends[name]) for name in weights))
    assert isinstance(boot.fit, Stacked) and boot.fit.predict(**AT) == pytest.approx(mean)
    low, high = boot.predict(**AT)
    assert low < mean < high and np.log(boot.samples(**AT, noise=True)).mean() == pytest.approx(np.log(mean), abs=0.01)
    grid = boot.fit.predict(N=[1e4, 1e5], D=[1e6, 1e7])
    assert grid.shape == (2,) and boot.fit.predicted.shape == boot.fit.y.shape


@pytest.fixture(scope="module")
def middle():
    points = judge_rules.simulated("additive", 3)
    found = laws.choose_law(points, "median", ("chinchilla", "kaplan", "tied_chinchilla", "interaction"), cluster="trunk",
                            delta="noise")
    return found, laws.calibrate(found, 500, cluster="trunk")


def test_a_median_is_that_of_all_laws_at_each_point_and_its_draws_are_around_it(middle):
    chosen, boot = middle
    assert len(chosen.weights) == 4 and chosen.law == chosen.comparison.table.law.iloc[0]
    grid = {"N": np.array([1e4, 1e5, 1e6]), "D": np.array([1e6, 1e7, 1e8])}
    values = np.median([np.log(fit.predict(**grid)) for fit in chosen.fits.values()], axis=0)
    np.testing.assert_allclose(boot.fit.predict(**grid), np.exp(values))
    assert len({float(fit.predict(**AT)) for fit in chosen.fits.values()}) > 2
    assert boot.fit.predicted.shape == boot.fit.y.shape
    own, single = boot.samples(**AT), boot.leading.samples(**AT)
    assert np.median(np.log(own)) == pytest.approx(np.log(boot.fit.predict(**AT)), abs=0.3 * np.log(single).std())
    low, high = boot.predict(**AT)
    assert low < boot.fit.predict(**AT) < high


def test_one_law_that_runs_away_moves_a_mean_and_not_a_median(middle):
    chosen, boot = middle
    ends = {name: np.log(fit.predict(**AT)) for name, fit in chosen.fits.items()}
    away = max(ends, key=ends.get)
    wild = ends | {away: ends[away] + 10}
    assert chosen.together(wild) == pytest.approx(chosen.together(ends))
    assert dataclasses.replace(chosen, rule="stacked").together(wild) > chosen.together(wild) + 2


def test_a_forecast_says_how_large_each_part_is_and_is_scored_like_any_other(picked, tmp_path):
    boot = laws.calibrate(picked, 300, cluster="trunk")
    content = laws.forecast.write(tmp_path / "forecast.json", boot.fit, boot, AT)
    assert content["parts"]["factor"] == picked.factor and content["chosen"]["law"] == picked.law
    assert content["interval"] == pytest.approx(boot.predict(**AT)) and json.dumps(content, allow_nan=False)
    assert {row["law"] for row in content["chosen"]["table"]} == {"chinchilla", "kaplan"}
    result = laws.forecast.check(tmp_path / "forecast.json", content["predicted"] * 1.001, picked.fit.runs)
    assert result["inside"] and laws.forecast.verify(tmp_path / "forecast.json").ok


@pytest.mark.parametrize("rule", ["stacked", "median"])
def test_a_forecast_of_several_laws_is_written_and_checked(rule, picked, tmp_path):
    weights = {"chinchilla": 0.7, "kaplan": 0.3}
    boot = laws.calibrate(changed(picked, law="chinchilla", weights=weights, spread=weights, rule=rule), 200)
    content = laws.forecast.write(tmp_path / "forecast.json", boot.fit, boot, AT)
    assert content["predicted"] == pytest.approx(boot.fit.predict(**AT)) and content["form"] == "chinchilla"
    assert content["ray"]["values"][48] == pytest.approx(content["predicted"])  # at once the compute of the target
    assert laws.forecast.check(tmp_path / "forecast.json", content["predicted"], picked.fit.runs)["inside"]
    assert forecast_table.gather(tmp_path, "one")["law"] == rule


def test_the_bootstrap_of_another_fit_is_refused(picked):
    boot = laws.calibrate(picked, 50)
    with pytest.raises(laws.LawError, match="belongs to another fit"):
        laws.predict_run(picked.fits["kaplan" if picked.law != "kaplan" else "chinchilla"], boot, AT)
