"""Rates by a rule in the amount of data and the batch: what runs get, and that the planner sees it."""

import pytest
from sources import tiny

from scaling import experiment as experiments
from scaling.experiment import RateRule, by_rule, grid
from scaling.fields import ConfigError
from scaling.sweeps.plan import make_plan

E = tiny("transformer", **{"optim.learning_rate": 8e-3})
SEEN = E.data.seen


def test_rates_fall_with_the_horizon_and_grow_with_the_batch():
    rule = RateRule(SEEN, E.data.batch)
    assert rule(E).optim.learning_rate == 8e-3
    assert rule(E.replace({"data.tokens": 16 * SEEN})).optim.learning_rate == pytest.approx(8e-3 * 16**-0.3, rel=3e-3)
    wide = E.replace({"data.batch": 32, "data.tokens": 16 * SEEN})
    assert rule(wide).optim.learning_rate == pytest.approx(8e-3 * 16**-0.3 * 2, rel=3e-3)
    assert RateRule(SEEN, E.data.batch, horizon=0.0)(E.replace({"data.tokens": 4 * SEEN})).optim.learning_rate == 8e-3
    images = tiny("vae", **{"optim.learning_rate": 2e-3})
    assert RateRule(images.data.seen / 4, images.data.batch)(images).optim.learning_rate == pytest.approx(
        2e-3 * 4**-0.3, rel=3e-3)


def test_a_timescale_is_a_fixed_share_of_every_run():
    rule = RateRule(SEEN, E.data.batch, timescale=0.2)
    for e in by_rule(grid(E, {"data.tokens": [SEEN, 8 * SEEN], "optim.learning_rate": [4e-3, 8e-3]}), rule):
        assert e.optim.weight_decay * e.optim.learning_rate * e.steps == pytest.approx(1 / 0.2, rel=1e-2)
    assert RateRule(SEEN, E.data.batch)(E).optim.weight_decay == E.optim.weight_decay


def test_runs_of_different_rates_share_no_trunk_and_are_named_by_their_rate():
    runs = grid(E, {"data.tokens": [SEEN, 2 * SEEN, 4 * SEEN]})
    plain, ruled = make_plan(runs, lambda e: "", 1), make_plan(by_rule(runs, RateRule(SEEN, 8)), lambda e: "", 1)
    assert [len(p.trunks[0].runs) for p in plain.packs] == [3] and len(ruled.packs) == 3
    assert len({run.experiment.optim.learning_rate for run in ruled.runs}) == 3
    assert len({run.fingerprint for run in plain.runs + ruled.runs}) == 5  # the shortest is the same run
    assert all(experiments.to_dict(run.experiment)["optim"]["learning_rate"] < 8e-3 for run in ruled.runs[1:])


def test_rates_change_with_the_width_as_a_pilot_says():
    narrow, wide = (experiments.from_config(experiments.config("transformer", **{
        "family.width": width, "family.heads": 2, "optim.learning_rate": 8e-3})) for width in (16, 64))
    rule = RateRule(wide.data.seen, wide.data.batch, width=64, width_power=-0.5)
    assert rule(wide).optim.learning_rate == 8e-3 and rule(narrow).optim.learning_rate == pytest.approx(16e-3, rel=3e-3)


@pytest.mark.parametrize(("wrong", "said"), [({"seen": 0}, "seen=0"), ({"batch": 0}, "batch=0"),
                                             ({"width_power": -1.0}, "width=0"), ({"timescale": -1.0}, "timescale=-1.0")])
def test_a_rule_without_a_base_is_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        RateRule(**{"seen": 100, "batch": 8, **wrong})
