"""The rules of the claim on robust error give the right verdicts on runs whose truth is planted."""

import functools
import sys

import numpy as np
import pandas as pd
import pytest
from claims.planted import most

from experiments import claims
from scaling.claims import REFUTED, REPRODUCED, UNDECIDED


def rules():
    return sys.modules[claims.find("robust").analyse.__module__]


@functools.cache
def planted(law, price=0.02, noise=0.004, rungs=5, masked=0.0, studies=3):
    """Findings on runs of three seeds whose robust error is that of a law of compute, 1 at the smallest."""
    found = []
    for study in range(studies):
        rng = np.random.default_rng(study)
        rows = [{"seed": seed, "arm": arm, "rung": rung, "flops": 1e9 * 4.0**rung * (3 if arm == "attacked" else 1),
                 "robust_error": (law(4.0**rung) if arm == "attacked" else 0.99) + rng.normal(0, noise),
                 "error": 0.2 + price * (arm == "attacked") + rng.normal(0, noise)}
                for rung in range(rungs) for seed in range(3) for arm in ("attacked", "plain")]
        found.append(rules().judge(pd.DataFrame(rows), [masked + 0.002 * number for number in range(3)]))
    return found


def verdicts(name, *args, **changes):
    return [rules().CLAIM.rules[name].decide(found.estimates[name]) for found in planted(*args, **changes)]


def high(c):
    return 0.2 + 0.6 * c**-0.4


def falling(c):
    return 0.8 * c**-0.4


def constant(c):
    return 0.6 + 0 * c


def test_the_claim_is_reproduced_where_robust_errors_fall_towards_a_plateau_at_a_price():
    found = planted(high)
    assert most([rules().CLAIM.decide(each) for each in found], REPRODUCED)
    for each in found:
        assert each.estimates["plateau"].low <= each.estimates["plateau"].value <= each.estimates["plateau"].high
        assert abs(each.estimates["plateau"].value - 0.2) < 0.05 and "towards" in each.said


def test_a_power_law_without_a_plateau_is_not_taken_for_one():
    assert REPRODUCED not in verdicts("plateau", falling)
    assert most(verdicts("falls", falling), REPRODUCED)


def test_errors_that_do_not_fall_are_no_trend():
    assert most(verdicts("falls", constant), REFUTED)


@pytest.mark.parametrize("price,verdict", [(0.05, REPRODUCED), (-0.05, REFUTED)])
def test_the_price_is_the_difference_of_clean_errors(price, verdict):
    assert most(verdicts("price", high, price=price), verdict)
    assert most(verdicts("price", high, price=0.0), UNDECIDED)


def test_masked_gradients_refute_whatever_the_errors():
    assert most([rules().CLAIM.decide(found) for found in planted(high, masked=0.2)], REFUTED)


def test_few_rungs_determine_no_plateau():
    wide, narrow = (np.mean([found.estimates["plateau"].high - found.estimates["plateau"].low
                             for found in planted(high, noise=0.02, rungs=rungs)]) for rungs in (3, 7))
    assert wide > 2 * narrow


def test_every_budget_has_pairs_of_runs_that_differ_in_their_training_alone():
    claim = claims.find("robust")
    for budget in claim.cost:
        runs = claim.parts(budget)["digits"].sweep
        attacked, plain = runs[::2], runs[1::2]
        assert len(set(runs)) == len(runs) and len({run.seed for run in runs}) >= 3
        for one, other in zip(attacked, plain, strict=True):
            assert one.family.radius == one.family.test_radius == other.family.test_radius > other.family.radius == 0
            assert one.replace({"family.radius": 0.0}) == other
