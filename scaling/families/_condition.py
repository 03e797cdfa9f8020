"""The condition of an example, its label and its caption, as one vector of a size that all members of a ladder share."""

import jax.numpy as jnp
from flax import nnx

from scaling import nn

BYTES = 256


class Condition(nnx.Module):
    """{"label": int [B], "caption": int [B, length]} -> float32 [B, size].

    A label is a row of a table. A caption is the scaled mean of the rows of its bytes; bytes that are 0 are padding. The
    family `f` says how many `classes` there are and whether it has a `caption`.
    """

    def __init__(self, f, size, draw):
        self.labels = nn.Table(draw, "vocab", f.classes, size) if f.classes else None
        self.bytes = nn.Table(draw, "vocab", BYTES, size) if f.caption else None

    def __call__(self, batch):
        found = 0.0 if self.labels is None else self.labels(batch["label"])
        if self.bytes is None:
            return found
        written = (batch["caption"] > 0)[..., None].astype(jnp.float32)
        # The mean of n independent rows is sqrt(n) times shorter than a row; this is as long as a label's row.
        mean = (self.bytes(batch["caption"]) * written).sum(1) / jnp.sqrt(jnp.maximum(1.0, written.sum(1)))
        return found + mean
