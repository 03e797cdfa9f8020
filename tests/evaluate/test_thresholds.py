"""What a score finds at thresholds: precision and recall are those of counting, and their intervals cover."""

import numpy as np
import pytest
from scipy import stats

from scaling.evaluate.thresholds import at_thresholds, average_precision, precision_recall_curve, wilson_share
from scaling.fields import EvaluateError


def scored(seed=0, count=400, says=1.0):
    """Scores with ties, and which examples are positive; `says` is how much the scores say of them."""
    rng = np.random.default_rng(seed)
    positive = rng.random(count) < 0.2
    return np.round(rng.normal(says * positive, 1), 1), positive


def test_precision_recall_and_false_alarms_are_shares_of_counts():
    scores, positive = scored()
    for found in at_thresholds(scores, positive, (-9, 0.0, 0.5, 1.3, 9)):
        flagged = [score >= found.threshold for score in scores]
        right = sum(f and p for f, p in zip(flagged, positive))
        assert (found.precision.of, found.recall.of) == (sum(flagged), positive.sum())
        assert found.recall.value == right / positive.sum()
        assert found.false_alarms.value == (sum(flagged) - right) / (~positive).sum()
        if right:
            assert found.precision.value == right / sum(flagged)
            assert found.f1 == pytest.approx(2 / (1 / found.precision.value + 1 / found.recall.value))
        for share in (found.precision, found.recall, found.false_alarms):
            assert share.low <= share.high and (np.isnan(share.value) or share.low <= share.value <= share.high)


def test_a_curve_has_the_points_of_its_thresholds_and_ties_are_flagged_together():
    scores, positive = scored()
    precision, recall, thresholds = precision_recall_curve(scores, positive)
    assert list(thresholds) == sorted({*scores}, reverse=True) and recall[-1] == 1
    for p, r, found in zip(precision, recall, at_thresholds(scores, positive, thresholds)):
        assert (p, r) == pytest.approx((found.precision.value, found.recall.value))


def test_average_precision_is_one_for_a_score_that_knows_and_the_share_for_one_that_does_not():
    _, positive = scored()
    assert average_precision(positive * 1.0, positive) == 1
    assert average_precision(np.zeros(len(positive)), positive) == pytest.approx(positive.mean())
    drawn = [average_precision(*scored(seed, says=0.0)) for seed in range(200)]
    assert abs(np.mean(drawn) - 0.2) < 0.02 < average_precision(*scored(says=0.5)) - 0.2


def test_wilsons_interval_covers_shares_as_often_as_it_says():
    found = [wilson_share(k, 60, 0.9) for k in range(61)]
    coverage = [sum(stats.binom.pmf(k, 60, p) for k, each in enumerate(found) if each.low <= p <= each.high)
                for p in np.linspace(0.02, 0.98, 97)]
    assert abs(np.mean(coverage) - 0.9) < 0.015 and min(coverage) > 0.8
    assert np.isnan(wilson_share(0, 0).value) and wilson_share(0, 0)[1:] == (0, 1, 0)


def test_what_has_no_precision_or_no_recall_is_refused():
    for positive in (np.zeros(3, bool), np.ones(3, bool)):
        with pytest.raises(EvaluateError, match="should be found, and precision and recall need some"):
            average_precision(np.arange(3.0), positive)
    with pytest.raises(EvaluateError, match="lists of one length"):
        at_thresholds(np.arange(3.0), np.ones(2, bool), (0.5,))
