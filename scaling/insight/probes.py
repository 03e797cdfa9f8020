"""Linear probes: how much of a known factor a linear map reads from activations (Alain & Bengio 2016, arXiv:1610.01644).

A probe is multinomial logistic regression with a fixed penalty, trained on some groups (documents, images) and scored on
others. Beside its accuracy stand that of always saying the most frequent class, and that of a control task (Hewitt & Liang
2019, arXiv:1909.03368): each type of input, such as a byte, gets a random class once and for all, so that a probe can only
succeed by remembering types. The difference of the two accuracies is the selectivity (their equation 1).
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize, special

PENALTY = 1e-3  # of the mean square of the weights of standardised activations
LEVEL, RESAMPLES = 0.9, 400  # of intervals, by the bootstrap of groups
ITERATIONS = 100  # of L-BFGS at most


class ProbeScore(NamedTuple):
    """A probe on examples that it was not trained on; accuracies are shares from 0 to 1, `low` to `high` its interval."""

    accuracy: float
    low: float
    high: float
    majority: float  # the accuracy of the class that is most frequent in training
    control: float  # the accuracy on the control task

    @property
    def selectivity(self) -> float:
        """The accuracy beyond that on the control task."""
        return self.accuracy - self.control


def score_probe(features, labels, groups, types, test, seed: int = 0) -> ProbeScore:
    """Train a probe and score it.

    Args:
      features: float [n, width], activations.
      labels: integer [n], the factor.
      groups: integer [n]; those of one document or image are resampled together.
      types: integer [n], what the control task labels, such as the token that was read.
      test: bool [n], which examples are held out; no group may be on both sides.
      seed: of the control task and the bootstrap.
    """
    features, labels, groups, types, test = map(np.asarray, (features, labels, groups, types, test))
    if shared := set(groups[test]) & set(groups[~test]):
        raise ValueError(f"group {min(shared)} is in training and in the test: hold out whole groups")
    rng = np.random.default_rng(seed)
    control = control_labels(labels, types, rng)
    right = probe_hits(features, labels, test)
    low, high = group_interval(right, groups[test], rng)
    majority = np.bincount(labels[~test]).argmax()
    return ProbeScore(float(right.mean()), low, high, float((labels[test] == majority).mean()),
                      float(probe_hits(features, control, test).mean()))


def control_labels(labels, types, rng) -> np.ndarray:
    """A random class for each type, drawn with the frequencies of `labels`: integer [n]."""
    known, number = np.unique(types, return_inverse=True)
    return rng.choice(labels, len(known))[number]


def probe_hits(features, labels, test) -> np.ndarray:
    """Whether a probe trained on the examples outside of `test` is right on those inside, bool [test]."""
    train = ~test
    middle, spread = features[train].mean(0), features[train].std(0)
    scaled = (features - middle) / np.maximum(spread, 1e-6 * max(spread.max(), 1e-30))
    weights, offsets = fit_probe(scaled[train], labels[train], int(labels.max()) + 1)
    return (scaled[test] @ weights + offsets).argmax(-1) == labels[test]


def fit_probe(features, labels, classes: int, penalty: float = PENALTY) -> tuple[np.ndarray, np.ndarray]:
    """(weights [width, classes], offsets [classes]) that minimise the mean nats of the labels, plus half of the penalty
    times the sum of squares of the weights."""
    width, wanted = features.shape[1], np.eye(classes)[labels]

    def objective(flat):
        weights, offsets = flat[:-classes].reshape(width, classes), flat[-classes:]
        logits = features @ weights + offsets
        log_share = special.log_softmax(logits, axis=-1)
        error = (np.exp(log_share) - wanted) / len(labels)
        gradient = np.append((features.T @ error + penalty * weights).ravel(), error.sum(0))
        return -(log_share * wanted).sum() / len(labels) + penalty / 2 * np.square(weights).sum(), gradient

    found = optimize.minimize(objective, np.zeros((width + 1) * classes), jac=True, method="L-BFGS-B",
                              options={"maxiter": ITERATIONS}).x
    return found[:-classes].reshape(width, classes), found[-classes:]


def group_interval(values, groups, rng, level: float = LEVEL) -> tuple[float, float]:
    """The interval of the mean of values [n] over resampled groups, by percentiles of the bootstrap."""
    _, number = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(number, values), np.bincount(number)
    drawn = rng.integers(len(sums), size=(RESAMPLES, len(sums)))
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
