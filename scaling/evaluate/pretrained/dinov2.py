"""DINOv2's Vision Transformer: Oquab et al. 2023, arXiv:2304.07193, with the weights of the official backbone files.

ViT-S, B, L and g with patches of 14, with or without registers. Sizes come from the shapes of the arrays. The feature is
the normalised class token, as in Stein et al. 2023 (arXiv:2306.04675), who propose it for Fréchet distances.
"""
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scaling import nn
from scaling.evaluate.pretrained import resize, weights

NETWORK = "a DINOv2 backbone (dinov2_vit{s,b,l,g}14[_reg4]_pretrain.pth)"
# {width: SHA-256 of the published file}, of the files whose hash is known for certain.
SHA256 = {384: "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9"}
HEAD = 64  # channels of a head, in all sizes of the network


def _parameter(take, name, shape=None):
    return nnx.Param(jnp.asarray(take(name, shape)))


class Affine(nnx.Module):
    """x W^T + b, with torch's layout of W. More than two axes of `weight` are flattened to two."""

    def __init__(self, take, name, inputs, outputs=None):
        weight = take(f"{name}.weight")
        if weight.size % inputs or outputs not in (None, weight.shape[0]):
            raise weights.WeightsError(f"this is not a file of {take.network}: '{name}.weight' has the shape "
                                       f"{weight.shape}, for {inputs} inputs")
        weight = weight.reshape(weight.shape[0], -1)
        self.weight = nnx.Param(jnp.asarray(weight.T))
        self.bias = _parameter(take, f"{name}.bias", weight.shape[:1])

    def __call__(self, x):
        y = x @ self.weight[...]
        return y + nn.along(self.bias[...], y)


class LayerNorm(nnx.Module):
    def __init__(self, take, name, width):
        self.scale = _parameter(take, f"{name}.weight", (width,))
        self.bias = _parameter(take, f"{name}.bias", (width,))

    def __call__(self, x):
        x = x - x.mean(-1, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)
        return x * nn.along(self.scale[...], x) + nn.along(self.bias[...], x)


class VitBlock(nnx.Module):
    """x + ls1 * attention(norm(x)), then x + ls2 * mlp(norm(x)); with GELU, or with SwiGLU if the file has `w12`."""

    def __init__(self, take, name, width):
        self.heads = width // HEAD
        self.norm1, self.norm2 = LayerNorm(take, f"{name}.norm1", width), LayerNorm(take, f"{name}.norm2", width)
        self.qkv = Affine(take, f"{name}.attn.qkv", width, 3 * width)
        self.out = Affine(take, f"{name}.attn.proj", width, width)
        self.scale1 = _parameter(take, f"{name}.ls1.gamma", (width,))
        self.scale2 = _parameter(take, f"{name}.ls2.gamma", (width,))
        self.gated = f"{name}.mlp.w12.weight" in take.arrays
        up, down = ("w12", "w3") if self.gated else ("fc1", "fc2")
        self.up = Affine(take, f"{name}.mlp.{up}", width)
        hidden = self.up.weight.shape[1] // (2 if self.gated else 1)
        self.down = Affine(take, f"{name}.mlp.{down}", hidden, width)

    def __call__(self, x):
        n, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, tokens, 3, self.heads, HEAD)
        q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        share = jax.nn.softmax(jnp.einsum("nqhd,nkhd->nhqk", q, k) / math.sqrt(HEAD), axis=-1)
        mixed = jnp.einsum("nhqk,nkhd->nqhd", share, v).reshape(n, tokens, width)
        x = x + self.out(mixed) * nn.along(self.scale1[...], x)
        hidden = self.up(self.norm2(x))
        if self.gated:
            gate, hidden = jnp.split(hidden, 2, axis=-1)
            hidden = jax.nn.silu(gate) * hidden
        else:
            hidden = jax.nn.gelu(hidden, approximate=False)
        return x + self.down(hidden) * nn.along(self.scale2[...], x)


class DinoV2(nnx.Module):
    """Normalised images [n, H, W, 3], sides multiples of the patch -> the class token's features.

    The result is float32 [n, width]. `tensors` are the arrays of an official state dict; WeightsError if they are not.
    """

    def __init__(self, tensors):
        take = weights.NamedArrays(tensors, NETWORK)
        self.width = take("cls_token", (1, 1, None)).shape[-1]
        if self.width % HEAD:
            raise weights.WeightsError(f"this is not a file of {NETWORK}: its width {self.width} is no "
                                       f"multiple of {HEAD}")
        self.patch = take("patch_embed.proj.weight", (self.width, 3, None, None)).shape[-1]
        self.embed = Affine(take, "patch_embed.proj", 3 * self.patch**2, self.width)
        self.first = _parameter(take, "cls_token")
        self.position = _parameter(take, "pos_embed", (1, None, self.width))
        self.has_registers = "register_tokens" in tensors
        registers = take("register_tokens", (1, None, self.width)) if self.has_registers else np.zeros(
            (1, 0, self.width), np.float32)
        self.registers = nnx.Param(jnp.asarray(registers))
        depth = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
        self.blocks = nnx.List(VitBlock(take, f"blocks.{i}", self.width) for i in range(depth))
        self.norm = LayerNorm(take, "norm", self.width)

    def positions(self, rows, columns):
        """Position embeddings [1, 1 + rows * columns, width], resampled from the square grid of training.

        Bicubic, as in torch. As the hub's settings are, files without registers use a scale of (size + 0.1) / trained
        size without antialiasing, and files with registers use the plain scale with antialiasing.
        """
        trained = math.isqrt(self.position.shape[1] - 1)
        if rows == columns == trained:
            return self.position[...]
        grid = self.position[...][0, 1:].reshape(trained, trained, self.width)
        for axis, size in enumerate((rows, columns)):
            if self.has_registers:
                matrix = resize.interpolation(trained, size, kernel="cubic", outside="drop", widen=True)
            else:
                matrix = resize.interpolation(trained, size, kernel="cubic_torch",
                                              scale=trained / (size + 0.1))
            grid = jnp.moveaxis(jnp.tensordot(matrix, grid, (1, axis)), 0, axis)
        return jnp.concatenate([self.position[...][:, :1], grid.reshape(1, -1, self.width)], axis=1)

    def layers(self, x):
        """{name: activations}: "tokens", "block0", ..., and "class", the feature."""
        n, height, width, _ = x.shape
        rows, columns = height // self.patch, width // self.patch
        patches = x.reshape(n, rows, self.patch, columns, self.patch, 3).transpose(0, 1, 3, 5, 2, 4)
        patches = self.embed(patches.reshape(n, rows * columns, -1))
        first = jnp.broadcast_to(self.first[...], (n, 1, self.width))
        x = jnp.concatenate([first, patches], axis=1) + self.positions(rows, columns)
        registers = jnp.broadcast_to(self.registers[...], (n, self.registers.shape[1], self.width))
        x = jnp.concatenate([x[:, :1], registers, x[:, 1:]], axis=1)
        found = {"tokens": x}
        for i, block in enumerate(self.blocks):
            x = found[f"block{i}"] = block(x)
        found["class"] = self.norm(x)[:, 0]
        return found

    def __call__(self, x):
        return self.layers(x)["class"]
