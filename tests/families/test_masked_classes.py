"""What is concluded of the classes that a masked model gives to texts: F1, calibration, and their standard errors."""

import numpy as np
from numpy.testing import assert_allclose

from scaling.families._classes import conclude_classes
from scaling.families.masked import Masked
from scaling.training.evaluation import metrics_of

CLASSES = Masked(vocab=31, length=12, width=16, layers=2, heads=2, classes=5)


def reference_f1(label, predicted):
    scores = []
    for c in set(label) | set(predicted):
        right = sum((label == c) & (predicted == c))
        scores.append(2 * right / (sum(label == c) + sum(predicted == c)))
    return np.mean(scores)


def reference_ece(right, confidence):
    total = 0.0
    for b in range(15):
        inside = (confidence >= b / 15) & ((confidence < (b + 1) / 15) | (b == 14))
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def classified(seed, runs=2, count=300, classes=6):
    rng = np.random.default_rng(seed)
    label = np.broadcast_to(rng.integers(0, classes - 1, count) ** 2 // (classes - 2), (runs, count))
    predicted = np.where(rng.random((runs, count)) < 0.6, label, rng.integers(0, classes, (runs, count)))
    return {"_label": label, "_predicted": predicted, "_confidence": rng.random((runs, count)).astype(np.float32)}


def test_what_is_concluded_of_classes_is_what_the_definitions_say_with_the_error_of_a_jackknife():
    found = classified(0)
    rows = {name: (value, influence) for name, (value, influence) in conclude_classes(found).items()}
    for run in range(2):
        label, predicted, confidence = (found[name][run] for name in ("_label", "_predicted", "_confidence"))
        assert_allclose(rows["macro_f1"][0][run], reference_f1(label, predicted), rtol=1e-12)
        assert_allclose(rows["calibration_error"][0][run], reference_ece(label == predicted, confidence), rtol=1e-6)
        assert_allclose([rows[name][1][run].sum() for name in rows], [0, 0], atol=1e-12)
        left_out = [reference_f1(np.delete(label, i), np.delete(predicted, i)) for i in range(len(label))]
        jackknife = np.sqrt((len(label) - 1) * np.var(left_out))
        error = metrics_of(CLASSES, found)["macro_f1_se"][run]
        assert abs(error / jackknife - 1) < 0.03
    draws = [metrics_of(CLASSES, classified(seed)) for seed in range(1, 200)]  # and of data drawn again
    spread = np.std([draw["macro_f1"][0] for draw in draws])
    assert abs(np.mean([draw["macro_f1_se"][0] for draw in draws]) / spread - 1) < 0.2
    spread = np.std([draw["calibration_error"][0] for draw in draws])
    assert abs(np.mean([draw["calibration_error_se"][0] for draw in draws]) / spread - 1) < 0.3


def test_conclusions_stand_a_diverged_run_and_examples_of_one_class_and_know_clusters():
    found = classified(0)
    found["_confidence"] = np.stack([np.full(300, np.nan), found["_confidence"][1]])
    values = metrics_of(CLASSES, found)
    assert np.isnan(values["calibration_error"][0]) and np.isfinite(values["calibration_error"][1])
    one = {"_label": np.zeros(9, int), "_predicted": np.zeros(9, int), "_confidence": np.ones(9)}
    values = metrics_of(CLASSES, one)
    assert values["macro_f1"] == 1 and values["calibration_error"] == 0 and values["macro_f1_se"] == 0
    twice = {name: np.repeat(x, 2, -1) for name, x in classified(0).items()}
    together = metrics_of(CLASSES, twice, np.repeat(np.arange(300), 2))
    assert_allclose(together["macro_f1_se"], metrics_of(CLASSES, classified(0))["macro_f1_se"], rtol=1e-9)
