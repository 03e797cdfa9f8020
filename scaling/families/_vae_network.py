"""The network of `scaling.families.vae`: an encoder bottom-up, a decoder top-down, over grids of feature vectors.

Activations are [B, g, g, width], whether the cells of a grid are pixels or patches. A layer's latents z are held as
u = (z - prior mean) / prior scale, which is standard normal under the prior. The latents of all layers are therefore noise
of known distribution, and the decoder is a deterministic function of them. The posterior of u, with mean m and log scale
s, has KL = (m^2 + exp(2 s) - 1) / 2 - s from its prior, whatever the parameters of the prior.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from scaling import axes, nn
from scaling.families._vae_blocks import ConditionEncoder, ResidualBlock, Stochastic
from scaling.families._vae_likelihoods import LIKELIHOODS
from scaling.nn import remat


class Readout(nnx.Module):
    """Features of the finest grid -> the inputs of the likelihood [B, H, W, n]."""

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
    """The network of a family, with fresh parameters."""
    rest, *keys = jax.random.split(key, 1 + 2 * len(f.stages))

    def stack(kind, count, grid, key):
        return axes.stack(functools.partial(kind, f, grid), jax.random.split(key, count)) if count else None

    up = [stack(ResidualBlock, s.encoder, s.grid, k) for s, k in zip(f.stages, keys[::2])]
    down = [stack(Stochastic if s.stochastic else ResidualBlock, s.blocks, s.grid, k) for s, k in zip(f.stages, keys[1::2])]
    return axes.drawn(functools.partial(Network, f, up, down), rest)


class Network(nnx.Module):
    """The whole network. `up` and `down` hold the stacked blocks of each stage of the schedule, or None for a stage without
    blocks."""

    def __init__(self, f, up, down, draw):
        width, kw = {"embed": f.width}, dict(dtype=jnp.dtype(f.dtype))
        self.family = f
        self.stem = nn.Linear(draw, {"pixels": f.channels * f.cell**2}, width, bias=True, **kw)
        self.up, self.down = nnx.data(up), nnx.data(down)
        if f.body == "tokens":
            self.up_norms = nnx.List([nn.Norm("rmsnorm", "embed", f.width) for _ in up])
        self.starts = nnx.List([axes.param(0.3 * draw((s.grid**2, f.width)), ("position", "embed")) for s in f.stages])
        self.up_start = axes.param(0.3 * draw((f.stages[-1].grid**2, f.width)), ("position", "embed"))
        self.condition = ConditionEncoder(f, draw)
        self.readout = Readout(f, draw)

    def encode(self, batch):
        """Features of each stage of the schedule, coarse to fine, [B, g, g, width] each."""
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
        """Noise of each stage, [layers, B, g, g, latents], and the encoder's features -> outputs, and Latents by stage.

        Without features, the noise is the latents u themselves: draws from their prior, or those of an earlier call.
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
        """x through the blocks of a stage, each of which takes its slice of the noise -> x, and Latents or None."""
        if stacked is None:
            return x, None
        graphdef, states = nnx.split(stacked)

        def block(x, state_and_noise):
            state, noise = state_and_noise
            module = nnx.merge(graphdef, state)
            return (module(x), None) if noise is None else module(x, noise, features)

        block = remat.recomputed(block, self.family.remat)
        if self.family.scan:
            return nn.through_layers(block, x, states, noise)
        found, count = [], jax.tree.leaves(states)[0].shape[0]
        for i in range(count):
            state, own = jax.tree.map(lambda leaf, i=i: leaf[i], (states, noise))
            frozen = i < axes.frozen_layers(count)
            x, latents = block(x, (lax.stop_gradient(state) if frozen else state, own))
            found.append(latents)
        return x, jax.tree.map(lambda *each: jnp.stack(each), *found)


def _enter(x, position, condition):
    """x plus the positions of a stage, and plus the condition at every cell."""
    x = x + position[...].astype(x.dtype).reshape(1, *x.shape[1:])
    return nn.constrain(x if condition is None else x + condition[:, None, None, :], "embed")


def _to_grid(x, grid):
    """[B, g, g, C] -> [B, grid, grid, C], by repeated cells or by means of cells."""
    old = x.shape[1]
    return nn.downsample(x, old // grid) if grid < old else nn.upsample(x, grid // old)
