"""The parts of `scaling.families.masked`: its network, and which tokens are masked and by what."""

import jax
import jax.numpy as jnp
from jax import lax

from scaling import axes, nn
from scaling.families._encoder import encode
from scaling.families._language import LanguageNetwork

MASKED, RANDOM = 0.8, 0.1  # of the chosen tokens, by "bert"; the rest stays (Devlin et al. 2018, section 3.1)


class MaskedNetwork(LanguageNetwork):
    """Embedding, encoder, and the readout of masked tokens or the head of classes; `layers` holds the encoder's blocks.

    What stands for a masked token is a vector of its own, as large as an embedding at the start. As one more row of the
    table it would make the vocabulary odd, which no layout could divide.
    """

    def __init__(self, f, layers, draw):
        super().__init__(f, layers, draw, positions=f.positions == "learned", bias=f.biases, reads_out=not f.classes,
                         epsilon=f.norm_epsilon)
        self.mask = None if f.classes else axes.param(draw((f.width,)), ("embed",))
        self.head = (None if not f.classes else
                     nn.Linear(draw, {"embed": f.width}, {"vocab": f.classes}, scale=f.width**-0.5))

    def read(self, tokens, masked=None, real=None, noise=None):
        """Tokens, integer [B, S] -> outputs of the last layer [B, S, width]. Where `masked`, bool [B, S], is true the token
        is not seen; `real` and `noise` are those of `encode`."""
        x = self.embed(tokens)
        if self.family.tied:
            x = x * self.family.width**0.5
        if masked is not None:
            x = jnp.where(masked[..., None], self.mask[...].astype(x.dtype)[None, None], x)
        if self.position is not None:
            x = x + self.position(jnp.arange(tokens.shape[1]))[None]
        return encode(self.family, self.layers, nn.constrain(x, "embed"), real, noise)

    def read_at(self, tokens, places, words=None, masked=None, noise=None):
        """As `read`, but only the outputs at `places`, int32 [B, K], whose tokens are first replaced by `words`, integer
        [B, K], or hidden where `masked`, bool [B, K], is true; by default all of them are hidden."""
        at = jax.vmap(lambda row, place, new: row.at[place].set(new))
        hidden = at(jnp.zeros(tokens.shape, bool), places, jnp.ones(places.shape, bool) if masked is None else masked)
        seen = tokens if words is None else at(tokens, places, words)
        return jnp.take_along_axis(self.read(seen, hidden, noise=noise), places[..., None], axis=1)

    def class_logits(self, text, noise=None):
        """Texts, integer [B, S], padded with 0 after their own end -> float32 logits [B, classes]."""
        text, real = text.astype(jnp.int32), real_tokens(text)
        x = self.norm(self.read(text, real=real, noise=noise))
        if self.family.pooling == "first":
            pooled = x[:, 0]
        else:
            kept = jnp.where(real[..., None], x, 0).astype(jnp.float32)
            pooled = (kept.sum(1) / real.sum(1)[:, None]).astype(x.dtype)
        logits = nn.product(pooled, self.head.weight[...].astype(x.dtype), out=jnp.float32)
        return nn.constrain(logits, "vocab")


def real_tokens(text):
    """bool [B, S]: true at the tokens of each text and at the 0 that ends it, false at padding. Texts have no 0 inside."""
    return jnp.arange(text.shape[1])[None] <= (text != 0).sum(-1)[:, None]


def chosen_places(key, examples, length, share):
    """int32 [B, K]: K different positions of each example, the nearest number to `share` of `length`, and at least one.

    They depend on the key and on the number of the example, `examples`, int32 [B], alone.
    """
    count = min(length, max(1, round(share * length)))
    return lax.top_k(nn.noise(key, examples, (length,), "uniform"), count)[1]


def bert_words(key, examples, tokens, vocab):
    """(words, bool) [B, K] in place of the chosen `tokens`, integer [B, K]: which word is seen, and whether none is.

    Eight in ten are hidden, one is a random word, and one stays.
    """
    kind, word = jnp.moveaxis(nn.noise(key, examples, (2, tokens.shape[1]), "uniform"), 1, 0)
    drawn = jnp.minimum((word * vocab).astype(jnp.int32), vocab - 1)
    return jnp.where(kind < MASKED + RANDOM, drawn, tokens), kind < MASKED
