"""The network of `scaling.families.fsq`: an encoder and a decoder of patch tokens, with the codes between them."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from scaling import axes, nn
from scaling.families._gan_tokens import stack_blocks, through_blocks
from scaling.families._vae_network import Readout

MLP = 4  # hidden units of a block over its width, as in the blocks of the GAN


class Autoencoder(nnx.Module):
    """Images -> a vector for each patch, and vectors -> what the likelihood of the pixels takes. In both halves every token
    sees every other. All vectors start at zero, as the heads of the VAE do; larger starts gained nothing with Muon."""

    def __init__(self, f, down, up, draw):
        kw, embed, code = dict(bias=True, dtype=jnp.dtype(f.dtype)), {"embed": f.width}, {"latents": f.code_channels}
        self.family, self.down, self.up = f, down, up
        self.enter = nn.Linear(draw, {"pixels": f.channels * f.cell**2}, embed, **kw)
        self.seen = nn.Table(draw, "position", f.tokens, f.width, dtype=kw["dtype"])
        self.norm = nn.Norm("rmsnorm", "embed", f.width)
        self.narrow = nn.Linear(draw, embed, code, scale=0.0, **kw)
        self.widen = nn.Linear(draw, code, embed, **kw)
        self.drawn = nn.Table(draw, "position", f.tokens, f.width, dtype=kw["dtype"])
        self.readout = Readout(f, draw)

    def encode(self, images):
        """Images uint8 [B, H, W, C] -> vectors float32 [B, tokens, code_channels], before they are quantised."""
        f = self.family
        x = self.enter(nn.patches(nn.levels_to_signed(images, f.levels), f.cell))
        x = self._through(self.down, self.seen, x)
        return self.narrow(self.norm(x)).astype(jnp.float32)

    def decode(self, values):
        """Values of codes [B, tokens, code_channels] -> inputs of the likelihood, float32 [B, H, W, n]."""
        return self.readout(self._through(self.up, self.drawn, self.widen(values)))

    def _through(self, layers, position, x):
        x = nn.constrain(x + position.weight[...].astype(x.dtype)[None], "embed")
        return through_blocks(lambda x, layer: layer(x), x, layers, self.family.layers)


def autoencoder(f, key):
    """The network of a family, with fresh parameters."""
    rest, *keys = jax.random.split(key, 3)
    down, up = (stack_blocks(f, "model", f.width, jax.random.split(each, f.layers)) for each in keys)
    return axes.drawn(functools.partial(Autoencoder, f, down, up), rest)


@functools.lru_cache(maxsize=256)
def autoencoder_weights(pixels, outputs, code_channels):
    """The parameters beside tables, as a function (width, layers), given the values of a patch, the numbers that the
    likelihood takes for a patch, and the channels of a code."""
    def count(width, layers):
        block = (4 + 2 * MLP) * width**2 + (3 + MLP) * width
        return 2 * layers * block + width * (pixels + outputs + 2 * code_channels + 4) + outputs + code_channels

    return count
