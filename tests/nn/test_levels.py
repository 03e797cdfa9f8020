"""Levels of pixels as floats and back; images at other sizes."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import nn


@pytest.mark.parametrize("levels", [2, 3, 16, 256])
def test_levels_go_to_floats_and_back(levels):
    every = np.arange(levels, dtype=np.uint8)
    unit, signed = nn.levels_to_unit(every, levels), nn.levels_to_signed(every, levels)
    assert unit.dtype == signed.dtype == np.float32
    np.testing.assert_allclose(unit, np.linspace(0, 1, levels), atol=1e-6)
    np.testing.assert_allclose(signed, np.linspace(-1, 1, levels), atol=1e-6)
    back = nn.signed_to_levels(signed, levels)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, every)


@pytest.mark.parametrize("function", [nn.levels_to_unit, nn.levels_to_signed])
def test_numpy_and_jax_agree(function):
    every = np.arange(256, dtype=np.uint8)
    traced = jax.jit(lambda x: function(x, 256))(every)
    assert traced.dtype == np.float32
    np.testing.assert_allclose(traced, function(every, 256), atol=1e-7)


def test_floats_become_the_nearest_level_within_the_range():
    x = jnp.array([-3.0, -1.0, -0.9, -0.3, 0.32, 0.4, 5.0])
    np.testing.assert_array_equal(nn.signed_to_levels(x, 4), [0, 0, 0, 1, 2, 2, 3])


@pytest.mark.parametrize("factor", [2, 4])
def test_downsampling_takes_means_and_undoes_upsampling(factor):
    x = jax.random.normal(jax.random.key(0), (2, 3, 5, 4))
    large = nn.upsample(x, factor)
    assert large.shape == (2, 3 * factor, 5 * factor, 4)
    np.testing.assert_array_equal(large, np.asarray(x).repeat(factor, 1).repeat(factor, 2))
    np.testing.assert_allclose(nn.downsample(large, factor), x, rtol=1e-6)
    image = jnp.arange(float(factor**2)).reshape(1, factor, factor, 1)
    np.testing.assert_allclose(nn.downsample(image, factor), image.mean().reshape(1, 1, 1, 1))
