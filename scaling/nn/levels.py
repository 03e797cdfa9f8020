"""Integer levels of pixels, 0..levels - 1, as numbers that networks and metrics work with, and back.

The functions take arrays of NumPy or JAX and compute in float32.
"""
import jax.numpy as jnp
import numpy as np


def levels_to_unit(image, levels):
    """Levels 0..levels - 1 as float32 in [0, 1]."""
    return image.astype(np.float32) / (levels - 1)


def levels_to_signed(image, levels):
    """Levels 0..levels - 1 as float32 in [-1, 1]."""
    return image.astype(np.float32) * (2 / (levels - 1)) - 1


def signed_to_levels(x, levels):
    """The levels (uint8) nearest to x; values outside of [-1, 1] become the lowest or the highest level. JAX only."""
    return jnp.clip(jnp.round((x + 1) * ((levels - 1) / 2)), 0, levels - 1).astype(jnp.uint8)
