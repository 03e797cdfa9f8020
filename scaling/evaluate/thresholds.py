"""What a score finds at each threshold: precision and recall of examples that should be found, with intervals."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from scaling.fields import EvaluateError

LEVEL = 0.9  # of every interval


class Share(NamedTuple):
    """A share of `of` examples with its interval; NaN, from 0 to 1, of none."""

    value: float
    low: float
    high: float
    of: int


def wilson_share(found: int, of: int, level: float = LEVEL) -> Share:
    """The share `found` / `of` with the score interval of a binomial (Wilson 1927), which takes examples as independent."""
    if not of:
        return Share(float("nan"), 0.0, 1.0, 0)
    ends = stats.binomtest(int(found), int(of)).proportion_ci(level, "wilson")
    return Share(found / of, float(ends.low), float(ends.high), int(of))


@dataclasses.dataclass(frozen=True)
class AtThreshold:
    """What is found where a score of at least `threshold` flags an example.

    precision: the share of flagged examples that should be; recall: the share of those that should be that are flagged;
    false_alarms: the share of the others that are flagged.
    """

    threshold: float
    precision: Share
    recall: Share
    false_alarms: Share

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall, 0 where nothing right is flagged."""
        flagged, positive = self.precision.of, self.recall.of
        return 2 * self.recall.value * positive / (flagged + positive)


def at_thresholds(scores, positive, thresholds: Sequence[float], level: float = LEVEL) -> list[AtThreshold]:
    """What scores, float [n], find of the examples that are `positive`, bool [n], at each threshold.

    Raises EvaluateError where all examples are positive or none is, or scores and examples differ in number.
    """
    scores, positive = _checked(scores, positive)
    found = []
    for threshold in thresholds:
        flagged = scores >= threshold
        right, wrong = int((flagged & positive).sum()), int((flagged & ~positive).sum())
        found.append(AtThreshold(float(threshold), wilson_share(right, right + wrong, level),
                                 wilson_share(right, int(positive.sum()), level),
                                 wilson_share(wrong, int((~positive).sum()), level)))
    return found


def precision_recall_curve(scores, positive) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(precision, recall, threshold) [k] at every score that an example has, from the highest on.

    Examples of one score are flagged together. Raises as `at_thresholds`.
    """
    scores, positive = _checked(scores, positive)
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    right = np.cumsum(positive[order])[last]
    return right / (last + 1), right / positive.sum(), scores[order][last]


def average_precision(scores, positive) -> float:
    """The mean of the precision over the recall, as steps: the sum of P_k (R_k - R_(k-1)) over `precision_recall_curve`.

    A score that says nothing has the share of positive examples.
    """
    precision, recall, _ = precision_recall_curve(scores, positive)
    return float((precision * np.diff(recall, prepend=0)).sum())


def _checked(scores, positive) -> tuple[np.ndarray, np.ndarray]:
    scores, positive = np.asarray(scores, np.float64), np.asarray(positive, bool)
    if scores.shape != positive.shape or scores.ndim != 1:
        raise EvaluateError(f"scores {list(scores.shape)} and examples {list(positive.shape)} must be lists of one length")
    if not 0 < positive.sum() < len(positive):
        raise EvaluateError(f"{positive.sum()} of {len(positive)} examples should be found, and precision and recall need "
                            "some that should and some that should not: name other labels, or other data")
    return scores, positive
