"""Random bits of numbered examples: uniform, independent, and the same in NumPy and JAX."""
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from scaling.data import order
from scaling.data.known import draws

INDEX = np.arange(1 << 16, dtype=np.uint32)


def test_numpy_and_jax_draw_the_same_bits():
    numpy = draws.bits(draws.streams(INDEX[:512], 3), 5)
    traced = jax.jit(lambda index, number: draws.bits(draws.streams(index, 3, jnp), number, jnp))(INDEX[:512], 5)
    np.testing.assert_array_equal(traced, numpy)


def test_bits_are_uniform_and_independent_across_examples_draws_and_seeds():
    rows = [draws.bits(draws.streams(INDEX, seed), number) >> np.uint32(28) for seed in (0, 1) for number in (0, 1, 2)]
    for row in rows:
        assert stats.chisquare(np.bincount(row, minlength=16)).pvalue > 1e-4
    pairs = [(rows[0], rows[1]), (rows[1], rows[2]), (rows[0], rows[3]), (rows[0][1:], rows[0][:-1]),
             (rows[0][1:], rows[1][:-1])]
    for a, b in pairs:
        assert stats.chisquare(np.bincount(16 * a + b, minlength=256)).pvalue > 1e-4


def test_no_two_examples_share_a_run_of_bits():
    state = draws.streams(INDEX, 0)
    drawn = [draws.bits(state, number).astype(np.uint64) for number in range(7)]
    both = [a << np.uint64(32) | b for a, b in itertools.pairwise(drawn)]
    assert len(np.unique(np.concatenate(both))) == 6 * len(INDEX)


@pytest.mark.parametrize("weights", [[1.0], [3, 1], [1e-12, 1, 2], [0, 1, 0, 5]])
def test_a_choice_has_the_probabilities_of_its_thresholds(weights):
    limits = draws.thresholds(weights)
    p = draws.probabilities(limits)
    np.testing.assert_allclose(p, np.array(weights) / np.sum(weights), atol=2 ** -31)
    assert p.sum() == 1
    edge = np.concatenate([limits, limits - np.uint32(1), np.array([0, draws.UNIT - 1], np.uint32)])
    found = draws.pick(edge, limits)
    assert all(p[found] > 0)
    ends = np.cumsum(p) * draws.UNIT
    assert all((ends[found] > edge) & (ends[found] - p[found] * draws.UNIT <= edge))


def test_unpermute_undoes_permute():
    for n in (2, 7, 64, 1000):
        key = order.key(4, np.arange(n))
        places = order.permute(np.arange(n), n, key)
        np.testing.assert_array_equal(order.unpermute(places, n, key), np.arange(n))
