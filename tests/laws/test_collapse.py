"""Curves of tuned sizes collapse to the noise of a seed, and a mistuned size is flagged before a third of its training."""
import functools
import json

import numpy as np
import pytest
from simulated_curves import SIZES, curve, finished

from scaling.laws import LawError, fit
from scaling.laws.checks.collapse import EARLY, Curve, collapse, gate

STEPS, TRIALS = 2000, 20
MISTUNED = {"rate times 3": {"rate": 0.9}, "rate by 3": {"rate": 0.1},
            "weights decay in a tenth of the training": {"decay": 10 / STEPS}}


def trained(rng, sizes, seeds=2, **mistuned):
    return [curve(size, STEPS, rng, seed, **mistuned) for size in sizes for seed in range(seeds)]


def until(one, part):
    early = one.seen <= part * one.data
    return Curve(one.name, one.size, one.data, one.seen[early], one.loss[early], one.seed)


@functools.lru_cache(maxsize=1024)
def others(judged, trial):
    """(reference curves, law) of the sizes that are not judged."""
    rng = np.random.default_rng([trial, judged])
    sizes = [size for size in SIZES if size != judged]
    return trained(rng, sizes), fit(finished(rng, sizes), "power_mean", loss="mse_log", quick=True)


def flagged(judged, trials=TRIALS, **mistuned):
    """Share of trials in which the size `judged` is flagged by its first third; the law comes from the other sizes."""
    found = []
    for trial in range(trials):
        one = curve(judged, STEPS, np.random.default_rng([trial, judged, 1]), **mistuned)
        found.append(gate(until(one, EARLY), *others(judged, trial)).flagged)
    return np.mean(found)


@pytest.mark.parametrize("judged", [SIZES[-1], SIZES[1]])
@pytest.mark.parametrize("what", MISTUNED)
def test_a_mistuned_size_is_flagged_before_a_third_of_its_training(what, judged):
    assert flagged(judged, **MISTUNED[what]) >= 0.95


@pytest.mark.slow
def test_of_mistuned_sizes_95_percent_are_flagged_and_of_tuned_ones_at_most_five():
    found = {what: np.mean([flagged(judged, 100, **changes) for judged in SIZES]) for what, changes in MISTUNED.items()}
    print(found, wrongly := np.mean([flagged(judged, 100) for judged in SIZES]))
    assert min(found.values()) >= 0.95 and wrongly <= 0.05


# The fast sizes are those of the test above, which share its laws and curves.
@pytest.mark.parametrize("judged", [SIZES[-1], SIZES[1],
                                    *(pytest.param(size, marks=pytest.mark.slow) for size in SIZES[::2])])
def test_a_tuned_size_is_hardly_ever_flagged(judged):
    assert flagged(judged) <= 0.05


def test_tuned_curves_collapse_under_the_right_law_to_the_noise_of_a_seed():
    rng = np.random.default_rng(0)
    runs = finished(rng)
    law = fit(runs, "power_mean", loss="mse_log", quick=True)
    curves = trained(rng, SIZES, seeds=3)
    found = collapse(curves, law)
    assert found.typical < 2.5 and max(found.noise) < 0.03 and found.apart < 0.03
    wrong = collapse(curves, fit(runs, "chinchilla", loss="mse_log"))   # which misses these runs by 3%
    assert wrong.typical > found.typical
    bad = collapse([*trained(rng, SIZES[:-1], seeds=3), curve(SIZES[-1], STEPS, rng, rate=0.9)], law)
    assert max(bad.deviation, key=bad.deviation.get) == f"{SIZES[-1]} by 0" and bad.deviation[f"{SIZES[-1]} by 0"] > 10
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["apart"] == found.apart


def test_the_noise_is_that_of_seeds_where_there_are_several_and_not_known_where_there_are_none():
    rng = np.random.default_rng(1)
    law = fit(finished(rng), "power_mean", loss="mse_log", quick=True)

    def level(scatter):
        return collapse([curve(size, STEPS, rng, seed, scatter) for size in SIZES for seed in range(12)], law).noise[0]
    levels = [level(0.01), level(0.04)]
    assert levels[1] / levels[0] == pytest.approx(4, rel=0.3) and levels[0] == pytest.approx(0.012, rel=0.35)
    once = collapse(trained(rng, SIZES, seeds=1), law)
    assert once.noise is None and np.isnan(once.typical) and np.isfinite(once.apart)


def test_what_cannot_be_judged_is_refused_in_one_sentence():
    rng = np.random.default_rng(2)
    law = fit(finished(rng), "chinchilla")
    one = curve(SIZES[-1], STEPS, rng)
    with pytest.raises(LawError, match="1 other sizes are too few to judge 320 by 0 by; 3 are needed"):
        gate(one, trained(rng, SIZES[:1]), law)
    with pytest.raises(LawError, match="has too few points between 3% and 33% of its training"):
        gate(until(one, 0.02), trained(rng, SIZES[:-1]), law)
    with pytest.raises(LawError, match="a law in N and D, and power is in x"):
        collapse([one], fit({"x": [1.0, 2.0, 4.0], "y": [3.0, 2.0, 1.5]}, "power"))
    with pytest.raises(LawError, match="names of their own"):
        collapse([one, one], law)
