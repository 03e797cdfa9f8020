"""The parts of the VAE's network: residual blocks, heads of latents, stochastic blocks, and the condition.

Activations are [B, g, g, width], whether the cells of a grid are pixels or patches.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from scaling import nn
from scaling.families._family import scaled
from scaling.families._tokens import TokenBlock

_gelu = jax.checkpoint(jax.nn.gelu, prevent_cse=False)  # recomputing it is faster than saving its residuals


class Latents(NamedTuple):
    """The latents of one stage, float32 [layers, B, g, g, latents] each."""

    u: jax.Array  # standard normal under the prior
    kl: jax.Array  # nats, in closed form; zeros when drawn from the prior
    log_ratio: jax.Array  # log p(u) - log q(u)


class Bottleneck(nnx.Module):
    """Residual convolutions of VDVAE (Child 2011.10650, figure 3): 1x1, twice 3x3 on fewer channels, 1x1.

    The activation before the first map is left out: on so many channels it took most of the time on CPU.
    """

    def __init__(self, f, grid, draw, inputs, outputs, axis="embed", scale_out=1.0):
        hidden, kw = f.hidden, dict(dtype=jnp.dtype(f.dtype))
        kernel = 3 if grid > 2 else 1  # on a smaller grid most of a 3x3 window would be padding
        self.first = nn.Linear(draw, {"embed": inputs}, {"mlp": hidden}, bias=True, **kw)
        self.second = nn.Conv(draw, hidden, hidden, kernel=kernel, implementation=f.convolution, **kw)
        self.third = nn.Conv(draw, hidden, hidden, kernel=kernel, implementation=f.convolution, **kw)
        self.last = nn.Linear(draw, {"mlp": hidden}, {axis: outputs}, bias=True, scale=scale_out, **kw)

    def __call__(self, x):
        x = self.first(x)
        for layer in (self.second, self.third):
            x = nn.constrain(layer(_gelu(x)), "mlp")
        return self.last(_gelu(x))


class ResidualBlock(nnx.Module):
    """One residual block of a body. In the linear body it is the identity."""

    def __init__(self, f, grid, draw):
        scale, self.branch = f.residual_scale, f.depth().branch
        if f.body == "tokens":
            self.body = TokenBlock(draw, f.width, f.attention_heads, f.hidden, scale_out=scale, branch=self.branch,
                                   dtype=jnp.dtype(f.dtype))
        elif f.body == "conv":
            self.body = Bottleneck(f, grid, draw, f.width, f.width, scale_out=scale)
        else:
            self.body = None

    def __call__(self, x):
        if isinstance(self.body, TokenBlock):
            return self.body(x.reshape(x.shape[0], -1, x.shape[-1])).reshape(x.shape)
        return x if self.body is None else nn.constrain(x + scaled(self.body(x), self.branch), "embed")


class Head(nnx.Module):
    """Means and log scales of a layer's latents [B, g, g, latents] each, both initially zero.

    It is two layers for tokens, a bottleneck of convolutions, or one linear map.
    """

    def __init__(self, f, grid, draw, inputs):
        kw, outputs = dict(bias=True, dtype=jnp.dtype(f.dtype)), 2 * f.channels_latent
        if f.body == "tokens":
            self.first = nn.Linear(draw, {"embed": inputs}, {"mlp": f.width}, **kw)
            self.last = nn.Linear(draw, {"mlp": f.width}, {"latents": outputs}, scale=0.0, **kw)
        else:
            self.first = None
            self.last = (Bottleneck(f, grid, draw, inputs, outputs, axis="latents", scale_out=0.0) if f.body == "conv"
                         else nn.Linear(draw, {"embed": inputs}, {"latents": outputs}, scale=0.0, **kw))

    def __call__(self, x):
        x = x if self.first is None else _gelu(self.first(x))
        return jnp.split(self.last(x).astype(jnp.float32), 2, axis=-1)


def normal_kl(mean, log_scale):
    """KL divergence in nats of a normal from the standard normal."""
    return 0.5 * (jnp.square(mean) + jnp.exp(2 * log_scale) - 1) - log_scale


class Stochastic(nnx.Module):
    """One layer of latents and a residual block.

    The prior depends on the activations above, the posterior on these and on the encoder's features.
    """

    def __init__(self, f, grid, draw):
        self.norm = nn.Norm("rmsnorm", "embed", f.width) if f.body == "tokens" else None
        self.prior = Head(f, grid, draw, f.width)
        self.posterior = Head(f, grid, draw, 2 * f.width)
        self.write = nn.Linear(draw, {"latents": f.channels_latent}, {"embed": f.width}, scale=f.residual_scale,
                               dtype=jnp.dtype(f.dtype))
        self.block, self.branch = ResidualBlock(f, grid, draw), f.depth().branch

    def __call__(self, x, noise, features=None):
        """x, noise [B, g, g, latents] and the encoder's features -> x and Latents without their leading axis.

        Without features, u is the noise itself.
        """
        above = x if self.norm is None else self.norm(x)
        mean, log_scale = self.prior(above)
        latents = Latents(noise, jnp.zeros_like(noise), jnp.zeros_like(noise))
        if features is not None:
            shift, log_width = self.posterior(jnp.concatenate([above, features], -1))
            u = shift + jnp.exp(log_width) * noise
            latents = Latents(u, normal_kl(shift, log_width),
                              0.5 * (jnp.square(noise) - jnp.square(u)) + log_width)
        z = mean + jnp.exp(log_scale) * latents.u
        return self.block(x + scaled(self.write(z), self.branch)), latents


class ConditionEncoder(nnx.Module):
    """Label and caption as one vector [B, width], or None if there is neither.

    A label is a row of a table. A caption is bytes, with 0 after its end: they are embedded, given positions, mixed by one
    token block and averaged over the bytes that are not 0.
    """

    def __init__(self, f, draw):
        kw = dict(dtype=jnp.dtype(f.dtype))
        self.label = nn.Table(draw, "vocab", f.classes, f.width, **kw) if f.classes else None
        self.bytes = nn.Table(draw, "vocab", 256, f.width, **kw) if f.caption else None
        self.position = nn.Table(draw, "position", f.caption, f.width, std=0.3, **kw) if f.caption else None
        self.mix = TokenBlock(draw, f.width, f.attention_heads, f.width, **kw) if f.caption else None

    def __call__(self, batch):
        parts = [] if self.label is None else [self.label(batch["label"])]
        if self.bytes is not None and self.position is not None and self.mix is not None:
            x, written = self.bytes(batch["caption"]), (batch["caption"] > 0)[..., None]
            x = self.mix(x + self.position(jnp.arange(x.shape[1]))[None]) * written
            parts.append(x.sum(1) / jnp.maximum(written.sum(1), 1))
        return sum(parts) if parts else None
