"""Likelihoods of images: probabilities of all levels add up to one, samples follow them, gradients stay finite."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from scaling.families._vae_likelihoods import LIKELIHOODS, Bernoulli, Gaussian, Logistic, log_sigmoid


def family(channels=1, mixture=3):
    return types.SimpleNamespace(channels=channels, mixture=mixture)


def outputs(f, key=0, spread=1.0, kind=Logistic):
    """Outputs of one pixel, [1, 1, 1, n]: the initial ones plus noise."""
    noise = spread * jax.random.normal(jax.random.key(key), kind.outputs(f))
    return (jnp.asarray(kind.initial(f), jnp.float32) + noise).reshape(1, 1, 1, -1)


def every_pixel(levels, channels):
    """All values of a pixel as an image, [1, 1, levels ** channels, channels]."""
    values = list(itertools.product(range(levels), repeat=channels))
    return jnp.asarray(values, jnp.uint8).reshape(1, 1, -1, channels)


def probabilities(out, levels, channels):
    image = every_pixel(levels, channels)
    out = jnp.broadcast_to(out, (*image.shape[:3], out.shape[-1]))
    return np.exp(np.asarray(Logistic.log_prob(out, image, levels), np.float64)).ravel()


@pytest.mark.parametrize("levels,channels", [(2, 1), (16, 1), (256, 1), (2, 3), (16, 2)])
@pytest.mark.parametrize("spread", [0.0, 1.0, 4.0])
def test_mixtures_of_logistics_add_up_to_one_over_all_levels(levels, channels, spread):
    out = outputs(family(channels), spread=spread)
    assert probabilities(out, levels, channels).sum() == pytest.approx(1, abs=1e-5)


def test_bernoulli_adds_up_to_one():
    out = outputs(family(2), kind=Bernoulli, spread=3.0)
    image = every_pixel(2, 2)
    assert float(jnp.exp(Bernoulli.log_prob(jnp.broadcast_to(out, image.shape), image, 2)).sum()) == pytest.approx(1)


def test_gaussian_is_the_density_of_the_dequantised_level():
    levels, noise = 16, jnp.full((1, 1, 1, 2), 0.3)
    found = Gaussian.log_prob(jnp.asarray([0.25, -1.5]).reshape(1, 1, 1, 2), jnp.uint8([[[[9]]]]), levels, noise)
    # in units of levels: the mean 0.25 of -1 to 1 is level 9.375, the scale exp(-1.5) is 7.5 times that
    assert float(found[0, 0, 0]) == pytest.approx(scipy.stats.norm.logpdf(9 - 0.2, 9.375, 7.5 * np.exp(-1.5)), rel=1e-5)


@pytest.mark.parametrize("scale", [-40.0, 0.0, 40.0])
def test_values_and_gradients_are_finite_however_wide_or_narrow_the_components(scale):
    f = family(3)
    out = outputs(f).at[..., f.mixture * 4:f.mixture * 7].set(scale)
    image = jnp.asarray([0, 255, 130], jnp.uint8).reshape(1, 1, 1, 3)
    value, gradient = jax.value_and_grad(lambda o: Logistic.log_prob(o, image, 256).sum())(out)
    assert np.isfinite(value) and value < 0 and np.isfinite(gradient).all()


@pytest.mark.parametrize("levels,channels", [(16, 1), (2, 3)])
def test_samples_follow_the_probabilities(levels, channels):
    f, n = family(channels), 20_000
    out = outputs(f, key=3)
    noise = jax.random.uniform(jax.random.key(1), (n, 1, 1, channels + 1))
    drawn = np.asarray(Logistic.sample(jnp.broadcast_to(out, (n, 1, 1, out.shape[-1])), levels, noise), np.int64)
    seen = np.bincount(drawn.reshape(n, channels) @ levels ** np.arange(channels)[::-1], minlength=levels**channels)
    p = probabilities(out, levels, channels)
    assert (np.abs(seen / n - p) < 5 * np.sqrt(p * (1 - p) / n) + 1e-3).all()


def test_a_channel_depends_on_those_before_it():
    p = probabilities(outputs(family(2), key=5, spread=2.0), 2, 2).reshape(2, 2)
    assert abs(p[0, 0] * p[1, 1] - p[0, 1] * p[1, 0]) > 1e-3


def test_samples_of_bernoulli_and_gaussian_have_their_means():
    noise = jax.random.uniform(jax.random.key(1), (4000, 1, 1, 2))
    bits = Bernoulli.sample(jnp.full((4000, 1, 1, 1), 0.7), 2, noise)
    assert float(bits.mean()) == pytest.approx(1 / (1 + np.exp(-0.7)), abs=0.03)
    levels = Gaussian.sample(jnp.broadcast_to(jnp.asarray([0.2, -2.0]).reshape(1, 1, 1, 2), (4000, 1, 1, 2)), 256, noise)
    assert float(levels.astype(jnp.float32).mean()) == pytest.approx(1.2 * 127.5, abs=1)
    assert float(levels.astype(jnp.float32).std()) == pytest.approx(np.exp(-2) * 127.5, rel=0.05)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_every_likelihood_states_as_many_initial_values_as_outputs(name):
    for channels in (1, 3):
        f = family(channels)
        assert LIKELIHOODS[name].initial(f).shape == (LIKELIHOODS[name].outputs(f),)


def test_log_sigmoid_and_its_derivatives_are_those_of_jax():
    x = jnp.concatenate([jnp.linspace(-100.0, 100.0, 401), jnp.array([-1e-6, 1e-6, -1e3, 1e3])])
    ours, theirs = log_sigmoid, jax.nn.log_sigmoid
    for _ in range(3):  # the value, the derivative, the second derivative
        np.testing.assert_allclose(jax.vmap(ours)(x), jax.vmap(theirs)(x), rtol=2e-6, atol=1e-6)
        ours, theirs = jax.grad(ours), jax.grad(theirs)
