"""What families of text share: the windows of a batch, their likelihood as a loss and as metrics, and example batches."""

import math

import jax
import jax.numpy as jnp

from scaling import nn
from scaling.families._sums import excess_of, mean_of, ratio_of


def shifted(batch):
    """Tokens and the tokens that follow them, int32 [B, S], of {"tokens": integer [B, S+1]}."""
    tokens = batch["tokens"].astype(jnp.int32)
    return tokens[:, :-1], tokens[:, 1:]


def mean_loss(nats):
    """(mean nats per token, metrics) of the nats of each target, float32 [B, S]."""
    loss = nats.mean()
    return loss, {"loss": loss}


def with_penalties(loss, metrics, penalties):
    """(what is differentiated, metrics) of a loss with `penalties`, {metric: (coefficient, float32 [])}. The metric "loss"
    stays the loss alone; those without a coefficient are only shown."""
    for name, (coefficient, value) in penalties.items():
        loss, metrics = loss + coefficient * value if coefficient else loss, metrics | {name: value}
    return loss, metrics


def likelihood_metrics(nats, likeliest, batch):
    """For each sequence, "loss" (nats per token), "accuracy" and, given {"bytes": integer [B, S]}, "bits_per_byte" and,
    given {"nats": float [B, S]} as well, "excess" in bits per byte. Sound has "samples" in place of bytes, and has
    "bits_per_sample".

    `nats`, float32 [B, S], are those of the targets, and `likeliest`, integer [B, S], the tokens of highest probability, or
    None, which leaves "accuracy" out.
    "bytes" holds the number of bytes of the original text that each target token stands for, "nats" what the true
    distribution of the data gives it.
    """
    found = {"loss": mean_of(nats.mean(-1))}
    if likeliest is not None:
        found["accuracy"] = mean_of((likeliest == batch["tokens"][:, 1:]).mean(-1))
    for counted, name in (("bytes", "bits_per_byte"), ("samples", "bits_per_sample")):
        if counted in batch:
            size = batch[counted].sum(-1)
            found |= {name: ratio_of(nats.sum(-1) / math.log(2), size), **excess_of(nats.sum(-1), batch, size)}
    return found


def token_nats(family, params, tokens):
    """-log p of each token after the first one, given those before it, by a family that predicts text from left to right:
    integer [B, S+1] -> float32 [B, S]."""
    if hasattr(family, "nats"):
        return family.nats(params, tokens)
    tokens, targets = shifted({"tokens": tokens})
    return nn.cross_entropy(family.logits(params, tokens), targets)


def example_windows(batch_size, length, vocab, key):
    """A batch of random windows of `length` tokens below `vocab` and the token that follows, each of one byte."""
    tokens = jax.random.randint(key, (batch_size, length + 1), 0, vocab)
    return {"tokens": tokens, "bytes": jnp.ones((batch_size, length), jnp.int32)}
