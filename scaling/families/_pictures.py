"""What families that draw images from normal noise share: a batch of random images, and paths between draws."""

import jax
import jax.numpy as jnp

from scaling import nn


def great_circles(key, rows, columns, shape):
    """Normals [rows * columns, *shape]: each row goes from one draw to another along a great circle, on which all points
    are as likely as the ends (White 1609.04468)."""
    a, b = jnp.split(nn.noise(key, jnp.arange(2 * rows), shape), 2)
    t = jnp.linspace(0.0, jnp.pi / 2, columns).reshape(1, columns, *(1 for _ in shape))
    return (a[:, None] * jnp.cos(t) + b[:, None] * jnp.sin(t)).reshape(-1, *shape)


def random_images(family, batch_size, key):
    """A batch of noise that a family of images can read: "image" uint8 [B, H, W, C], "example" int32 [B] and, where the
    family has `classes` or a `caption`, "label" int32 [B] and "caption" int32 [B, caption]."""
    shape = (batch_size, family.image_size, family.image_size, family.channels)
    batch = {"image": jax.random.randint(key, shape, 0, family.levels).astype(jnp.uint8),
             "example": jnp.arange(batch_size, dtype=jnp.int32)}
    if getattr(family, "classes", 0):
        batch["label"] = jax.random.randint(key, (batch_size,), 0, family.classes)
    if getattr(family, "caption", 0):
        batch["caption"] = jax.random.randint(key, (batch_size, family.caption), 0, 256)
    return batch
