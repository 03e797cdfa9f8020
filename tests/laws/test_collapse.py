"""Curves of tuned sizes collapse to the noise of a seed, and a mistuned size is flagged before a third of its training."""
import json

import numpy as np
import pytest
from simulated_curves import SIZES, curve, finished

from scaling.laws import LawError, fit
from scaling.laws.checks.collapse import EARLY, Curve, collapse, gate

STEPS, TRIALS = 2000, 40
MISTUNED = {"rate times 3": {"rate": 0.9}, "rate by 3": {"rate": 0.1}, "timescale of the decay": {"decay": 5 / STEPS}}


def trained(rng, sizes, seeds=2, **mistuned):
    return [curve(size, STEPS, rng, seed, **mistuned) for size in sizes for seed in range(seeds)]


def until(one, part):
    early = one.seen <= part * one.data
    return Curve(one.name, one.size, one.data, one.seen[early], one.loss[early], one.seed)


def flagged(judged, trials=TRIALS, **mistuned):
    """Share of trials in which the size `judged` is flagged by its first third; the law comes from the other sizes."""
    found = []
    for trial in range(trials):
        rng = np.random.default_rng([trial, judged])
        others = [size for size in SIZES if size != judged]
        law = fit(finished(rng, others), "chinchilla", loss="mse_log", starts=8)
        found.append(gate(until(curve(judged, STEPS, rng, **mistuned), EARLY), trained(rng, others), law).flagged)
    return np.mean(found)


@pytest.mark.parametrize("judged", [SIZES[-1], SIZES[1]])
@pytest.mark.parametrize("what", MISTUNED)
def test_a_mistuned_size_is_flagged_before_a_third_of_its_training(what, judged):
    assert flagged(judged, **MISTUNED[what]) >= 0.95


@pytest.mark.parametrize("judged", SIZES)
def test_a_tuned_size_is_hardly_ever_flagged(judged):
    assert flagged(judged) <= 0.05


def test_tuned_curves_collapse_to_the_noise_of_a_seed():
    rng = np.random.default_rng(0)
    law = fit(finished(rng), "chinchilla", loss="mse_log", starts=8)
    found = collapse(trained(rng, SIZES, seeds=3), law)
    assert found.of_seeds and found.typical < 4 and np.nanmax(found.noise) < 0.03
    bad = collapse([*trained(rng, SIZES[:-1], seeds=3), curve(SIZES[-1], STEPS, rng, rate=0.9)], law)
    assert max(bad.deviation, key=bad.deviation.get) == f"{SIZES[-1]} by 0"
    assert bad.deviation[f"{SIZES[-1]} by 0"] > 2 * found.typical
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["of_seeds"] is True


def test_the_noise_is_that_of_seeds_where_there_are_several_and_of_curves_where_there_are_not():
    rng = np.random.default_rng(1)
    law = fit(finished(rng), "chinchilla", loss="mse_log", starts=8)
    for scatter in (0.01, 0.04):
        many = [curve(size, STEPS, rng, seed, scatter=scatter) for size in SIZES for seed in range(12)]
        noise = collapse(many, law).noise
        assert noise == pytest.approx(np.full(len(noise), 1.25 * scatter), rel=0.35)
    assert not collapse(trained(rng, SIZES, seeds=1), law).of_seeds


def test_what_cannot_be_judged_is_refused_in_one_sentence():
    rng = np.random.default_rng(2)
    law = fit(finished(rng), "chinchilla")
    one = curve(SIZES[-1], STEPS, rng)
    with pytest.raises(LawError, match="2 curves of other sizes are too few to judge 320 by 0 by; 3 are needed"):
        gate(one, trained(rng, SIZES[:1]), law)
    with pytest.raises(LawError, match="has no points between 3% and 33% of its training yet"):
        gate(until(one, 0.02), trained(rng, SIZES[:-1]), law)
    with pytest.raises(LawError, match="a law in N and D, and power is in x"):
        collapse([one], fit({"x": [1.0, 2.0, 4.0], "y": [3.0, 2.0, 1.5]}, "power"))
    with pytest.raises(LawError, match="names of their own"):
        collapse([one, one], law)
