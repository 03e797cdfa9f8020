"""Generator and discriminator of patch tokens: every operation is a matrix product (after GAT, 2509.24935)."""

import functools

import jax.numpy as jnp
from flax import nnx

from scaling import axes, nn
from scaling.devices import sharding
from scaling.families._family import UNROLLED, scaled
from scaling.families._gan_condition import GeneratorInput, Verdict
from scaling.families._tokens import TokenBlock


class Generator(nnx.Module):
    """Latents [B, latent] -> images float32 [B, H, W, C].

    Tokens start as a learned row for each position, with each channel scaled by a linear map of the latents (the
    generative basis of R3GAN). Each block reads the latents again, as a scale and shift of its input (as in StyleGAN).
    """

    def __init__(self, f, layers, draw):
        width, dtype = f.width, jnp.dtype(f.dtype)
        self.family, self.layers = f, layers
        self.latents = GeneratorInput(f, draw)
        known = {"latent": f.inputs}
        self.basis = nn.Table(draw, "position", f.tokens, width, dtype=dtype)
        self.enter = nn.Linear(draw, known, {"embed": width}, bias=True, dtype=dtype)
        styles = {"layers": f.layers, "style": 2, "embed": width}
        self.styles = nn.Linear(draw, known, styles, scale=0.5, bias=True, dtype=dtype)
        self.norm = nn.Norm("rmsnorm", "embed", width)
        self.leave = nn.Linear(draw, {"embed": width}, {"pixel": f.patch_values}, bias=True, scale=width**-0.5)
        self.branch = f.depth("gen").branch

    def __call__(self, z, batch):
        h = self.latents(z, batch)
        x = nn.constrain(self.basis.weight[...].astype(self.basis.dtype)[None] * self.enter(h)[:, None], "embed")

        def block(x, layer, style):
            return layer(x * (1 + style[:, None, 0]) + style[:, None, 1])

        x = through_blocks(block, x, self.layers, self.family.layers, scaled(self.styles(h), self.branch).swapaxes(0, 1))
        patches = self.leave(self.norm(x).astype(jnp.float32))
        return nn.unpatch(patches, self.family.patch_size, self.family.channels)


class Critic(nnx.Module):
    """Images float [B, H, W, C] -> logits float32 [B]; the generator's mirror image."""

    def __init__(self, f, layers, draw):
        width, dtype = f.critic_sizes[0], jnp.dtype(f.dtype)
        self.family, self.layers = f, layers
        self.enter = nn.Linear(draw, {"pixel": f.patch_values}, {"embed": width}, bias=True, dtype=dtype)
        self.position = nn.Table(draw, "position", f.tokens, width, dtype=dtype)
        self.norm = nn.Norm("rmsnorm", "embed", width)
        self.basis = nn.Table(draw, "position", f.tokens, width, std=f.tokens**-0.5)
        self.verdict = Verdict(f, draw, "embed", width)

    def __call__(self, images, batch):
        x = self.enter(nn.patches(images, self.family.patch_size))
        x = x + self.position.weight[...].astype(x.dtype)[None]
        x = through_blocks(lambda x, layer: layer(x), x, self.layers, self.family.critic_sizes[1])
        pooled = nn.constrain((self.norm(x).astype(jnp.float32) * self.basis.weight[...][None]).sum(1), "embed")
        return self.verdict(pooled, batch)


def _block(f, depth, width, layers, draw):
    scale, dtype = (2 * (f.base_layers or layers)) ** -0.5, jnp.dtype(f.dtype)
    return TokenBlock(draw, width, heads(width), 4 * width, scale_out=scale, branch=depth.branch, dtype=dtype)


def heads(width):
    """The number of heads that divides the width and makes them nearest to 32 channels (64 from a width of 512)."""
    wanted = 32 if width < 512 else 64
    return min((n for n in range(1, width + 1) if width % n == 0), key=lambda n: abs(width / n - wanted))


def stack_blocks(f, player, width, keys):
    """The blocks of one player, stacked."""
    return axes.stack(functools.partial(_block, f, f.depth(player), width, len(keys)), keys)


def through_blocks(apply, x, layers, count, *inputs):
    """x through all `count` layers, by `apply(x, layer, *row)` where `row` is the layer's row of each input."""
    graphdef, states = nnx.split(layers)

    def step(x, scanned):
        state, rows = scanned
        return apply(x, nnx.merge(graphdef, state), *rows), None

    unrolled = count <= UNROLLED and not sharding.plain()
    return nn.through_layers(step, x, states, inputs, unroll=count if unrolled else 1)[0]
