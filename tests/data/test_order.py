"""The fixed order: a bijection, the same in NumPy and JAX, that mixes."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.data import order

sizes, seeds = st.integers(1, 3000), st.integers(-2**40, 2**40)


@given(sizes, seeds)
def test_permutation_is_a_bijection_of_any_size(n, seed):
    assert (np.sort(order.permutation(n, seed)) == np.arange(n)).all()


@jax.jit
def traced(index, n, seed):
    return order.permute(index, n, order.key(7, seed, xp=jnp), jnp)


@settings(deadline=None)
@given(st.integers(1, 2**31 - 1), st.integers(-2**31, 2**31 - 1))
def test_numpy_and_traced_jax_agree(n, seed):
    index = np.linspace(0, n - 1, 16).astype(np.uint32)
    here = order.permute(index, n, order.key(7, seed))
    assert (here < n).all()
    np.testing.assert_array_equal(here, traced(jnp.asarray(index), n, seed))


def test_one_key_per_index_is_each_key_by_itself():
    index, epochs = np.arange(40) % 10, np.arange(40) // 10
    together = order.permute(index, 10, order.key(3, epochs))
    for epoch in range(4):
        alone = order.permute(np.arange(10), 10, order.key(3, epoch))
        np.testing.assert_array_equal(together[epochs == epoch], alone)


def test_every_place_is_equally_likely_and_keys_differ():
    """Chi-squared of where element 0, and the pair (0, 1), go over many keys, within six sigma of uniform."""
    n, keys = 12, 6000
    zeros, many = np.zeros(keys, np.uint32), order.key(5, np.arange(keys))
    first, second = (order.permute(zeros + i, n, many).astype(int) for i in range(2))
    for counts in np.bincount(first, minlength=n), np.bincount((first - second) % n, minlength=n)[1:]:
        expected = keys / len(counts)
        freedom = len(counts) - 1
        assert ((counts - expected)**2 / expected).sum() < freedom + 6 * np.sqrt(2 * freedom)


def test_too_large_is_refused():
    with pytest.raises(ValueError, match="32 bits"):
        order.permutation(2**31)
