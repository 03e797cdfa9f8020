"""Small GANs and ways to run them that compile in little time, for the tests of the family."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from scaling.families.gan import GAN
from scaling.training.program import options_for_one_call

KEY = jax.random.key(0)


def small(**fields):
    return GAN(**{"image_size": 8, "width": 8, "layers": 1, "latent": 8} | fields)


def lively(family, seed=0):
    """Parameters that are all far from zero, because zero would hide errors. This compiles nothing."""
    draw = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(draw.normal(size=x.shape, scale=0.3), jnp.float32),
                        jax.eval_shape(family.init, KEY))


def quick(function):
    """The function, compiled with little optimisation."""
    return jax.jit(function, compiler_options=options_for_one_call())


@functools.partial(jax.jit, static_argnums=(0, 1), compiler_options=options_for_one_call())
def game(family, player, params, batch, key=KEY):
    """(loss, metrics) of one player."""
    return dict((p.name, p.loss) for p in family.players())[player](params, batch, key)
