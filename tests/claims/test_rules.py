"""Each claim's rule gives the right verdict on records whose truth is planted."""

import sys

import numpy as np
import pandas as pd
import pytest
from claims.planted import most, planned, verdicts

from experiments import claims
from scaling.claims import LEVEL, REFUTED, REPRODUCED, UNDECIDED, Trained


def test_size_is_reproduced_by_a_power_of_n_and_refuted_without_one():
    assert most(verdicts("size", "transformer", lambda t: 5 * t.params_non_embedding ** -0.076), REPRODUCED)
    assert most(verdicts("size", "transformer", lambda t: 2 + 0 * t.params_non_embedding), REFUTED)
    assert most(verdicts("size", "transformer", lambda t: 5 * t.params_non_embedding ** -0.02), UNDECIDED)


def test_a_truth_at_the_bound_of_a_rule_is_decided_as_often_as_pages_say():
    """One time in ten, half of them each way, up to four standard errors of the simulations."""
    studies = 200
    found = verdicts("size", "transformer", lambda t: 5 * t.params_non_embedding ** -0.02, studies)
    for verdict, share in ((UNDECIDED, LEVEL), (REPRODUCED, (1 - LEVEL) / 2), (REFUTED, (1 - LEVEL) / 2)):
        assert abs(found.count(verdict) / studies - share) < 4 * np.sqrt(share * (1 - share) / studies)


def repeated(t, worth):
    """The loss of tokens that are worth less when they come again: equation 5 of Muennighoff et al."""
    epochs = t.tokens_seen / t.tokens_unique
    tokens = t.tokens_unique * (1 + worth * (1 - np.exp(-(epochs - 1) / worth)))
    return 1 + 14 * tokens ** -0.2


def test_data_is_reproduced_where_four_epochs_are_free_and_64_are_not(monkeypatch):
    # R_D*, which takes most of the time, is said and not judged; the next test is about it.
    monkeypatch.setattr(sys.modules[claims.find("data").analyse.__module__], "worth", lambda runs: 1.0)
    assert most(verdicts("data", "transformer", lambda t: repeated(t, 15.4)), REPRODUCED)
    assert most(verdicts("data", "transformer", lambda t: repeated(t, 0.5)), REFUTED)  # four epochs cost much
    assert most(verdicts("data", "transformer", lambda t: repeated(t, 1e6)), REFUTED)  # no repeat costs anything


def test_the_worth_of_repeats_is_found():
    table = planned("data", "transformer")
    records = table.assign(bits_per_byte=repeated(table, 15.4))
    assert "R_D* is 15." in claims.find("data").analyse("transformer", Trained(records, "")).said


@pytest.mark.parametrize("alpha,beta,verdict", [(0.3, 0.3, REPRODUCED), (0.15, 0.45, REFUTED)])
def test_split_is_judged_by_the_exponent_of_the_best_size(alpha, beta, verdict):
    def loss(t):
        size, data = t.params_non_embedding / 6e3, t.tokens_seen / 6e5
        return 1.5 + 0.6 * beta / (alpha + beta) * size ** -alpha + 0.6 * alpha / (alpha + beta) * data ** -beta

    found = verdicts("split", "transformer", loss, noise=5e-4)
    assert found.count(verdict) >= len(found) - 2 and (REPRODUCED if verdict == REFUTED else REFUTED) not in found


def test_far_is_judged_by_the_forecasts_on_record(monkeypatch):
    far = claims.find("far")
    module = sys.modules[far.analyse.__module__]

    def verdict(inside, error):
        record = [{"family": "transformer", "relative_error": error * (1 + i / 100), "inside": i < inside, "ratio": 10.0}
                  for i in range(40)]
        monkeypatch.setattr(module, "entries", lambda family: record)
        return far.decide(far.analyse("transformer", Trained(pd.DataFrame(), "")))

    assert verdict(38, 0.01) == REPRODUCED
    assert verdict(20, 0.01) == verdict(38, 0.1) == REFUTED
    assert verdict(32, 0.01) == UNDECIDED
