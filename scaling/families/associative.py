"""The associative memory: the next token from the last one, whose embedding is random and fixed."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from scaling import axes, nn
from scaling.families._family import Player, ladder_arguments
from scaling.families._text import example_windows, likelihood_metrics, mean_loss, shifted
from scaling.fields import ConfigError, check_fields, convert_fields, static

SMALLEST, LARGEST = 256, 2**40  # parameters of the ladder


@dataclasses.dataclass(frozen=True)
class Associative:
    """softmax(W e(x)), the probabilities of the token that follows token x (Cabannes et al. 2023, arXiv:2310.02984).

    e(x) is a corner of a cube, +-1/sqrt(width) in each of `width` dimensions, drawn from x as a seed, so that there may be
    billions of tokens. The one matrix W, [width, answers], starts with std 0.1 and stores outer products of embeddings and
    answers. Embeddings of different tokens are almost orthogonal, and what they share is the interference that limits
    how many tokens a width can tell apart. The loss is convex in W.

    On tokens of text this is a bigram model of rank `width`.
    """

    reads: ClassVar[str] = "text"

    vocab: int = static(256, least=1, most=2**31 - 1)  # tokens that there are; the data say it
    length: int = static(1, least=1, most=2**20)  # tokens of a sequence; the data say it
    answers: int = static(0, least=0, most=2**20)  # tokens that are predicted, the first ones; 0 is all
    width: int = static(64, least=1, most=2**24)  # dimensions of an embedding

    def __post_init__(self):
        convert_fields(self)
        check_fields(self, "family.")
        if self.answers and self.length > 1:
            raise ConfigError(f"family.length={self.length} would have the memory predict contexts too, and it predicts "
                              f"the {self.answers} answers alone; write data.length=1")
        if self.predicted > 2**20:
            raise ConfigError(f"family.vocab={self.vocab} are too many tokens to predict; write at most {2**20}")

    @property
    def predicted(self) -> int:
        """The number of tokens that can be predicted."""
        return self.answers or self.vocab

    def init(self, key):
        return {"model": nnx.state(axes.drawn(functools.partial(Memory, self), key))}

    def players(self):
        return (Player("model", self.loss),)

    def loss(self, params, batch, key):
        """Mean nats per token. The batch is {"tokens": integer [B, S+1]}; the key is unused."""
        del key
        return mean_loss(self._scores(params, batch)[0])

    def evaluate(self, params, batch, key):
        """The metrics of `scaling.families._text.likelihood_metrics`. The key is unused."""
        del key
        return likelihood_metrics(*self._scores(params, batch), batch)

    def _scores(self, params, batch):
        """Nats of the targets, float32 [B, S], and the likeliest tokens, int32 [B, S]."""
        tokens, targets = shifted(batch)
        logits = nnx.merge(_graphdef(self), params["model"])(tokens)
        return nn.cross_entropy(logits, targets), logits.argmax(-1)

    def example_batch(self, batch_size, key):
        return example_windows(batch_size, self.length, self.predicted, key)

    @classmethod
    def ladder(cls, size, **overrides):
        """The memory with about `size` parameters: the width is size / answers, rounded."""
        size, overrides = ladder_arguments(cls, size, overrides, SMALLEST, LARGEST)
        base = cls(**{"width": 1} | overrides)
        return cls(**{"width": max(1, round(size / base.predicted))} | overrides)

    @classmethod
    def sizes(cls):
        return tuple(1e3 * 10 ** (i / 2) for i in range(9))


class Memory(nnx.Module):
    """The matrix of an `Associative` and the embeddings of its tokens."""

    def __init__(self, family, draw):
        self.width = family.width
        self.weight = axes.param(0.1 * draw((family.width, family.predicted)), ("embed", "answer"))

    def __call__(self, tokens):
        """Integer [B, S] -> float32 logits [B, S, answers]."""
        return self.embed(tokens) @ self.weight[...]

    def embed(self, tokens):
        """Integer [B, S] -> embeddings [B, S, width]. Each 32 bits of a token are 32 signs."""
        words, key = -(-self.width // 32), jax.random.key(0)
        bits = jax.vmap(lambda token: jax.random.bits(jax.random.fold_in(key, token), (words,)))(tokens.reshape(-1))
        signs = (bits[..., None] >> jnp.arange(32, dtype=jnp.uint32)[None, None]) & jnp.uint32(1)
        signs = signs.reshape(*tokens.shape, 32 * words)[..., :self.width]
        return (2 * signs.astype(jnp.float32) - 1) * self.width**-0.5


@functools.lru_cache(maxsize=256)
def _graphdef(family):
    return nnx.graphdef(nnx.eval_shape(lambda: axes.drawn(functools.partial(Memory, family), jax.random.key(0))))
