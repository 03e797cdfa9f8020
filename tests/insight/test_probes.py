"""Probes find a planted linear factor and no random one, do not remember on held-out groups, and say how sure they are."""

import numpy as np
import pytest
from scipy import optimize

from scaling.insight import probes


def planted(seed=0, n=1800, width=12, classes=3):
    """(activations that hold a factor linearly, the factor, its groups of ten, types, what is held out)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    features = 4 * rng.normal(size=(classes, width))[labels] + rng.normal(size=(n, width))
    groups = np.arange(n) // 10
    return features @ rng.normal(size=(width, width)), labels, groups, rng.integers(40, size=n), groups % 3 == 0


def test_a_planted_factor_is_found_and_a_random_one_is_not():
    features, labels, groups, types, test = planted()
    found = probes.score_probe(features, labels, groups, types, test)
    assert found.accuracy > 0.97 and found.low <= found.accuracy <= found.high
    assert found.selectivity > 0.4 and found.control < 0.6  # as often as one class of random types can be
    noise = np.random.default_rng(1).permutation(labels)
    none = probes.score_probe(features, noise, groups, types, test)
    assert none.accuracy < none.majority + 0.06 and none.high - none.low > 0.01


def test_a_probe_that_remembers_types_has_no_selectivity():
    rng = np.random.default_rng(0)
    types = rng.integers(20, size=1500)
    features, groups = np.eye(20)[types] + 0.01 * rng.normal(size=(1500, 20)), np.arange(1500)
    found = probes.score_probe(features, types % 4, groups, types, groups % 3 == 0)
    assert found.accuracy > 0.99 and found.control > 0.99 and abs(found.selectivity) < 0.01


def test_a_scale_or_offset_of_activations_changes_nothing():
    features, labels, groups, types, test = planted(n=600)
    first = probes.score_probe(features, labels, groups, types, test)
    again = probes.score_probe(1e4 * features - 7, labels, groups, types, test)
    assert abs(first.accuracy - again.accuracy) < 0.01


def test_a_group_on_both_sides_is_refused():
    features, labels, groups, types, _ = planted(n=60)
    with pytest.raises(ValueError, match="group 0 is in training and in the test"):
        probes.score_probe(features, labels, groups, types, np.arange(60) % 2 == 0)


def test_the_fit_is_the_minimum_of_its_objective():
    features, labels, *_ = planted(n=200, width=3)
    features = (features - features.mean(0)) / features.std(0)
    weights, offsets = probes.fit_probe(features, labels, 3, penalty=0.1)

    def objective(flat):
        w, b = flat[:9].reshape(3, 3), flat[9:]
        logits = features @ w + b
        nats = np.log(np.exp(logits).sum(1)) - logits[np.arange(200), labels]
        return nats.mean() + 0.05 * np.square(w).sum()

    slope = optimize.approx_fprime(np.append(weights.ravel(), offsets), objective, 1e-6)
    assert np.abs(slope).max() < 1e-3


def test_intervals_over_groups_cover_the_mean_as_often_as_they_say():
    rng, covered = np.random.default_rng(0), 0
    groups = np.repeat(np.arange(40), 5)
    for _ in range(200):
        values = rng.normal(size=40)[groups] + 0.1 * rng.normal(size=200)  # nearly one number for each group
        low, high = probes.group_interval(values, groups, rng)
        covered += low <= 0 <= high
    assert 0.82 < covered / 200 < 0.96
