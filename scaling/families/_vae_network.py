"""The network of `scaling.families.vae`: an encoder bottom-up, a decoder top-down, over grids of feature vectors.

Activations are [B, g, g, width], whether a grid's cells are pixels or patches. A layer's latents are held as what
would be standard normal under its prior: u = (z - prior mean) / prior scale. So latents of all layers are noise of known
distribution, the decoder is a deterministic function of them, and the posterior of u, with mean m and log scale s,
has KL = (m^2 + exp(2 s) - 1) / 2 - s to its prior, whatever the prior's parameters are.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from scaling import axes, nn
from scaling.devices import sharding
from scaling.families._tokens import TokenBlock
from scaling.families._vae_likelihoods import LIKELIHOODS

_gelu = jax.checkpoint(jax.nn.gelu, prevent_cse=False)  # recomputing it is faster than keeping what it needs


class Latents(NamedTuple):
    """The latents of one stage, float32 [layers, B, g, g, latents] each."""

    u: jax.Array  # standard normal under the prior
    kl: jax.Array  # nats, in closed form; zeros when drawn from the prior
    log_ratio: jax.Array  # log p(u) - log q(u)


class Shifts(nn.Conv):
    """A convolution that on CPU is one matrix product over the shifted copies of the image. XLA's own, although faster by
    itself, is far slower inside a compiled loop there, so neither steps, microbatches nor blocks could be loops."""

    def __call__(self, x):
        weight = self.weight[...].astype(self.dtype)
        kernel, pad = weight.shape[0], weight.shape[0] // 2
        if kernel == 1 or sharding.platform() != "cpu":
            return super().__call__(x)
        height, width = x.shape[1:3]
        padded = jnp.pad(x.astype(self.dtype), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        shifted = [padded[:, i:i + height, j:j + width] for i in range(kernel) for j in range(kernel)]
        y = nn.product(jnp.concatenate(shifted, -1), weight.reshape(-1, weight.shape[-1]))
        return y + nn.along(self.bias[...].astype(self.dtype), y)


class Bottleneck(nnx.Module):
    """Residual convolutions of VDVAE (Child 2011.10650, figure 3): 1x1, twice 3x3 on fewer channels, 1x1.

    Its activation before the first map is left out: on so many channels it took most of a CPU's time.
    """

    def __init__(self, f, grid, draw, inputs, outputs, axis="embed", scale_out=1.0):
        hidden, kw = f.hidden, dict(dtype=jnp.dtype(f.dtype))
        kernel = 3 if grid > 2 else 1  # most of a 3x3 window would be padding
        self.first = nn.Linear(draw, {"embed": inputs}, {"mlp": hidden}, bias=True, **kw)
        self.second = Shifts(draw, hidden, hidden, kernel=kernel, **kw)
        self.third = Shifts(draw, hidden, hidden, kernel=kernel, **kw)
        self.last = nn.Linear(draw, {"mlp": hidden}, {axis: outputs}, bias=True, scale=scale_out, **kw)

    def __call__(self, x):
        x = self.first(x)
        for layer in (self.second, self.third):
            x = nn.lying(layer(_gelu(x)), "mlp")
        return self.last(_gelu(x))


class Block(nnx.Module):
    """One residual block of a body; the linear body has none."""

    def __init__(self, f, grid, draw):
        scale = f.residual_scale
        if f.body == "tokens":
            self.body = TokenBlock(draw, f.width, f.attention_heads, f.hidden, scale_out=scale, dtype=jnp.dtype(f.dtype))
        else:
            self.body = Bottleneck(f, grid, draw, f.width, f.width, scale_out=scale) if f.body == "conv" else None

    def __call__(self, x):
        if isinstance(self.body, TokenBlock):
            return self.body(x.reshape(x.shape[0], -1, x.shape[-1])).reshape(x.shape)
        return x if self.body is None else nn.lying(x + self.body(x), "embed")


class Head(nnx.Module):
    """Means and log scales of a layer's latents, both zero at first: two layers for tokens, a bottleneck of
    convolutions, or one linear map."""

    def __init__(self, f, grid, draw, inputs):
        kw, out = dict(bias=True, dtype=jnp.dtype(f.dtype)), {"latents": 2 * f.channels_latent}
        if f.body == "conv":
            self.first, self.last = None, Bottleneck(f, grid, draw, inputs, 2 * f.channels_latent, axis="latents", scale_out=0.0)
        elif f.body == "linear":
            self.first, self.last = None, nn.Linear(draw, {"embed": inputs}, out, scale=0.0, **kw)
        else:
            self.first = nn.Linear(draw, {"embed": inputs}, {"mlp": f.width}, **kw)
            self.last = nn.Linear(draw, {"mlp": f.width}, out, scale=0.0, **kw)

    def __call__(self, x):
        x = x if self.first is None else _gelu(self.first(x))
        return jnp.split(self.last(x).astype(jnp.float32), 2, axis=-1)


def normal_kl(mean, log_scale):
    """KL in nats of a normal to the standard normal."""
    return 0.5 * (jnp.square(mean) + jnp.exp(2 * log_scale) - 1) - log_scale


class Stochastic(nnx.Module):
    """One layer of latents: prior from above, posterior from above and from the encoder, then a residual block."""

    def __init__(self, f, grid, draw):
        self.norm = nn.Norm("rmsnorm", "embed", f.width) if f.body == "tokens" else None
        self.prior = Head(f, grid, draw, f.width)
        self.posterior = Head(f, grid, draw, 2 * f.width)
        self.write = nn.Linear(draw, {"latents": f.channels_latent}, {"embed": f.width}, scale=f.residual_scale,
                               dtype=jnp.dtype(f.dtype))
        self.block = Block(f, grid, draw)

    def __call__(self, x, noise, features=None):
        """x, noise [B, g, g, latents], the encoder's features -> x, Latents without their leading axis.

        Without features the noise itself is u.
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
        return self.block(x + self.write(z)), latents


class Condition(nnx.Module):
    """Label and caption as one vector [B, width], or None where there is neither.

    A label is a row of a table. A caption is bytes, 0 after its end: embedded, given positions, mixed by one token
    block, averaged over the bytes that are not 0.
    """

    def __init__(self, f, draw):
        kw = dict(dtype=jnp.dtype(f.dtype))
        self.label = nn.Table(draw, "vocab", f.classes, f.width, **kw) if f.classes else None
        self.bytes = nn.Table(draw, "vocab", 256, f.width, **kw) if f.caption else None
        self.position = nn.Table(draw, "position", f.caption, f.width, std=0.3, **kw) if f.caption else None
        self.mix = TokenBlock(draw, f.width, f.attention_heads, f.width, **kw) if f.caption else None

    def __call__(self, batch):
        parts = [] if self.label is None else [self.label(batch["label"])]
        if self.bytes is not None:
            x, written = self.bytes(batch["caption"]), (batch["caption"] > 0)[..., None]
            x = self.mix(x + self.position(jnp.arange(x.shape[1]))[None]) * written
            parts.append(x.sum(1) / jnp.maximum(written.sum(1), 1))
        return sum(parts) if parts else None


class Readout(nnx.Module):
    """Features of the finest grid -> the likelihood's outputs [B, H, W, n]."""

    def __init__(self, f, draw):
        self.family, outputs = f, LIKELIHOODS[f.likelihood].outputs(f)
        size = {"pixels": outputs * f.cell**2}
        self.norm = nn.Norm("rmsnorm", "embed", f.width) if f.body == "tokens" else None
        self.linear = nn.Linear(draw, {"embed": f.width}, size, scale=f.width**-0.5, dtype=jnp.dtype(f.dtype))
        start = jnp.asarray(LIKELIHOODS[f.likelihood].initial(f), jnp.float32)
        self.bias = axes.param(jnp.tile(start, f.cell**2), ("pixels",))
        self.log_scale = axes.param(jnp.zeros(f.channels), ("channels",)) if f.likelihood == "gaussian" else None

    def __call__(self, x):
        x = x if self.norm is None else self.norm(x)
        x = self.linear(x.reshape(x.shape[0], -1, x.shape[-1])).astype(jnp.float32)
        x = nn.unpatch(x + nn.along(self.bias[...], x), self.family.cell, self.bias.shape[0] // self.family.cell**2)
        if self.log_scale is None:
            return x
        return jnp.concatenate([x, jnp.broadcast_to(nn.along(self.log_scale[...], x), x.shape)], -1)


def network(f, key):
    """The network of a family with fresh parameters."""
    rest, *keys = jax.random.split(key, 1 + 2 * len(f.stages))

    def stack(kind, count, grid, key):
        return axes.stack(functools.partial(kind, f, grid), jax.random.split(key, count)) if count else None

    up = [stack(Block, s.encoder, s.grid, k) for s, k in zip(f.stages, keys[::2])]
    down = [stack(Stochastic if s.stochastic else Block, s.blocks, s.grid, k) for s, k in zip(f.stages, keys[1::2])]
    return axes.drawn(functools.partial(Network, f, up, down), rest)


class Network(nnx.Module):
    """All parts; `up` and `down` hold the blocks of each stage of the schedule, stacked, None where it has none."""

    def __init__(self, f, up, down, draw):
        width, kw = {"embed": f.width}, dict(dtype=jnp.dtype(f.dtype))
        self.family = f
        self.stem = nn.Linear(draw, {"pixels": f.channels * f.cell**2}, width, bias=True, **kw)
        self.up, self.down = nnx.data(up), nnx.data(down)
        if f.body == "tokens":
            self.up_norms = nnx.List([nn.Norm("rmsnorm", "embed", f.width) for _ in up])
        self.starts = nnx.List([axes.param(0.3 * draw((s.grid**2, f.width)), ("position", "embed")) for s in f.stages])
        self.up_start = axes.param(0.3 * draw((f.stages[-1].grid**2, f.width)), ("position", "embed"))
        self.condition = Condition(f, draw)
        self.readout = Readout(f, draw)

    def encode(self, batch):
        """Features of each stage of the schedule, [B, g, g, width], coarse to fine."""
        f = self.family
        x = self.stem(nn.patches(nn.levels_to_signed(batch["image"], f.levels), f.cell))
        x = x.reshape(-1, f.stages[-1].grid, f.stages[-1].grid, f.width)
        x = _enter(x, self.up_start, self.condition(batch))
        features = []
        for i in reversed(range(len(f.stages))):
            x = _to_grid(x, f.stages[i].grid)
            x, _ = self._run(self.up[i], x)
            features.append(self.up_norms[i](x) if f.body == "tokens" else x)
        return features[::-1]

    def decode(self, batch, noise, features=None):
        """Noise of each stage, [layers, B, g, g, latents], and the encoder's features -> outputs, Latents by stage.

        Without features the noise is the latents u themselves: their prior, or what an earlier call returned.
        """
        f, condition = self.family, self.condition(batch)
        size = noise[0].shape[1]
        x = jnp.zeros((size, f.stages[0].grid, f.stages[0].grid, f.width), jnp.dtype(f.dtype))
        latents = []
        for i, stage in enumerate(f.stages):
            x = _enter(_to_grid(x, stage.grid), self.starts[i], condition)
            if stage.stochastic:
                x, found = self._run(self.down[i], x, noise[len(latents)], features and features[i])
                latents.append(found)
            else:
                x, _ = self._run(self.down[i], x)
        return self.readout(x), latents

    def _run(self, stacked, x, noise=None, features=None):
        """x through the blocks of a stage; each takes a slice of the noise."""
        if stacked is None:
            return x, None
        graphdef, states = nnx.split(stacked)

        def block(x, state_and_noise):
            state, noise = state_and_noise
            module = nnx.merge(graphdef, state)
            return (module(x), None) if noise is None else module(x, noise, features)

        block = jax.checkpoint(block) if self.family.remat else block
        if self.family.scan:
            return lax.scan(block, x, (states, noise))
        found = []
        for i in range(jax.tree.leaves(states)[0].shape[0]):
            x, latents = block(x, jax.tree.map(lambda leaf, i=i: leaf[i], (states, noise)))
            found.append(latents)
        return x, jax.tree.map(lambda *each: jnp.stack(each), *found)


def _enter(x, position, condition):
    """x with what a stage adds: its positions, and the condition at every cell."""
    x = x + position[...].astype(x.dtype).reshape(1, *x.shape[1:])
    return nn.lying(x if condition is None else x + condition[:, None, None, :], "embed")


def _to_grid(x, grid):
    """[B, g, g, C] -> [B, grid, grid, C]: repeats cells, or takes means of cells."""
    old = x.shape[1]
    return nn.downsample(x, old // grid) if grid < old else nn.upsample(x, grid // old)
