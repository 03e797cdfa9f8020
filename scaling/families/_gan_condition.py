"""What the condition of an example does in both players: a part of the generator's input, and of the critic's verdict."""

import jax.numpy as jnp
from flax import nnx

from scaling import nn
from scaling.families._condition import Condition


class GeneratorInput(nnx.Module):
    """Latents z [B, latent] and the condition of the batch, concatenated: the input of a generator."""

    def __init__(self, f, draw):
        self.condition = Condition(f, f.latent, draw) if f.conditional else None

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
        self.condition = Condition(f, f.latent, draw) if f.conditional else None
        self.project = nn.Linear(draw, {axis: width}, {"latent": f.latent}, scale=scale) if f.conditional else None

    def __call__(self, features, batch):
        features = features.astype(jnp.float32)
        logits = self.score(features)[:, 0]
        if self.condition is None or self.project is None:
            return logits
        condition = self.condition(batch)
        return logits + (self.project(features) * condition).sum(-1) * condition.shape[-1] ** -0.5
