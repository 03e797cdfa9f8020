"""Generator and discriminator of R3GAN (Huang et al. 2501.05441, section 4): residual, no normalisation."""

import jax
import jax.numpy as jnp
from flax import nnx

from scaling import nn
from scaling.families._family import scaled
from scaling.families._gan_condition import GeneratorInput, Verdict

START = 4  # the side of the smallest feature map
FROM_PIXELS, TO_PIXELS = ("pixel", "channels_out"), ("channels_in", "pixel")  # axes of the kernels at the images


class Residual(nnx.Module):
    """x + 1x1(act(3x3(act(1x1(x))))) with `expansion` times the channels inside, the 3x3 in `groups`.

    The last convolution starts at zero and the others at `blocks`^-1/4 of their usual scale. The first steps then change
    the output of a deep network no more than that of a shallow one (Fixup: Zhang et al. 1901.09321, section 3). `branch` is
    the factor of `GAN.depth`, and `blocks` are then those of the base.
    """

    def __init__(self, f, draw, channels, blocks, branch):
        self.branch = branch
        inner, kw = channels * f.expansion, dict(dtype=jnp.dtype(f.dtype))
        gain = blocks**-0.25
        self.enter = nn.Conv(draw, channels, inner, kernel=1, scale=gain, **kw)
        self.mix = nn.Conv(draw, inner, inner, groups=f.groups, scale=gain * GAIN, implementation=f.convolution, **kw)
        self.leave = nn.Conv(draw, inner, channels, kernel=1, scale=0.0, bias=False, **kw)

    def __call__(self, x):
        return x + scaled(self.leave(leaky(self.mix(leaky(self.enter(x))))), self.branch)


class Generator(nnx.Module):
    """Latents [B, latent] -> images float32 [B, H, W, C]. The input weights a learned basis of 4x4 feature maps."""

    def __init__(self, f, draw):
        widths, kw = stage_channels(f, f.width), dict(dtype=jnp.dtype(f.dtype))
        self.latents = GeneratorInput(f, draw)
        self.enter = nn.Linear(draw, {"latent": f.inputs}, {"channels_in": widths[0]}, bias=True, **kw)
        self.basis = nn.Table(draw, "position", START**2, widths[0], **kw)
        self.stages, self.changes = _stages(f, draw, widths, f.layers, f.depth("gen"))
        self.leave = nn.Conv(draw, widths[-1], f.channels, kernel=1, scale=widths[-1]**-0.5, names=TO_PIXELS)

    def __call__(self, z, batch):
        weights = self.enter(self.latents(z, batch))
        x = (self.basis.weight[...].astype(weights.dtype)[None] * weights[:, None]).reshape(
            -1, START, START, weights.shape[-1])
        for index, stage in enumerate(self.stages):
            if index:
                x = nn.upsample(self.changes[index - 1](x))
            for block in stage:
                x = block(x)
        return self.leave(x).astype(jnp.float32)


class Critic(nnx.Module):
    """Images float [B, H, W, C] -> logits float32 [B]; the generator's mirror image."""

    def __init__(self, f, draw):
        width, layers = f.critic_sizes
        widths, kw = stage_channels(f, width)[::-1], dict(dtype=jnp.dtype(f.dtype))
        self.enter = nn.Conv(draw, f.channels, widths[0], kernel=1, names=FROM_PIXELS, **kw)
        self.stages, self.changes = _stages(f, draw, widths, layers, f.depth("disc"))
        self.basis = nn.Table(draw, "position", START**2, widths[-1], std=1 / START)
        self.verdict = Verdict(f, draw, "channels_in", widths[-1])

    def __call__(self, images, batch):
        x = self.enter(images)
        for index, stage in enumerate(self.stages):
            if index:
                x = self.changes[index - 1](nn.downsample(x))
            for block in stage:
                x = block(x)
        x = x.reshape(x.shape[0], START**2, -1).astype(jnp.float32)
        return self.verdict((x * self.basis.weight[...][None]).sum(1), batch)


GAIN = 2**0.5  # keeps the variance through a rectifier (He et al. 1502.01852)


def _stages(f, draw, widths, layers, depth):
    """(stages, changes): `layers` blocks at each resolution, and the 1x1 convolutions between resolutions."""
    count, kw = (f.base_layers or layers) * len(widths), dict(kernel=1, bias=False, dtype=jnp.dtype(f.dtype))
    blocks = [nnx.List([Residual(f, draw, width, count, depth.branch) for _ in range(layers)]) for width in widths]
    changes = [nn.Conv(draw, *pair, **kw) for pair in zip(widths, widths[1:])]
    return nnx.List(blocks), nnx.List(changes)


def leaky(x):
    return jax.nn.leaky_relu(x, 0.2)


def stage_channels(f, width):
    """Channels of each stage from 4x4 to the image: `width` at full resolution, twice as many at each halving, at most
    8 `width`."""
    stages = (f.image_size // START).bit_length()
    return [width * min(8, 2**halvings) for halvings in reversed(range(stages))]
