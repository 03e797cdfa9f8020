"""Building blocks of the torch twins of both families; see `tools._torch_twins`."""

import math

from torch import nn
from torch.nn import functional


def _initialised(layer, fan_in, scale):
    nn.init.normal_(layer.weight, std=scale * fan_in**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def linear(inputs, outputs, bias=True, scale=1.0):
    return _initialised(nn.Linear(inputs, outputs, bias), inputs, scale)


def conv(inputs, outputs, kernel=1, bias=True, scale=1.0, groups=1):
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias, groups=groups)
    return _initialised(layer, kernel**2 * inputs // groups, scale)


def adapted(x, scale, shift):
    return x if scale is None else x * (1 + scale) + shift


class TokenBlock(nn.Module):
    """`scaling.families._tokens.TokenBlock` on [B, T, width]."""

    def __init__(self, width, heads, hidden, scale):
        super().__init__()
        self.heads = heads
        self.norm, self.mlp_norm = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.qkv = linear(width, 3 * width, bias=False)
        self.out = linear(width, width, bias=False, scale=scale)
        self.up, self.down = linear(width, hidden), linear(hidden, width, scale=scale)

    def forward(self, x, styles=None):
        """`styles` [B, 4, 1, width] scale and shift what each of the two branches reads."""
        scale, shift, mlp_scale, mlp_shift = (None,) * 4 if styles is None else styles.unbind(1)
        qkv = self.qkv(adapted(self.norm(x), scale, shift)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(functional.scaled_dot_product_attention(*qkv).transpose(1, 2).flatten(2))
        return x + self.down(functional.gelu(self.up(adapted(self.mlp_norm(x), mlp_scale, mlp_shift)), approximate="tanh"))


def patches(x, size):
    return functional.pixel_unshuffle(x, size).flatten(2).transpose(1, 2)


def unpatch(x, size):
    return functional.pixel_shuffle(x.transpose(1, 2).unflatten(2, (math.isqrt(x.shape[1]), -1)), size)
