"""The condition of an example, its label and its caption, as input of both players."""

import jax.numpy as jnp
from flax import nnx

from scaling import nn

BYTES = 256


class Condition(nnx.Module):
    """{"label": int [B], "caption": int [B, length]} -> float32 [B, latent].

    A label is a row of a table. A caption is the scaled mean of the rows of its bytes; bytes that are 0 are padding. The
    tables have the same size in every member of the ladder.
    """

    def __init__(self, f, draw):
        self.labels = nn.Table(draw, "vocab", f.classes, f.latent) if f.classes else None
        self.bytes = nn.Table(draw, "vocab", BYTES, f.latent) if f.caption else None

    def __call__(self, batch):
        found = 0.0 if self.labels is None else self.labels(batch["label"])
        if self.bytes is None:
            return found
        written = (batch["caption"] > 0)[..., None].astype(jnp.float32)
        # The mean of n independent rows is sqrt(n) times shorter than a row; this is as long as a label's row.
        mean = (self.bytes(batch["caption"]) * written).sum(1) / jnp.sqrt(jnp.maximum(1.0, written.sum(1)))
        return found + mean


class GeneratorInput(nnx.Module):
    """Latents z [B, latent] and the condition of the batch, concatenated: the input of a generator."""

    def __init__(self, f, draw):
        self.condition = Condition(f, draw) if f.conditional else None

    def __call__(self, z, batch):
        return z if self.condition is None else jnp.concatenate([z, self.condition(batch)], -1)


class Verdict(nnx.Module):
    """Features [B, width] -> logits float32 [B]: a linear map, plus a projection on the condition.

    The projection is that of Miyato & Koyama 1802.05637, eq. 3, in a space as large as that of the latents (as in R3GAN,
    Huang et al. 2501.05441).
    """

    def __init__(self, f, draw, axis, width):
        scale = width**-0.5
        self.score = nn.Linear(draw, {axis: width}, {"logit": 1}, bias=True, scale=scale)
        self.condition = Condition(f, draw) if f.conditional else None
        self.project = nn.Linear(draw, {axis: width}, {"latent": f.latent}, scale=scale) if f.conditional else None

    def __call__(self, features, batch):
        features = features.astype(jnp.float32)
        logits = self.score(features)[:, 0]
        if self.condition is None or self.project is None:
            return logits
        condition = self.condition(batch)
        return logits + (self.project(features) * condition).sum(-1) * condition.shape[-1] ** -0.5
