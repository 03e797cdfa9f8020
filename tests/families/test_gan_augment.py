"""Augmentation of the images that the discriminator sees."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_gan import KEY, quick

from scaling.families._gan_augment import POLICIES, augment


@pytest.mark.parametrize("policy", POLICIES)
def test_each_policy_is_the_identity_at_probability_zero_and_differentiable_at_one(policy):
    x, examples = jax.random.normal(KEY, (4, 8, 8, 3)), jnp.arange(4)
    direction, step = jax.random.normal(jax.random.key(1), x.shape), 1e-2

    @quick
    def augmented(x, probability):
        def total(x):
            moved = augment(x, (policy,), probability, KEY, examples)
            return jnp.sin(moved).sum(), moved

        (total, moved), gradient = jax.value_and_grad(total, has_aux=True)(x)
        return total, moved, gradient

    np.testing.assert_array_equal(augmented(x, 0.0)[1], x)
    _, moved, gradient = augmented(x, 1.0)
    assert float(jnp.abs(moved - x).max()) > 0.1
    slope = (augmented(x + step * direction, 1.0)[0] - augmented(x - step * direction, 1.0)[0]) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=0.02)


def test_a_share_of_the_images_is_augmented_and_real_and_generated_ones_alike():
    x = jnp.broadcast_to(jax.random.normal(KEY, (1, 8, 8, 1)), (4000, 8, 8, 1))
    moved = quick(lambda x: augment(x, ("colour",), 0.3, KEY, jnp.arange(4000)))(x)
    changed = np.asarray(jnp.abs(moved - x).max((1, 2, 3)) > 0)
    real, fake = np.asarray(moved)[0::2], np.asarray(moved)[1::2]  # as `disc_loss` numbers them
    for share in (changed[0::2].mean(), changed[1::2].mean()):
        assert share == pytest.approx(0.3, abs=4 * (0.21 / 2000) ** 0.5)
    error = 4 * (real.var(0) / 1000) ** 0.5
    assert (np.abs(real.mean(0) - fake.mean(0)) < error).all()


def test_translation_moves_whole_images_and_lets_in_grey():
    x = jax.random.normal(KEY, (64, 16, 16, 2))
    moved = np.asarray(quick(lambda x: augment(x, ("translation",), 1.0, KEY, jnp.arange(64)))(x))
    found = set()
    for before, after in zip(np.asarray(x), moved):
        wide = np.pad(before, [(2, 2), (2, 2), (0, 0)])
        shifts = [(i, j) for i, j in itertools.product(range(5), range(5))
                  if np.allclose(wide[i:i + 16, j:j + 16], after, atol=1e-6)]
        assert len(shifts) == 1
        found |= set(shifts)
    assert len(found) > 15
