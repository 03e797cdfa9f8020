"""What the pictures of families that draw images from normal noise share."""

import jax.numpy as jnp

from scaling import nn


def great_circles(key, rows, columns, shape):
    """Normals [rows * columns, *shape]: each row goes from one draw to another along a great circle, on which all points
    are as likely as the ends (White 1609.04468)."""
    a, b = jnp.split(nn.noise(key, jnp.arange(2 * rows), shape), 2)
    t = jnp.linspace(0.0, jnp.pi / 2, columns).reshape(1, columns, *(1 for _ in shape))
    return (a[:, None] * jnp.cos(t) + b[:, None] * jnp.sin(t)).reshape(-1, *shape)
