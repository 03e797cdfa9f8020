"""What a diffusion model knows of pixels that are integer levels: 0 .. levels - 1, at -1 + 2 level / (levels - 1).

Both functions look at the `REACH` levels to either side of the likeliest one, so 256 levels cost as much as 16.
"""

import jax
import jax.numpy as jnp

from scaling import nn

REACH = 5


def mean_of_levels(mean, variance, levels):
    """The mean of a normal of x that is restricted to the levels: mean and variance float32 [B, H, W, C] -> the same.

    Where the standard deviation is a fraction of a level, this rounds; where it is a level or more, the sum over levels is
    the mean itself to eight digits (Poisson's formula: the difference falls as exp(-2 pi^2 variance)).
    """
    step = 2 / (levels - 1)
    position, variance = (mean + 1) / step, variance / step**2
    near, inside = _near(jnp.round(jax.lax.stop_gradient(position)), levels)
    distance = jnp.square(near - position[..., None])
    weights = jax.nn.softmax(jnp.where(inside, -distance / (2 * variance[..., None]), -jnp.inf), axis=-1)
    return jnp.where(variance < 1, step * (weights * near).sum(-1) - 1, mean)


def level_nats(image, levels, sigma, noise):
    """Nats [B] of an image of levels, uint8 [B, H, W, C], given z = x + sigma noise.

    A level has the likelihood of the noise that it would need, and all levels are alike before that (Kingma et al.
    2107.00630, section 3.3). With sigma an eighth of a level this is less than a thousandth of a nat for each pixel.
    """
    image, scale = image.astype(jnp.float32), 2 / (levels - 1) / sigma
    near, inside = _near(image, levels)
    needed = noise[..., None] + (image[..., None] - near) * scale
    log_likelihoods = jnp.where(inside, -jnp.square(needed) / 2, -jnp.inf)
    return (jnp.square(noise) / 2 + jax.nn.logsumexp(log_likelihoods, axis=-1)).sum((1, 2, 3))


def _near(level, levels):
    """(the levels near a level [...], as floats [..., 2 REACH + 1]; whether the data have them)."""
    near = jnp.clip(level, 0, levels - 1)[..., None] + nn.along(jnp.arange(-REACH, REACH + 1.0), level[..., None])
    return near, (near >= 0) & (near < levels)
