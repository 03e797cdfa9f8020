"""Convolutions of images [B, H, W, C], by lax.conv or as matrix products over shifted copies of the image.

On a CPU XLA's own convolution is about 30 times slower inside of a compiled loop than outside, and steps, microbatches and
blocks are such loops. A product of the shifted copies with the kernel is fast everywhere, may be differentiated as often
as wanted, and the loop saves a call from Python for each step. Accelerators have kernels for lax.conv.
"""

import math

import jax.numpy as jnp
from flax import nnx
from jax import lax

from scaling import axes
from scaling.devices import sharding
from scaling.nn.layers import along, constrain, product

IMPLEMENTATIONS = ("auto", "xla", "products")
DIMENSIONS = ("NHWC", "HWIO", "NHWC")
CHANNELS = ("channels_in", "channels_out")  # the axes of a kernel between feature maps


class Conv(nnx.Module):
    """A 2-d convolution of images [B, H, W, C] with zero padding ("SAME"); inputs and outputs are numbers of channels.

    The weight has std `scale / sqrt(fan_in)`, as in `Linear`. "auto" takes products on a CPU and lax.conv elsewhere.
    `names` are the axes of inputs and outputs: "pixel" for the channels of images, which do not grow with the model.
    """

    def __init__(self, draw, inputs, outputs, *, kernel=3, stride=1, groups=1, bias=True, scale=1.0, dtype=jnp.float32,
                 implementation="auto", names=CHANNELS):
        self.stride, self.groups, self.dtype, self.implementation = stride, groups, dtype, implementation
        std = scale / math.sqrt(kernel * kernel * inputs // groups)
        self.weight = axes.param(std * draw((kernel, kernel, inputs // groups, outputs)),
                                 ("kernel_height", "kernel_width", *names))
        self.bias = axes.param(jnp.zeros(outputs), names[1:]) if bias else None

    def __call__(self, x):
        x, weight = x.astype(self.dtype), self.weight[...].astype(self.dtype)
        y = constrain(convolve(x, weight, self.stride, self.groups, self.implementation), "channels")
        return y if self.bias is None else y + along(self.bias[...].astype(self.dtype), y)


class Upsampling(nnx.Module):
    """A 4x4 convolution with stride 1/2: [B, H, W, inputs] -> [B, 2 H, 2 W, outputs]. Each output has four taps."""

    def __init__(self, draw, inputs, outputs, *, scale=1.0, dtype=jnp.float32, implementation="auto", names=CHANNELS):
        self.dtype, self.implementation = dtype, implementation
        self.weight = axes.param(scale * (4 * inputs) ** -0.5 * draw((4, 4, inputs, outputs)),
                                 ("kernel_height", "kernel_width", *names))
        self.bias = axes.param(jnp.zeros(outputs), names[1:])

    def __call__(self, x):
        y = convolve_up(x, self.weight[...].astype(self.dtype), self.implementation)
        return y + along(self.bias[...].astype(self.dtype), y)


def convolve(x, weight, stride=1, groups=1, implementation="auto"):
    """x [B, H, W, C] and weight [k, k, C / groups, outputs] -> [B, H / stride, W / stride, outputs], rounded up."""
    kernel = weight.shape[0]
    if kernel == stride == groups == 1:
        return product(x, weight[0, 0])  # a matrix product is faster on every backend
    if not _by_products(implementation):
        return lax.conv_general_dilated(x, weight, (stride,) * 2, "SAME", dimension_numbers=DIMENSIONS,
                                        feature_group_count=groups)
    padding = lax.padtype_to_pads(x.shape[1:3], (kernel,) * 2, (stride,) * 2, "SAME")
    taps = _shifted(jnp.pad(x, ((0, 0), *padding, (0, 0))), kernel, stride)
    if groups == 1:
        return product(jnp.concatenate(taps, -1), weight.reshape(-1, weight.shape[-1]))
    taps = jnp.stack(taps, -2)  # [B, h, w, k * k, C]
    taps = taps.reshape(*taps.shape[:-1], groups, -1)
    weight = weight.reshape(kernel**2, weight.shape[2], groups, -1)
    return jnp.einsum("bhwkgc,kcgo->bhwgo", taps, weight).reshape(*taps.shape[:3], -1)


def convolve_up(x, weight, implementation="auto"):
    """x [B, H, W, C] and weight [4, 4, C, outputs] -> [B, 2 H, 2 W, outputs], as lax.conv_transpose with stride two.

    Output 2 p + a along an axis reads the two inputs p + a - 1 and p + a, by taps a and a + 2. One product makes the
    outputs of all four offsets (a, b) from each 2x2 window; each offset then takes its own windows.
    """
    if not _by_products(implementation):
        return lax.conv_transpose(x, weight, (2, 2), "SAME", dimension_numbers=DIMENSIONS)
    batch, height, width, channels = x.shape
    windows = jnp.concatenate(_shifted(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 2, 1), -1)
    by_offset = weight.reshape(2, 2, 2, 2, channels, -1).transpose(0, 2, 4, 1, 3, 5)  # window, channel, offset, output
    y = product(windows, by_offset.reshape(4 * channels, -1)).reshape(*windows.shape[:3], 2, 2, -1)
    rows = [jnp.stack([y[:, a:a + height, b:b + width, a, b] for b in range(2)], 3) for a in range(2)]
    return jnp.stack(rows, 2).reshape(batch, 2 * height, 2 * width, -1)


def _by_products(implementation):
    if implementation == "auto":
        return sharding.platform() == "cpu" and not sharding.plain()
    return implementation == "products"


def _shifted(x, kernel, stride):
    """The image that each tap of a kernel sees, row by row: every `stride`-th pixel of padded images [B, H, W, C]."""
    height, width = ((size - kernel) // stride + 1 for size in x.shape[1:3])
    return [x[:, i:i + stride * (height - 1) + 1:stride, j:j + stride * (width - 1) + 1:stride]
            for i in range(kernel) for j in range(kernel)]
