"""Bias amplification: it is the equation of its source, 0 for a model that is as the data, and its interval covers."""

import numpy as np
import pytest

from scaling.evaluate.bias import (
    DIRECTIONS,
    amplification,
    amplification_of_answers,
    count_pairs,
    representation,
)
from scaling.fields import EvaluateError

PLANTED = np.array([[0.40, 0.10], [0.15, 0.35]])  # shares [tasks, attributes]


def drawn(shares, count, seed):
    return np.random.default_rng(seed).multinomial(count, np.ravel(shares)).reshape(np.shape(shares))


def equation_1(real, model, direction):
    """Wang and Russakovsky 2021, equation 1, cell by cell."""
    total, (tasks, attributes) = 0.0, np.shape(real)
    p, q = np.asarray(real) / np.sum(real), np.asarray(model) / np.sum(model)
    for t in range(tasks):
        for a in range(attributes):
            y = p[t, a] > p[t].sum() * p[:, a].sum()
            delta = (q[t, a] / q[t].sum() - p[t, a] / p[t].sum() if direction == "T->A" else
                     q[t, a] / q[:, a].sum() - p[t, a] / p[:, a].sum())
            total += delta if y else -delta
    return total / (tasks * attributes)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_it_is_the_equation_of_its_source(direction):
    for seed in range(5):
        real, model = drawn(np.full((3, 4), 1 / 12), 500, seed), drawn(np.full((3, 4), 1 / 12), 300, seed + 50)
        found = amplification(real, model, direction, resamples=20)
        assert found.value == pytest.approx(equation_1(real, model, direction))
        assert found.cells.shape == (3, 4) and found.cells.mean() == pytest.approx(found.value)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_model_as_its_data_amplifies_nothing_and_one_that_exaggerates_has_the_sign(direction):
    counts = (10_000 * PLANTED).astype(int)
    assert amplification(counts, 3 * counts, direction).value == pytest.approx(0, abs=1e-12)
    exaggerated, levelled = [[0.49, 0.01], [0.02, 0.48]], [[0.25, 0.25], [0.25, 0.25]]
    assert amplification(counts, np.multiply(exaggerated, 1e4), direction).low > 0
    assert amplification(counts, np.multiply(levelled, 1e4), direction).high < 0


def test_directions_are_different_things():
    """A model asked for tasks in other proportions, but with the groups of the data in each task, adds no group."""
    counts = 10_000 * PLANTED
    other = counts * np.array([[3.0], [1.0]])
    assert amplification(counts, other, "T->A").value == pytest.approx(0, abs=1e-12)
    assert abs(amplification(counts, other, "A->T").cells).max() > 0.05


@pytest.mark.parametrize("confusion", [None, np.array([[900, 100], [300, 1700]])], ids=["seen", "told by a classifier"])
def test_the_interval_covers_and_errors_of_the_classifier_are_taken_out(confusion):
    model = np.array([[0.45, 0.05], [0.10, 0.40]])
    true, inside = equation_1(PLANTED, model, "T->A"), []
    for seed in range(200):
        seen, again = model, None
        if confusion is not None:
            rows = confusion / confusion.sum(1, keepdims=True)
            seen, again = model @ rows, np.stack([drawn(row, 1000, seed + 900 + i) for i, row in enumerate(rows)])
        found = amplification(drawn(PLANTED, 2000, seed), drawn(seen, 1000, seed + 500), "T->A", again, resamples=200)
        inside.append(found.low <= true <= found.high)
    assert 0.83 < np.mean(inside) < 0.97


def test_a_model_that_draws_one_group_alone_keeps_its_shares_within_0_and_1_and_leaves_the_other_direction_undefined():
    """The classifier errs on fewer samples than on real images, so that less than none would be left of a group."""
    seen, confusion = [[480, 20], [460, 40]], [[900, 100], [100, 900]]
    found = amplification(10_000 * PLANTED, seen, "T->A", confusion)
    assert found.value == pytest.approx(amplification(10_000 * PLANTED, [[500, 0], [500, 0]], "T->A").value)
    assert -1 <= found.low <= found.value <= found.high <= 1
    with pytest.raises(EvaluateError, match="A->T is not defined.*no example of some attribute"):
        amplification(10_000 * PLANTED, seen, "A->T", confusion)


def test_answers_about_the_examples_themselves_have_narrower_intervals():
    rng = np.random.default_rng(0)
    pairs = rng.choice(4, 1500, p=PLANTED.ravel())
    task, attribute = pairs // 2, pairs % 2
    predicted = np.where(rng.random(1500) < 0.1, attribute, task)
    found = amplification_of_answers(task, attribute, predicted, (2, 2))
    apart = amplification(count_pairs(task, attribute, (2, 2)), count_pairs(predicted, attribute, (2, 2)), "A->T")
    assert found.value == pytest.approx(apart.value) and found.low > 0
    assert found.high - found.low < 0.7 * (apart.high - apart.low)
    same = amplification_of_answers(task, attribute, task, (2, 2))
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_groups_are_represented_by_shares_of_their_row():
    found = representation([[30, 10], [0, 5]])
    assert [[share.value for share in row] for row in found] == [[0.75, 0.25], [0, 1]]
    assert found[1][0].low == 0 < found[1][0].high and found[0][0].of == 40


def test_what_cannot_be_compared_is_refused():
    for real, direction in (([[1, 2], [0, 0]], "T->A"), ([[1, 0], [1, 0]], "A->T"), ([[1, 2]], "T->A")):
        with pytest.raises(EvaluateError, match="what is given must have examples"):
            amplification(real, [[1, 2], [3, 4]], direction)
    with pytest.raises(EvaluateError, match="one of T->A, A->T, not 'up'"):
        amplification([[1, 2], [3, 4]], [[1, 2], [3, 4]], "up")
    with pytest.raises(EvaluateError, match="attributes are numbers from 0 to 1"):
        count_pairs([0, 1], [0, 2], (2, 2))
