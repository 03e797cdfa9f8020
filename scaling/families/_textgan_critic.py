"""The networks beside a decoder that a GAN of text has: words with a gradient, and the discriminator that reads them."""

import jax
import jax.numpy as jnp
from flax import nnx

from scaling import nn
from scaling.devices import sharding
from scaling.families import _gan_tokens
from scaling.families._family import scaled

TINIEST = float(jnp.finfo(jnp.float32).tiny)


def gumbel_noise(key, examples, shape):
    """Standard Gumbel draws, float32 [B, *shape], one array for each example number; see `nn.noise`."""
    return -jnp.log(-jnp.log(jnp.maximum(nn.noise(key, examples, shape, "uniform"), TINIEST)))


def straight_through(logits, gumbel, words, temperature):
    """One-hot rows of `words`, integer [B, S], with the gradient of softmax((logits + gumbel) / temperature): float32
    [B, S, vocab] (Jang et al. 2017, arXiv:1611.01144, section 2.2). `words` are where logits + gumbel is largest."""
    soft = jax.nn.softmax((logits + gumbel) / temperature)
    hard = jax.nn.one_hot(words, logits.shape[-1])
    return hard + (soft - jax.lax.stop_gradient(soft))  # in this order the sum is exact


class TextCritic(nnx.Module):
    """Vectors of words [B, length + 1, width] -> logits float32 [B], by blocks in which every word sees every other.

    Half of the first word, which the data give, is added to the second; half, to tell the two apart.
    `embed` makes the vectors. They have length 1, so that longer ones cannot evade a penalty of the gradient by them, which
    also means the same at every width.
    """

    def __init__(self, f, layers, draw):
        self.width, dtype = f.critic_sizes[0], jnp.dtype(f.dtype)
        self.family, self.layers = f, layers
        self.table = nn.Table(draw, "vocab", f.vocab, self.width)
        self.position = nn.Table(draw, "position", f.length, self.width, dtype=dtype)
        self.norm = nn.Norm("rmsnorm", "embed", self.width)
        self.basis = nn.Table(draw, "position", f.length, self.width, std=f.length**-0.5)
        self.score = nn.Linear(draw, {"embed": self.width}, {"logit": 1}, bias=True, scale=self.width**-0.5)

    def embed(self, words):
        """Integers [B, S], or rows of weights of words, float [B, S, vocab] -> float32 [B, S, width]."""
        table = sharding.activation(self.table.weight[...], "vocab", "embed")
        table = table * jax.lax.rsqrt(jnp.square(table).sum(-1, keepdims=True) + 1e-12)
        return table[words] if jnp.issubdtype(words.dtype, jnp.integer) else nn.product(words, table)

    def __call__(self, vectors):
        given, written = vectors[:, :1], vectors[:, 1:]  # so that layouts divide `length` words, as those of other models
        x = scaled(written.at[:, :1].add(0.5 * given), self.width**0.5).astype(self.position.dtype)
        x = nn.constrain(x + self.position.weight[...].astype(x.dtype)[None], "embed")
        x = _gan_tokens.through_blocks(lambda x, layer: layer(x), x, self.layers, self.family.critic_sizes[1])
        weighted = self.norm(x).astype(jnp.float32) * self.basis.weight[...][None]
        return self.score(nn.constrain(weighted.sum(1), "embed"))[:, 0]
