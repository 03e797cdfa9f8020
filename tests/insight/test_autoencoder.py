"""A sparse autoencoder finds planted directions, and more latents and steps explain more."""

import jax.numpy as jnp
import numpy as np
import pytest

from scaling.insight import autoencoder

WIDTH, DIRECTIONS, AT_ONCE = 24, 32, 3


@pytest.fixture(scope="module")
def planted():
    """(activations [n, width] that are sums of three of 32 directions, the directions)."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(DIRECTIONS, WIDTH))
    directions -= directions.mean(1, keepdims=True)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    used = rng.random((6000, DIRECTIONS)).argsort(1)[:, :AT_ONCE]
    weights = np.zeros((6000, DIRECTIONS))
    np.put_along_axis(weights, used, rng.uniform(0.5, 1.5, used.shape), axis=1)
    return weights @ directions, directions


@pytest.fixture(scope="module")
def fits(planted):
    x, _ = planted
    return autoencoder.train_autoencoder(x[:5000], x[5000:], 2 * DIRECTIONS, k=AT_ONCE, steps=1200)


def test_planted_directions_are_found(planted, fits):
    near = np.abs(planted[1] @ np.asarray(fits[-1].autoencoder.decoder).T).max(1)
    random = np.random.default_rng(1).normal(size=(2 * DIRECTIONS, WIDTH))
    chance = np.abs(planted[1] @ (random / np.linalg.norm(random, axis=1, keepdims=True)).T).max(1)
    assert np.median(near) > 0.95 and (near > 0.9).mean() > 0.75 and chance.mean() < 0.6
    assert fits[-1].error < 0.15


def test_the_error_falls_while_training_goes_on_and_compute_is_counted(fits):
    errors = [fit.error for fit in fits]
    assert errors == sorted(errors, reverse=True) and [fit.steps for fit in fits] == [300, 600, 900, 1200]
    assert fits[-1].flops == 6 * (2 * fits[-1].latents * WIDTH) * 1200 * 256


def test_too_few_latents_explain_less(planted, fits):
    x, _ = planted
    few = autoencoder.train_autoencoder(x[:5000], x[5000:], 8, k=AT_ONCE, steps=1200)[-1]
    assert few.error > fits[-1].error + 0.1 and few.latents == 8


def test_reconstructions_keep_the_mean_and_norm_of_activations(planted, fits):
    x = jnp.asarray(7 * planted[0][:50] + 3, jnp.float32)
    again = fits[-1].reconstruct(x.reshape(5, 10, WIDTH))
    assert again.shape == (5, 10, WIDTH)
    assert jnp.square(again.reshape(50, WIDTH) - x).sum() < 0.2 * jnp.square(x - x.mean(0)[None]).sum()


def test_top_k_keeps_the_largest_that_are_positive():
    kept = autoencoder.top_k(jnp.array([[3.0, -1.0, 5.0, 4.0], [-3.0, -1.0, 2.0, -4.0]]), 2)
    assert kept.tolist() == [[0, 0, 5, 4], [0, 0, 2, 0]]
