"""InceptionV3 (Szegedy et al. 2015, arXiv:1512.00567) as Fréchet inception distances use it.

The weights are those of the file that FID tools share, `pt_inception-2015-12-05-6726825d.pth`, whose names are
torchvision's. The network differs from torchvision's: average pooling does not count the padding, and the last block
pools by maximum while the one before it pools by mean.
"""
import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from scaling import nn
from scaling.evaluate.pretrained import weights

NETWORK = "InceptionV3 with FID weights (pt_inception-2015-12-05-6726825d.pth)"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
DIMENSION = 2048


class FoldedConv(nnx.Module):
    """A convolution with BatchNorm folded into its kernel, and ReLU, NHWC."""

    def __init__(self, take, name, inputs, outputs, kernel, stride=1, pad=(0, 0)):
        self.stride, self.pad = stride, pad
        weight = take(f"{name}.conv.weight", (outputs, inputs, *kernel))
        shift, mean = take(f"{name}.bn.bias", (outputs,)), take(f"{name}.bn.running_mean", (outputs,))
        gain = take(f"{name}.bn.weight", (outputs,)) / (take(f"{name}.bn.running_var", (outputs,)) + 1e-3) ** 0.5
        self.kernel = nnx.Param(jnp.asarray(weight.transpose(2, 3, 1, 0) * gain.reshape(1, 1, 1, -1)))
        self.bias = nnx.Param(jnp.asarray(shift - mean * gain))

    def __call__(self, x):
        y = lax.conv_general_dilated(x, self.kernel[...], (self.stride,) * 2, [(p, p) for p in self.pad],
                                     dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jax.nn.relu(y + nn.along(self.bias[...], y))


def _max(x, stride=2, pad=0):
    padding = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, stride, stride, 1), padding)


def _mean(x):
    """3x3 mean that does not count the padding, as in TensorFlow."""
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    total = lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 1, 1, 1), padding)
    ones = jnp.ones_like(x[:1, :, :, :1])
    return total / lax.reduce_window(ones, 0.0, lax.add, (1, 3, 3, 1), (1, 1, 1, 1), padding)


def _max_same(x):
    return _max(x, stride=1, pad=1)


# A block is a list of branches whose outputs are joined. A branch is a list of steps. A step is a function, or a
# convolution (name, outputs, kernel, stride), padded to keep the size if the stride is 1, or a tuple of branches to
# fork into.
def _block_a(pool):
    return [[("branch1x1", 64, 1)], [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)],
            [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)],
            [_mean, ("branch_pool", pool, 1)]]


_BLOCK_B = [[("branch3x3", 384, 3, 2)],
            [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, 2)], [_max]]


def _block_c(inner):
    return [[("branch1x1", 192, 1)],
            [("branch7x7_1", inner, 1), ("branch7x7_2", inner, (1, 7)), ("branch7x7_3", 192, (7, 1))],
            [("branch7x7dbl_1", inner, 1), ("branch7x7dbl_2", inner, (7, 1)),
             ("branch7x7dbl_3", inner, (1, 7)), ("branch7x7dbl_4", inner, (7, 1)),
             ("branch7x7dbl_5", 192, (1, 7))],
            [_mean, ("branch_pool", 192, 1)]]


_BLOCK_D = [[("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2)],
            [("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, (1, 7)), ("branch7x7x3_3", 192, (7, 1)),
             ("branch7x7x3_4", 192, 3, 2)], [_max]]


def _block_e(pool):
    return [[("branch1x1", 320, 1)],
            [("branch3x3_1", 384, 1), ([("branch3x3_2a", 384, (1, 3))], [("branch3x3_2b", 384, (3, 1))])],
            [("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3),
             ([("branch3x3dbl_3a", 384, (1, 3))], [("branch3x3dbl_3b", 384, (3, 1))])],
            [pool, ("branch_pool", 192, 1)]]


_BLOCKS = {"Mixed_5b": _block_a(32), "Mixed_5c": _block_a(64), "Mixed_5d": _block_a(64), "Mixed_6a": _BLOCK_B,
           "Mixed_6b": _block_c(128), "Mixed_6c": _block_c(160), "Mixed_6d": _block_c(160),
           "Mixed_6e": _block_c(192), "Mixed_7a": _BLOCK_D, "Mixed_7b": _block_e(_mean),
           "Mixed_7c": _block_e(_max_same)}


class Branches(nnx.Module):
    """Branches that are applied to the same input; their outputs are joined along channels."""

    def __init__(self, take, name, inputs, branches):
        self.branches, self.outputs = nnx.List(), 0
        for branch in branches:
            width, steps = inputs, nnx.List()
            for step in branch:
                if callable(step):
                    steps.append(step)
                    continue
                if isinstance(step[0], list):
                    steps.append(Branches(take, name, width, step))
                    width = steps[-1].outputs
                    continue
                part, outputs, kernel, stride = (*step, 1)[:4]
                kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
                pad = tuple(k // 2 for k in kernel) if stride == 1 else (0, 0)
                steps.append(FoldedConv(take, f"{name}.{part}", width, outputs, kernel, stride, pad))
                width = outputs
            self.branches.append(steps)
            self.outputs += width

    def __call__(self, x):
        joined = []
        for steps in self.branches:
            y = x
            for step in steps:
                y = step(y)
            joined.append(y)
        return jnp.concatenate(joined, axis=-1)


class Inception(nnx.Module):
    """Images [n, 299, 299, 3] in [-1, 1] -> the pooled features [n, 2048]. Sides from 75 also work.

    `tensors` are the arrays of a state dict in torchvision's names; WeightsError if they are of another network.
    """

    def __init__(self, tensors):
        take = weights.NamedArrays(tensors, NETWORK)
        self.stem = nnx.Dict(
            Conv2d_1a_3x3=FoldedConv(take, "Conv2d_1a_3x3", 3, 32, (3, 3), stride=2),
            Conv2d_2a_3x3=FoldedConv(take, "Conv2d_2a_3x3", 32, 32, (3, 3)),
            Conv2d_2b_3x3=FoldedConv(take, "Conv2d_2b_3x3", 32, 64, (3, 3), pad=(1, 1)),
            Conv2d_3b_1x1=FoldedConv(take, "Conv2d_3b_1x1", 64, 80, (1, 1)),
            Conv2d_4a_3x3=FoldedConv(take, "Conv2d_4a_3x3", 80, 192, (3, 3)))
        self.blocks, width = nnx.Dict(), 192
        for name, branches in _BLOCKS.items():
            self.blocks[name] = Branches(take, name, width, branches)
            width = self.blocks[name].outputs

    def layers(self, x):
        """{name: activations} of every stage in order; "pool" is the last."""
        found = {}
        for name in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"):
            x = found[name] = self.stem[name](x)
            if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                x = _max(x)
        for name in _BLOCKS:
            x = found[name] = self.blocks[name](x)
        found["pool"] = x.mean((1, 2))
        return found

    def __call__(self, x):
        return self.layers(x)["pool"]
