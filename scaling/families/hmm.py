"""The hidden Markov model, trained by the gradient of its exact likelihood."""

import dataclasses
import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from scaling import axes, nn
from scaling.devices import sharding
from scaling.families._family import Player, ladder_arguments
from scaling.families._generate import sample_windows
from scaling.families._text import example_windows, likelihood_metrics, mean_loss
from scaling.fields import check_fields, convert_fields, how, static
from scaling.nn import recurrence

SMALLEST, LARGEST = 1e3, 1e9  # parameters of the ladder
TINY = 1e-37  # probabilities below it are taken for it; float32 has none that are smaller


@dataclasses.dataclass(frozen=True)
class HMM:
    """A chain of hidden states, each of which moves to the next one and emits a token there (Rabiner 1989).

    The state before the first token, the moves and the tokens are drawn from softmaxes of the parameters, which begin as
    standard normals. The likelihood is exact: the forward algorithm keeps the distribution of the state, given the tokens
    so far, and a step multiplies it by the matrix of moves and, in logarithms, by the probability of the token. The model
    has states^2 + states parameters beside those of tokens, and as many multiplications for each token.
    """

    reads: ClassVar[str] = "text"

    vocab: int = static(256, least=1, most=2**24)  # tokens that there are; the data say it
    length: int = static(256, least=1, most=2**20)  # tokens of a sequence; the data say it
    states: int = static(64, least=1, most=2**16)  # hidden states
    unroll: int = how(1, least=1, most=2**20)  # steps of one iteration of the compiled loop

    def __post_init__(self):
        convert_fields(self)
        check_fields(self, "family.")

    def init(self, key):
        return {"model": nnx.state(axes.drawn(functools.partial(Chain, self), key))}

    def players(self):
        return (Player("model", self.loss),)

    def logits(self, params, tokens):
        """Tokens, integer [B, S] -> float32 logarithms of the probabilities [B, S, vocab] of the token after each one."""
        chain = self.module(params)
        return chain.predict(chain(tokens)[0])

    def loss(self, params, batch, key):
        """Mean nats per token after the first of each window {"tokens": integer [B, S+1]}. The key is unused."""
        del key
        return mean_loss(self.module(params)(batch["tokens"])[1][:, 1:])

    def evaluate(self, params, batch, key):
        """The metrics of `scaling.families._text.likelihood_metrics`. The key is unused."""
        del key
        chain = self.module(params)
        beliefs, nats = chain(batch["tokens"])
        return likelihood_metrics(nats[:, 1:], chain.predict(beliefs[:, :-1]).argmax(-1), batch)

    def example_batch(self, batch_size, key):
        return example_windows(batch_size, self.length, self.vocab, key)

    def module(self, params):
        """The `Chain` with these parameters."""
        return nnx.merge(_graphdef(self), params["model"])

    def begin(self, params, tokens, lengths, capacity):
        """(float32 logits [B, vocab] of the token after each prompt, the state for `decode`): see `Recurrent.begin`."""
        del capacity
        chain = self.module(params)
        beliefs = jnp.take_along_axis(chain(tokens)[0], (lengths - 1)[:, None, None], axis=1)
        return chain.predict(beliefs)[:, 0], beliefs[:, 0]

    def decode(self, params, state, token):
        """(logits [B, vocab] of the next token, the new state) after one more token, int32 [B]."""
        chain = self.module(params)
        beliefs, _ = chain(token[:, None], state)
        return chain.predict(beliefs)[:, 0], beliefs[:, 0]

    def sample(self, params, batch, key, **options):
        """Windows of text, int32 [B, 1 + length]; see `scaling.families._generate.sample_windows`."""
        return sample_windows(self, params, batch, key, **options)

    @classmethod
    def ladder(cls, size, **overrides):
        """The model with about `size` parameters beside those of tokens, from 5e3 to 1e8: states = sqrt(size), rounded to a
        multiple of 4."""
        size, overrides = ladder_arguments(cls, size, overrides, SMALLEST, LARGEST)
        return cls(**{"states": 4 * round(math.sqrt(size) / 4)} | overrides)

    @classmethod
    def sizes(cls):
        return tuple(5e3 * 10 ** (i / 2) for i in range(9)) + (1e8,)


class Chain(nnx.Module):
    """The probabilities of an `HMM` and its forward algorithm."""

    def __init__(self, f, draw):
        self.family = f
        self.start = axes.param(draw((f.states,)), ("states",))
        self.move = axes.param(draw((f.states, f.states)), ("states", "next_states"))
        self.emit = axes.param(draw((f.states, f.vocab)), ("states", "vocab"))

    def __call__(self, tokens, before=None):
        """Tokens, integer [B, S] -> (beliefs, float32 [B, S, states], nats of each token given those before it, [B, S]).

        A belief is the distribution of the state at a token, given all tokens up to it. `before` [B, states] is the belief
        before the first token, softmax(start) without it.
        """
        if before is None:
            before = jnp.broadcast_to(jax.nn.softmax(self.start[...])[None], (tokens.shape[0], self.family.states))
        emit = jax.nn.log_softmax(self.emit[...]).T  # [vocab, states]
        emitted = sharding.activation(emit[tokens], "batch", "step", "states")
        states = before, jnp.zeros((tokens.shape[0], 1))
        beliefs, nats = recurrence.recur(_observed, emitted, self.moves(), None, states, self.family.unroll)
        return beliefs, nats[..., 0]

    def predict(self, beliefs):
        """Beliefs [B, S, states] -> float32 logarithms of the probabilities of the next token [B, S, vocab]."""
        following = nn.product(nn.product(beliefs, self.moves()), jax.nn.softmax(self.emit[...]))
        return jnp.log(jnp.maximum(following, TINY))

    def moves(self):
        """Probabilities of the next state, float32 [states, states]; the whole of it lies on every device."""
        return sharding.activation(jax.nn.softmax(self.move[...]), "states", "next_states")


def _observed(states, log_emitted, prior):
    """(belief [B, states], nats of the token [B, 1]) once a token is seen whose log probability in each state is
    `log_emitted` [B, states]. `prior` [B, states] is the belief before that, after the move."""
    del states
    joint = jnp.log(jnp.maximum(prior, TINY)) + log_emitted
    log_total = jax.nn.logsumexp(joint, axis=-1, keepdims=True)
    return jnp.exp(joint - log_total), -log_total


@functools.lru_cache(maxsize=256)
def _graphdef(family):
    return nnx.graphdef(nnx.eval_shape(lambda: axes.drawn(functools.partial(Chain, family), jax.random.key(0))))
