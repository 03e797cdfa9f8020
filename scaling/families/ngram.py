"""The n-gram model: how often each token followed the tokens before it in the training data, smoothed."""

import dataclasses
import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scaling import axes
from scaling.families import _ngram_counts as counting
from scaling.families._family import ladder_arguments
from scaling.families._generate import sample_windows
from scaling.families._text import example_windows, likelihood_metrics
from scaling.fields import ConfigError, check_fields, convert_fields, static

SMALLEST, LARGEST = 256, 2**31 - 2  # counts of the ladder
MOST_ORDER = 8


@dataclasses.dataclass(frozen=True)
class NGram:
    """Sizes of an interpolated n-gram model with Kneser-Ney or absolute discounting.

    An `order` of None is derived from `counts` when the object is made, by the rule of `ladder`.

        p(w | c) = max(count(c w) - D, 0) / count(c) + backoff(c) p(w | c without its first token)

    `order` is n: the context c has up to n - 1 tokens. The lowest order, without a context, falls back on equal
    probabilities of all tokens. `smoothing` says which counts and which discounts D there are:

    * "modified": Kneser-Ney with a D for counts of 1, of 2, and of 3 or more (Chen & Goodman 1999, section 3);
    * "kneser_ney": one D (Kneser & Ney 1995, interpolated as by Chen & Goodman);
    * "absolute": one D, and plain counts at all orders (Ney, Essen & Kneser 1994). The two above count at lower orders
      how many different tokens stood before an n-gram.

    The D of each order follow from its counts of counts. Where these give none between 0 and c, a count of c is
    discounted by c/2, as KenLM does on request (Heafield et al. 2013).

    N is `counts`, the number of n-grams of all orders that the model has room for. Each has one parameter, its discounted
    probability. Single tokens are always stored, and then the most frequent n-grams; of equally frequent ones the shorter
    come first. So the context of what is stored is stored too. The probability of n-grams that are left out goes to the
    backoff of their context. The counts and discounts of the others stay as they are.

    N-grams lie within windows of the data, since nothing is known of the tokens before a window. The start of a window
    counts as one more token that may stand before an n-gram.
    """

    reads: ClassVar[str] = "text"

    vocab: int = static(256, least=1, most=2**24)  # tokens that there are; the data say it
    length: int = static(256, least=1, most=2**20)  # tokens of a sequence; the data say it
    order: int | None = static(None, least=1, most=MOST_ORDER)  # None: by the rule of `ladder`
    counts: int = static(2**16, least=1, most=LARGEST, meaning="the number of n-grams that are stored")
    smoothing: str = static("modified", choices=counting.SMOOTHING)  # which counts and which discounts

    def __post_init__(self):
        convert_fields(self)
        check_fields(self, "family.")
        if self.order is None:
            object.__setattr__(self, "order", min(MOST_ORDER, max(1, round(math.log10(self.counts) + 0.5))))
        if self.counts < self.vocab:
            raise ConfigError(f"family.counts={self.counts} has no room for each of the family.vocab={self.vocab} tokens "
                              f"that the data have (see data.tokenizer); write at least {self.vocab}")

    def init(self, key):
        """The model of no data, which holds all tokens for equally likely. The key is unused."""
        del key
        return self._params(*_empty(self))

    def _params(self, *arrays):
        return {"model": nnx.state(NGramTable(self.vocab, *arrays))}

    def players(self):
        return ()

    def solve(self, batches):
        """The parameters that batches of {"tokens": integer [B, S+1]} give, which are counted as one set of windows.

        It takes about 80 bytes of memory for each token, most of them to sort n-grams.
        """
        small = np.min_scalar_type(self.vocab - 1)
        windows = np.concatenate([np.asarray(batch["tokens"]).astype(small) for batch in batches])
        return self._params(*counting.count_and_smooth(windows, self.vocab, self.order, self.counts, self.smoothing))

    def solve_flops(self, batch_size):
        """One addition for each token and order: those of counting. Sorting and look-ups are no FLOPs."""
        return batch_size * self.length * self.order

    def evaluate(self, params, batch, key):
        """The metrics of `scaling.families._text.likelihood_metrics` but accuracy, and "stored", the n-grams that are
        stored. The key is unused."""
        del key
        stored = params["model"]["first"][...][-1].astype(jnp.float32)
        return likelihood_metrics(self.nats(params, batch["tokens"]), None, batch) | {"stored": (stored, 1.0)}

    def nats(self, params, tokens):
        """-log p of each token after the first one, given those before it: integer [B, S+1] -> float32 [B, S]."""
        table = self._table(params)
        places = self._places(table, tokens)
        return -jnp.log(table.interpolate([x[:, :-1] for x in places[:-1]], [x[:, 1:] for x in places]))

    def example_batch(self, batch_size, key):
        return example_windows(batch_size, self.length, self.vocab, key)

    def begin(self, params, tokens, lengths, capacity):
        """(float32 logits [B, vocab] of the token after each prompt, the state for `decode`); see `Transformer.begin`.

        The state is {"contexts": int32 [order - 1, B]}, where the last tokens of each text are in the table.
        """
        del capacity
        table = self._table(params)
        contexts = jnp.stack(self._places(table, tokens))[:-1, jnp.arange(len(tokens)), lengths - 1]
        return self._logits(table, contexts), {"contexts": contexts}

    def decode(self, params, state, token):
        """(logits [B, vocab] of the next token, the new state) after one more token, int32 [B]."""
        table = self._table(params)
        contexts = jnp.stack(table.places(state["contexts"], token))[:-1]
        return self._logits(table, contexts), {"contexts": contexts}

    def sample(self, params, batch, key, **options):
        """Windows of text, int32 [B, 1 + length]; see `scaling.families._generate.sample_windows`."""
        return sample_windows(self, params, batch, key, **options)

    def _table(self, params):
        return nnx.merge(_graphdef(self), params["model"])

    def _places(self, table, tokens):
        """The places in the table of the n-grams of orders 1 to `order` that end at each token of [B, S]."""
        found = [tokens.astype(jnp.int32)]
        for _ in range(self.order - 1):
            contexts = jnp.pad(found[-1][:, :-1], ((0, 0), (1, 0)), constant_values=self.counts)
            found.append(table.child(contexts, found[0]))
        return found

    def _logits(self, table, contexts):
        """Contexts, int32 [order - 1, B] -> float32 [B, vocab]."""
        every = jnp.broadcast_to(jnp.arange(self.vocab, dtype=jnp.int32), (contexts.shape[1], self.vocab))
        contexts = contexts[..., None]
        return jnp.log(table.interpolate(contexts, table.places(contexts, every)))

    @classmethod
    def ladder(cls, size, **overrides):
        """The model that stores `size` counts, of the order nearest to log10(size) + 1/2.

        On a million bytes of Python code, orders 4, 5 and 6 were best for 3 thousand, 30 thousand and 300 thousand counts.
        """
        size, overrides = ladder_arguments(cls, size, overrides, SMALLEST, LARGEST)
        return cls(**{"counts": round(size)} | overrides)

    @classmethod
    def sizes(cls):
        return tuple(1e3 * 10 ** (i / 2) for i in range(12))


class NGramTable(nnx.Module):
    """The n-grams of all orders as one table, [counts], sorted by their contexts and last tokens; places are int32.

    The first `vocab` places are the single tokens. The n-grams with the context at place i are at the places from first[i]
    to first[i + 1]. Place `counts`, which is outside, stands for a context that is not stored.
    """

    def __init__(self, vocab, discounted, backoff, token, first):
        self.vocab = vocab
        self.discounted = axes.param(discounted, ("ngram",))  # float32; of single tokens the whole probability
        self.backoff = axes.buffer(backoff, ("ngram",))  # float32: the probability that each context leaves to shorter ones
        self.token = axes.buffer(token, ("ngram",))  # int32, the last one of each n-gram
        self.first = axes.buffer(first, ("ngram",))  # int32 [counts + 1]

    def child(self, context, token):
        """The places of the n-grams that tokens make with the contexts at some places; all int32 [...]."""
        first, last = (jnp.take(self.first[...], context + i, mode="clip") for i in (0, 1))

        def halve(_, ends):
            low, high = ends
            middle = (low + high) // 2
            below = (low < high) & (jnp.take(self.token[...], middle, mode="clip") < token)
            return jnp.where(below, middle + 1, low), jnp.where(below, high, middle)

        shape = jnp.broadcast_shapes(context.shape, token.shape)
        ends = jnp.broadcast_to(first, shape), jnp.broadcast_to(last, shape)
        place = jax.lax.fori_loop(0, self.vocab.bit_length(), halve, ends)[0]
        there = (place < last) & (jnp.take(self.token[...], place, mode="clip") == token)
        return jnp.where(there, place, self.token.shape[0])

    def places(self, contexts, token):
        """The places of the n-grams of all orders that tokens make with contexts of 1 to order - 1 tokens."""
        return [token, *(self.child(context, token) for context in contexts)]

    def interpolate(self, contexts, places):
        """The probabilities of tokens, float32 [...]. `contexts` are the places of the 1 to order - 1 tokens before each,
        and `places` those of the n-grams that it makes with none to all of these."""
        found = jnp.take(self.discounted[...], places[0])
        for context, place in zip(contexts, places[1:], strict=True):
            seen = jnp.take(self.discounted[...], place, mode="fill", fill_value=0)
            found = seen + jnp.take(self.backoff[...], context, mode="fill", fill_value=1) * found
        return found


@functools.lru_cache(maxsize=256)
def _graphdef(family):
    return nnx.graphdef(nnx.eval_shape(lambda: NGramTable(family.vocab, *_empty(family))))


def _empty(family):
    """The arrays of a `NGramTable` of no n-grams but the single tokens."""
    single = jnp.arange(family.counts) < family.vocab
    return (jnp.where(single, jnp.float32(1 / family.vocab), 0), jnp.ones(family.counts),
            jnp.where(single, jnp.arange(family.counts, dtype=jnp.int32), 0),
            jnp.full(family.counts + 1, family.vocab, jnp.int32))
