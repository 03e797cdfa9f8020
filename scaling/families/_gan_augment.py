"""Differentiable augmentation of the images that the discriminator sees, both real and generated.

DiffAugment (Zhao et al. 2006.10738) with the probability of ADA (Karras et al. 2006.06676): each policy transforms each
image with probability p. Shifts are matrix products with rows of the identity, so that every policy is differentiable in
the image and as fast as a product.
"""

import jax
import jax.numpy as jnp

from scaling import nn


def augment(images, policies, probability, key, examples):
    """Images float [B, H, W, C], about in [-1, 1]. Each policy in turn transforms each image by a draw of its own.

    `examples`, int32 [B], holds the numbers of the draws (see `nn.noise`).
    """
    for index, policy in enumerate(policies):
        draws = nn.noise(jax.random.fold_in(key, index), examples, (4,), kind="uniform")
        chosen = (draws[:, 3] < probability).reshape(-1, 1, 1, 1)
        images = jnp.where(chosen, POLICIES[policy](images, draws[:, :3]), images)
    return images


def _translation(x, u):
    """A shift of up to an eighth of the side in each direction. Pixels from outside the image are grey (0)."""
    for axis in (1, 2):
        size = x.shape[axis]
        most = max(1, size // 8)
        shift = jnp.floor(u[:, axis] * (2 * most + 1)).astype(jnp.int32) - most
        sources = jnp.arange(size)[None] - shift[:, None]
        rows = jax.nn.one_hot(sources, size, dtype=x.dtype)  # zeros where the source is outside the image
        x = jnp.einsum("bij,bjwc->biwc" if axis == 1 else "bij,bhjc->bhic", rows, x)
    return x


def _colour(x, u):
    """Brightness by +-0.5, saturation by 0 to 2, contrast by 0.5 to 1.5. Saturation leaves grey images unchanged."""
    brightness, saturation, contrast = (u[:, i].reshape(-1, 1, 1, 1) for i in range(3))
    x = x + brightness - 0.5
    x = _about(x, x.mean(3, keepdims=True), 2 * saturation)
    return _about(x, x.mean((1, 2, 3), keepdims=True), contrast + 0.5)


def _about(x, centre, factor):
    return (x - centre) * factor + centre


def _cutout(x, u):
    """A square of half the side with a random centre becomes grey (0)."""
    inside = []
    for axis in (1, 2):
        size = x.shape[axis]
        centre = jnp.floor(u[:, axis] * size)
        inside.append(jnp.abs(jnp.arange(size)[None] - centre[:, None] + 0.5) < size / 4)
    hole = inside[0][:, :, None, None] & inside[1][:, None, :, None]
    return jnp.where(hole, 0.0, x)


POLICIES = {"translation": _translation, "colour": _colour, "cutout": _cutout}
