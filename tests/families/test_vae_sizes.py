"""Sizes of the VAE: its ladder, a single latent vector, and impossible sizes."""

import jax
import pytest

from scaling import axes
from scaling.families._vae_sizes import weights as matrix_weights
from scaling.families.vae import VAE

KEY = jax.random.key(5)


@pytest.mark.parametrize("body", ["tokens", "conv"])
@pytest.mark.parametrize("image_size", [16, 32, 64])
def test_the_ladder_is_near_its_sizes_and_ascends(body, image_size):
    rungs = [VAE.ladder(size, body=body, image_size=image_size) for size in VAE.sizes()]
    weights = [matrix_weights(f) for f in rungs]
    assert all(abs(n / size - 1) < 0.15 for n, size in zip(weights, VAE.sizes()))
    assert all(a < b for a, b in zip(weights, weights[1:]))
    assert VAE.sizes()[0] == 1e4 and VAE.sizes()[-1] == pytest.approx(1e9)


@pytest.mark.parametrize("changes", [{}, {"body": "conv"}, {"plain": True}, {"caption": 16}, {"channels": 3}])
@pytest.mark.parametrize("size", [1e4, 1e6])
def test_the_ladder_counts_the_parameters(changes, size):
    f = VAE.ladder(size, **changes)
    counted = axes.count_parameters(jax.eval_shape(f.init, KEY))
    assert matrix_weights(f) == pytest.approx(counted["non_embedding"], rel=0.12 if size < 1e5 else 0.02)


def test_a_plain_vae_has_one_latent_vector():
    f = VAE(plain=True, width=32, layers=4)
    noise = f.noise(KEY, f.example_batch(2, KEY))
    assert [x.shape for x in noise] == [(1, 2, 1, 1, 64)]
    assert sum(stage.blocks for stage in f.stages) == 4


@pytest.mark.parametrize("changes,word", [
    ({"schedule": "1x1,3x1"}, "schedule"), ({"schedule": "1-1"}, "schedule"), ({"schedule": "4d1"}, "latents"),
    ({"likelihood": "bernoulli"}, "levels"), ({"body": "mlp"}, "body"), ({"patch": 3}, "patch"), ({"heads": 3}, "heads")])
def test_impossible_sizes_are_refused_by_name(changes, word):
    with pytest.raises(ValueError, match=word):
        VAE(**changes)
