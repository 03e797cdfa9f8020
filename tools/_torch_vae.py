"""`scaling.families.vae` in plain torch: grey images and a mixture of logistics, without free bits and warm-up.

Activations are [B, cells, width] for tokens and [B, width, g, g] for convolutions.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from tools._torch_blocks import TokenBlock, conv, linear, patches, unpatch


class Bottleneck(nn.Sequential):
    def __init__(self, f, grid, inputs, outputs, scale):
        kernel, hidden, act = (3 if grid > 2 else 1), f.hidden, nn.GELU("tanh")
        super().__init__(conv(inputs, hidden), act, conv(hidden, hidden, kernel), act,
                         conv(hidden, hidden, kernel), act, conv(hidden, outputs, scale=scale))


class ConvBlock(nn.Module):
    def __init__(self, f, grid):
        super().__init__()
        self.body = Bottleneck(f, grid, f.width, f.width, f.residual_scale)

    def forward(self, x):
        return x + self.body(x)


def block(f, grid):
    if f.body == "conv":
        return ConvBlock(f, grid)
    return TokenBlock(f.width, f.attention_heads, f.hidden, f.residual_scale)


def head(f, grid, inputs):
    """Means and log scales of latents, which start at zero."""
    outputs = 2 * f.channels_latent
    if f.body == "conv":
        return Bottleneck(f, grid, inputs, outputs, 0.0)
    return nn.Sequential(linear(inputs, f.width), nn.GELU("tanh"), linear(f.width, outputs, scale=0.0))


class Stochastic(nn.Module):
    def __init__(self, f, grid):
        super().__init__()
        tokens = f.body == "tokens"
        self.axis = -1 if tokens else 1
        self.norm = nn.RMSNorm(f.width, eps=1e-6) if tokens else nn.Identity()
        self.prior, self.posterior = head(f, grid, f.width), head(f, grid, 2 * f.width)
        maps = linear if tokens else conv
        self.write = maps(f.channels_latent, f.width, bias=False, scale=f.residual_scale)
        self.block = block(f, grid)

    def forward(self, x, features):
        above = self.norm(x)
        mean, log_scale = self.prior(above).chunk(2, self.axis)
        shift, log_width = self.posterior(torch.cat([above, features], self.axis)).chunk(2, self.axis)
        u = shift + log_width.exp() * torch.randn_like(shift)
        kl = 0.5 * (shift.square() + (2 * log_width).exp() - 1) - log_width
        return self.block(x + self.write(mean + log_scale.exp() * u)), kl.flatten(1).sum(1)


class VAE(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.family, stages = f, f.stages
        conv_body, pixels = f.body == "conv", f.cell**2
        maps = conv if conv_body else linear

        def start(grid):
            shape = (1, f.width, grid, grid) if conv_body else (1, grid**2, f.width)
            return nn.Parameter(0.3 * torch.randn(shape))

        def norm():
            return nn.Identity() if conv_body else nn.RMSNorm(f.width, eps=1e-6)

        k = f.mixture
        self.stem, self.readout = maps(pixels, f.width), maps(f.width, 3 * k * pixels, scale=f.width**-0.5)
        bias = logistic_start(k)
        self.readout.bias.data = bias if conv_body else bias.repeat_interleave(pixels)
        self.up = nn.ModuleList(nn.Sequential(*[block(f, s.grid) for _ in range(s.encoder)])
                                for s in stages)
        self.down = nn.ModuleList(nn.ModuleList(Stochastic(f, s.grid) for _ in range(s.blocks))
                                  for s in stages)
        self.up_norms, self.norm = nn.ModuleList(norm() for _ in stages), norm()
        self.starts, self.up_start = nn.ParameterList(start(s.grid) for s in stages), start(stages[-1].grid)

    def players(self):
        return (("model", self),)

    def resize(self, x, grid):
        if self.family.body == "tokens":  # the grids of tokens are 1x1 and the finest
            return x.mean(1, keepdim=True) if grid == 1 else x.expand(-1, grid**2, -1)
        old = x.shape[-1]
        if grid == old:
            return x
        return functional.avg_pool2d(x, old // grid) if grid < old else functional.interpolate(x, scale_factor=grid // old)

    def model_loss(self, batch):
        f, pixels, features, rate = self.family, batch["image"], [], 0.0
        h = self.stem(pixels if f.body == "conv" else patches(pixels, f.cell)) + self.up_start
        for stage, blocks, norm in zip(f.stages[::-1], self.up[::-1], self.up_norms[::-1]):
            h = blocks(self.resize(h, stage.grid))
            features.append(norm(h))
        x = torch.zeros_like(features[-1])
        for stage, blocks, start, known in zip(f.stages, self.down, self.starts, features[::-1]):
            x = self.resize(x, stage.grid) + start
            for layer in blocks:
                x, kl = layer(x, known)
                rate = rate + kl
        outputs = self.readout(self.norm(x))
        outputs = outputs if f.body == "conv" else unpatch(outputs, f.cell)
        return (rate - logistic(outputs, pixels, f.levels).sum((1, 2))).mean() / f.dimensions


def logistic_start(k):
    """The initial biases [3k] of the readout of one pixel: weights, means and log scales of k components."""
    means, log_scales = (2 * torch.arange(k) + 1) / k - 1, torch.full((k,), -math.log(2 * k))
    return torch.cat([torch.zeros(k), means, log_scales])


def logistic(outputs, x, levels):
    """Nats [B, H, W] of x [B, 1, H, W] under a mixture of discretised logistics [B, 3k, H, W]."""
    logits, means, log_scales = outputs.chunk(3, 1)
    inverse, half = (-log_scales.clamp(min=-7.0)).exp(), 1 / (levels - 1)
    above, below = (x - means + half) * inverse, (x - means - half) * inverse
    lowest, highest = x < -1 + half, x > 1 - half
    nats = (functional.logsigmoid(above).masked_fill(highest, 0.0) + functional.logsigmoid(-below).masked_fill(lowest, 0.0)
            + (-torch.expm1(-2 * half * inverse)).log().masked_fill(lowest | highest, 0.0))
    return torch.logsumexp(nats + functional.log_softmax(logits, 1), 1)
