"""What families of pairs of texts share: where a text ends, the likelihood of targets as metrics, and example batches.

A batch is {"source": integer [B, S], "target": integer [B, T + 1]}. A source is its tokens, then a 0, its end. A target is
a 0, its tokens, and a 0. More zeros are padding.
"""

import math

import jax
import jax.numpy as jnp

from scaling import nn
from scaling.families._sums import ratio_of


def written(tokens):
    """bool, of the shape of tokens [..., S]: true for the tokens of a text and its end, the first 0, and false after it."""
    # Not by a cumulative sum: XLA fuses that with how a batch is made, and last bits would then depend on the feed.
    places = jnp.broadcast_to(jnp.arange(tokens.shape[-1]), tokens.shape)
    first = jnp.where(tokens == 0, places, tokens.shape[-1]).min(-1, keepdims=True)
    return places <= first


def parts_of(batch):
    """(sources [B, S], tokens of targets that are known [B, T], the tokens that follow them [B, T]), all int32."""
    target = batch["target"].astype(jnp.int32)
    return batch["source"].astype(jnp.int32), target[:, :-1], target[:, 1:]


def pair_metrics(nats, likeliest, batch):
    """"loss" (nats per token of a target, its end included), "accuracy" (the share of these tokens that are the likeliest)
    and, given {"bytes": integer [B, T]}, "bits_per_byte" of the targets' texts.

    `nats`, float32 [B, T], are those of the targets, and `likeliest`, integer [B, T], the tokens of highest probability.
    """
    _, _, targets = parts_of(batch)
    real = written(targets)
    nats, count = jnp.where(real, nats, 0.0).sum(-1), real.sum(-1)
    found = {"loss": ratio_of(nats, count), "accuracy": ratio_of((real & (likeliest == targets)).sum(-1), count)}
    if "bytes" in batch:
        found["bits_per_byte"] = ratio_of(nats / math.log(2), batch["bytes"].sum(-1))
    return found


def smoothed_cross_entropy(logits, targets, smoothing: float):
    """`nn.cross_entropy` against the target's token with the weight 1 - smoothing and all tokens, this one included, with
    equal shares of `smoothing` (Szegedy et al. 2016, arXiv:1512.00567, section 7)."""
    logits = logits.astype(jnp.float32)
    uniform = jax.nn.logsumexp(logits, axis=-1) - logits.mean(-1)
    return (1 - smoothing) * nn.cross_entropy(logits, targets) + smoothing * uniform


def example_pairs(batch_size, source_length, length, vocab, key):
    """A batch of random pairs; every token, and every end, is of one byte. Lengths differ from row to row, and batches of
    one size have as many tokens."""
    sizes = (source_length, 5), (length, 3)
    source, target = (_random_texts(batch_size, *size, vocab, key) for size, key in zip(sizes, jax.random.split(key)))
    target = jnp.pad(target, ((0, 0), (1, 0)))
    return {"source": source, "target": target, "bytes": written(target[:, 1:]).astype(jnp.int32)}


def _random_texts(batch_size, length, step, vocab, key):
    """int32 [batch_size, length]: at least one token each, and at least one 0."""
    tokens = jax.random.randint(key, (batch_size, length), 1, vocab)
    ends = 1 + step * jnp.arange(batch_size) % (length - 1)
    return jnp.where(jnp.arange(length)[None] < ends[:, None], tokens, 0)
