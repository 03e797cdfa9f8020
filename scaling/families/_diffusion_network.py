"""The network of `scaling.families.diffusion`: patch tokens with adaptive norms, and a prior for every pixel at its end."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx

from scaling import axes, nn
from scaling.families._condition import Condition
from scaling.families._diffusion_levels import mean_of_levels
from scaling.families._gan_tokens import heads, through_blocks
from scaling.families._tokens import TokenBlock

NOISE, CONDITION = 32, 64  # features of the noise level and of the condition, in members of all sizes
MLP = 4  # hidden units of a block over its width
FLOOR = 0.25  # the least standard deviation of a pixel's prior, in levels; below it gradients would vanish


class Denoiser(nnx.Module):
    """Noisy images z [B, H, W, C] and their noise levels [B] -> the expected images, float32 [B, H, W, C].

    The network gives every pixel a normal prior, its mean m, between -1 and 1, and its standard deviation s. By Bayes' rule
    x then has the mean m + c (z - m) with c = s^2 / (s^2 + sigma^2), and the variance c sigma^2. Training starts near m = 0
    and s = data_std, where c is the skip of EDM's preconditioning (Karras et al. 2206.00364, table 1). What the network
    adds is a prediction of x, which needs no more width than images have structure; predictions of noise need a unit for
    each pixel of a patch (Li & He 2511.13720). The normal is restricted to the levels of the data.
    """

    def __init__(self, f, layers, draw):
        width, dtype = f.width, jnp.dtype(f.dtype)
        self.family, self.layers = f, layers
        self.enter = nn.Linear(draw, {"pixel": f.patch_values}, {"embed": width}, bias=True, dtype=dtype)
        self.position = nn.Table(draw, "position", f.tokens, width, dtype=dtype)
        self.condition = Condition(f, CONDITION, draw) if f.conditional else None
        known, styles = {"latent": known_features(f)}, {"layers": f.layers, "style": 4, "embed": width}
        self.styles = nn.Linear(draw, known, styles, scale=0.5, bias=True, dtype=dtype)
        self.norm = nn.Norm("rmsnorm", "embed", width)
        self.leave = nn.Linear(draw, {"embed": width}, {"pixel": 2 * f.patch_values}, bias=True, scale=width**-0.5)

    def __call__(self, z, sigma, batch, kept=None):
        """`kept` [B] is 1 for examples whose condition the network reads and 0 for others; None is 1 for all."""
        f = self.family
        outside = nn.along(sigma, z, 0)
        patches = nn.patches(z * jax.lax.rsqrt(jnp.square(outside) + f.data_std**2), f.patch_size)
        x = self.enter(patches) + self.position.weight[...].astype(self.position.dtype)[None]
        x = nn.constrain(x, "embed")
        styles = self.styles(self._known(sigma, batch, kept)).swapaxes(0, 1)
        x = through_blocks(lambda x, layer, styles: layer(x, styles), x, self.layers, f.layers, styles)
        prior = nn.unpatch(self.leave(self.norm(x).astype(jnp.float32)), f.patch_size, 2 * f.channels)
        mean, log_std = jnp.split(prior, 2, axis=-1)
        mean = jnp.tanh(mean)
        variance = jnp.square(f.data_std) * jnp.exp(2 * log_std) + jnp.square(FLOOR * f.step)
        share = variance / (variance + jnp.square(outside))
        return mean_of_levels(mean + share * (z - mean), share * jnp.square(outside), f.levels)

    def _known(self, sigma, batch, kept):
        """float32 [B, features]: cosines of the noise level's place in the range; and the condition, or zeros for it."""
        f = self.family
        place = jnp.log(sigma / f.lowest) / math.log(f.highest / f.lowest)
        found = jnp.cos(place[:, None] * nn.along(jnp.pi * jnp.arange(NOISE), place[:, None]))
        if self.condition is None:
            return found
        condition = self.condition(batch)
        return jnp.concatenate([found, condition if kept is None else condition * kept[:, None]], -1)


def known_features(f) -> int:
    """The number of features of what all blocks know."""
    return NOISE + (CONDITION if f.conditional else 0)


def _block(f, draw):
    scale, dtype = (2 * (f.base_layers or f.layers)) ** -0.5, jnp.dtype(f.dtype)
    return TokenBlock(draw, f.width, heads(f.width), MLP * f.width, scale_out=scale, branch=f.depth().branch, dtype=dtype)


def denoiser(f, key):
    """The network of a family, with fresh parameters."""
    rest, blocks = jax.random.split(key)
    layers = axes.stack(functools.partial(_block, f), jax.random.split(blocks, f.layers))
    return axes.drawn(functools.partial(Denoiser, f, layers), rest)


@functools.lru_cache(maxsize=256)
def denoiser_weights(conditional, pixels):
    """The parameters beside tables, as a function (width, layers); `pixels` are the values of a patch."""
    known = NOISE + (CONDITION if conditional else 0)

    def count(width, layers):
        block = (4 + 2 * MLP) * width**2 + (3 + MLP + 4 * (known + 1)) * width
        return layers * block + width * (3 * pixels + 2) + 2 * pixels

    return count
