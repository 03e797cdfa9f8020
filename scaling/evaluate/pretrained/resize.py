"""Resize rules: how images reach the size of a pretrained network. Each FID tool has its own rule.

Every rule is a linear map along each side, so a rule is a matrix [out, in] for each side and one affine scaling of
values. FIDs under different rules differ by several points (Parmar et al. 2022, arXiv:2104.11222). The matrices are
made here because jax.image.resize has neither TensorFlow 1's rule nor torch's cubic kernel.
"""
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np


class Rule(NamedTuple):
    """Multiplies each side by `matrix(size_in, size)`, then maps values of 0..255 to (value - mean) / std."""

    name: str
    size: int
    matrix: Callable[[int, int], np.ndarray]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images, levels=256):
        """uint8 images [n, H, W, 1 or 3] of values 0..levels-1 -> float32 [n, size, size, 3], in JAX.

        Grey images get three equal channels.
        """
        x = jnp.asarray(images, jnp.float32) * (255.0 / (levels - 1))
        x = jnp.einsum("ih,nhwc->niwc", self.matrix(x.shape[1], self.size), x, precision="highest")
        x = jnp.einsum("jw,niwc->nijc", self.matrix(x.shape[2], self.size), x, precision="highest")
        x = jnp.broadcast_to(x, (*x.shape[:3], 3))
        mean, std = (np.asarray(v, np.float32).reshape(1, 1, 1, 3) for v in (self.mean, self.std))
        return (x - mean) / std


def _linear(x):
    return max(0.0, 1 - abs(x))


def _cubic(x, a):
    """Keys' cubic convolution kernel, 1981, eq. 4 with parameter a."""
    x = abs(x)
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0


@functools.lru_cache(64)
def interpolation(size_in, size_out, kernel="linear", half_pixel=True, scale=None, outside="clamp",
                  widen=False):
    """The matrix float32 [size_out, size_in] that resamples one side.

    Pixel i of the output samples the input at (i + 1/2) * scale - 1/2, or at i * scale with `half_pixel=False`. The
    default `scale` is size_in / size_out. With `widen` the kernel grows with a scale above one, which prevents aliasing.
    Outside of the image, either the edge pixel repeats ("clamp"), or there are no pixels and the weights of the others
    are normalised ("drop").
    """
    scale = size_in / size_out if scale is None else scale
    stretch = max(1.0, scale) if widen else 1.0
    weight, reach = {"linear": (_linear, 1), "cubic": (functools.partial(_cubic, a=-0.5), 2),
                     "cubic_torch": (functools.partial(_cubic, a=-0.75), 2)}[kernel]
    matrix = np.zeros((size_out, size_in))
    for i in range(size_out):
        centre = (i + 0.5) * scale - 0.5 if half_pixel else i * scale
        if outside == "clamp" and kernel == "linear":
            centre = min(max(centre, 0.0), size_in - 1.0)
        for j in range(math.floor(centre - reach * stretch), math.ceil(centre + reach * stretch) + 1):
            if outside == "clamp" or 0 <= j < size_in:
                matrix[i, min(max(j, 0), size_in - 1)] += weight((j - centre) / stretch)
        matrix[i] /= matrix[i].sum()
    return matrix.astype(np.float32)


_tf1 = functools.partial(interpolation, half_pixel=False)
_pillow = functools.partial(interpolation, kernel="cubic", outside="drop", widen=True)

RULES = {rule.name: rule for rule in (
    # TensorFlow 1's ResizeBilinear with align_corners=False, as in the network file of the original FID code
    Rule("tf1", 299, _tf1, (128.0,) * 3, (128.0,) * 3),
    # pytorch-fid: F.interpolate(mode="bilinear", align_corners=False), values to [-1, 1]
    Rule("pytorch-fid", 299, interpolation, (127.5,) * 3, (127.5,) * 3),
    # clean-fid: Pillow's antialiased bicubic on floats, without rounding in between
    Rule("clean-fid", 299, _pillow, (128.0,) * 3, (128.0,) * 3),
    # DINOv2: Pillow's bicubic to 224, ImageNet's mean and deviation
    Rule("dinov2", 224, _pillow, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
)}
