"""How often intervals of a speed-up hold the truth, and how often verdicts are right, over simulated ladders."""

from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from planted_recipes import Planted, ladders

from scaling import laws


class Scored(NamedTuple):
    """Shares of simulations whose 90% intervals hold the truth, by rung [R], at the target and of the slope; verdicts."""
    rungs: np.ndarray
    target: float
    slope: float
    verdicts: Counter


def simulate(plan: Planted, times: int, draws: int = 300) -> Scored:
    rungs, target, slope, verdicts = [], [], [], Counter()
    for i in range(times):
        found = laws.speedup(*ladders(plan, np.random.default_rng([11, i])), draws=draws, seed=i)
        truth = plan.speedup(found.flops)
        rungs.append(((found.table["low"] <= truth) & (truth <= found.table["high"])).to_numpy())
        for kept, value, estimate in ((target, plan.speedup(found.target), found.at(found.target)),
                                      (slope, plan.decade, found.slope)):
            kept.append(estimate.low <= np.log(value) <= estimate.high)
        verdicts[found.verdict] += 1
    return Scored(np.mean(rungs, 0), float(np.mean(target)), float(np.mean(slope)), verdicts)


# {name: (plan, the verdicts that are right, the least share of right ones)}
PLANS = {
    "constant": (Planted(1.3, 1.0, noise=0.001), ("keeps",), 0.8),
    "constant, noisier": (Planted(1.3, 1.0), ("keeps",), 0.0),
    "fading": (Planted(1.8, 0.87), ("fades",), 0.8),
    "fading as Muon does": (Planted(1.31, 0.93, seeds=4, noise=0.002), ("fades",), 0.8),
    "reversing": (Planted(1.2, 0.82), ("reverses",), 0.8),
    "unpaired": (Planted(1.3, 1.0, noise=0.002, paired=False, shared=0.0), ("keeps",), 0.0),
    "three rungs of two seeds": (Planted(1.3, 1.0, seeds=2, rungs=3), ("keeps",), 0.0),
    "a dearer change": (Planted(1.5, 0.9, seeds=3, cost=1.2), ("fades",), 0.0),
}


def test_intervals_hold_the_truth_and_verdicts_are_right():
    """A few of the simulations below. Of 30 intervals of 90%, fewer than 22 hold the truth once in 3000 times."""
    plan, right, _ = PLANS["fading"]
    found = simulate(plan, 30, draws=200)
    assert found.rungs.mean() > 0.8 and min(found.target, found.slope) >= 22 / 30
    assert found.verdicts[right[0]] >= 24


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANS)
def test_intervals_cover_and_verdicts_are_right_at_stated_rates(name):
    """Four hundred ladders each: coverage from 85 to 95% (its standard error is 1.5%, of the mean over rungs less), wrong
    verdicts for 5% at most and right ones for the share that PLANS names. "Cannot tell" is never wrong."""
    plan, right, least = PLANS[name]
    times = 400
    found = simulate(plan, times)
    wrong = times - sum(found.verdicts[verdict] for verdict in (*right, "cannot tell"))
    print(name, found, f"wrong {wrong / times:.1%}")
    assert 0.85 <= found.rungs.mean() <= 0.95 and 0.85 <= found.target <= 0.95 and 0.85 <= found.slope <= 0.95
    assert wrong / times <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / times)  # the rate is 5%, this is two standard errors more
    assert sum(found.verdicts[verdict] for verdict in right) >= least * times
