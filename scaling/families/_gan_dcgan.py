"""Generator and discriminator of Radford et al. 1511.06434, table 1 and figure 1, without BatchNorm.

Latents are projected to 4x4; 4x4 convolutions of stride two then double or halve the side. BatchNorm would make the
examples of a batch depend on each other, and gradient penalties per example need them independent.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from scaling import nn
from scaling.families._gan_condition import GeneratorInput, Verdict
from scaling.families._gan_conv import FROM_PIXELS, GAIN, START, TO_PIXELS, leaky, stage_channels


class Generator(nnx.Module):
    """Latents [B, latent] -> images float32 [B, H, W, C] in [-1, 1]."""

    def __init__(self, f, draw):
        widths, dtype = stage_channels(f, f.width)[:-1], jnp.dtype(f.dtype)
        kw = dict(scale=GAIN, dtype=dtype, implementation=f.convolution)
        self.latents = GeneratorInput(f, draw)
        maps = {"map": START**2, "channels_in": widths[0]}
        self.enter = nn.Linear(draw, {"latent": f.inputs}, maps, bias=True, dtype=dtype)
        last = nn.Upsampling(draw, widths[-1], f.channels, **kw | {"scale": widths[-1]**-0.5}, names=TO_PIXELS)
        self.stages = nnx.List([*(nn.Upsampling(draw, *pair, **kw) for pair in zip(widths, widths[1:])), last])

    def __call__(self, z, batch):
        x = self.enter(self.latents(z, batch))
        x = x.reshape(x.shape[0], START, START, -1)
        for stage in self.stages:
            x = stage(jax.nn.relu(x))
        return jnp.tanh(x.astype(jnp.float32))


class Critic(nnx.Module):
    """Images float [B, H, W, C] -> logits float32 [B]."""

    def __init__(self, f, draw):
        widths = stage_channels(f, f.critic_sizes[0])[-2::-1]
        kw = dict(kernel=4, stride=2, scale=GAIN, dtype=jnp.dtype(f.dtype), implementation=f.convolution)
        first = nn.Conv(draw, f.channels, widths[0], names=FROM_PIXELS, **kw)
        self.stages = nnx.List([first, *(nn.Conv(draw, *pair, **kw) for pair in zip(widths, widths[1:]))])
        self.verdict = Verdict(f, draw, "channels_in", START**2 * widths[-1])

    def __call__(self, images, batch):
        x = images
        for stage in self.stages:
            x = leaky(stage(x))
        return self.verdict(x.reshape(x.shape[0], -1), batch)
