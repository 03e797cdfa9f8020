"""The cross-entropy of a readout over a large vocabulary, whose logits are never whole in memory.

At 2,048 tokens and a vocabulary of 128 thousand, the float32 logits of one sequence are 1 GiB, and the plain loss with its
gradients holds three arrays of that size on CPU: 2.9 GiB, where blocks hold 0.14. Here the vocabulary passes in blocks: the
forward pass keeps the logarithm of the sum of exponentials of each token, and the backward pass computes the logits of each
block again. The readout then executes four products where the plain loss executes three. The idea is that of Wijmans et al.
2024 (arXiv:2411.09009, section 4).

Where a layout divides the vocabulary, each device passes through its own part in blocks. Sums over devices are taken once,
after the last block.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from scaling.devices import sharding
from scaling.nn.layers import capped

WAYS = ("auto", "whole", "blocks")
LARGE = 2**27  # logits of one sequence from which "auto" takes blocks
BLOCK, HELD = 1024, 2**23  # the fewest words of a block, and the number of logits that larger blocks hold at most


def in_blocks(way: str, length: int, vocab: int) -> bool:
    """Whether the loss of sequences of this length passes through the vocabulary in blocks. "auto" depends on the size of
    one sequence, not on the batch, so that the FLOPs of a run do not depend on its microbatches. What is only counted is
    whole (see `scaling.cost`)."""
    return way == "blocks" or way == "auto" and length * vocab >= LARGE and not sharding.plain()


class LogitForm(NamedTuple):
    """How logits follow from the products of outputs with words, and how many words a block has."""

    scale: float
    cap: float
    block: int


def block_cross_entropy(x, weight, targets, scale=1.0, block=None, cap=0.0):
    """Nats of each target: x [B, S, width], weight [width, vocab], targets integer [B, S] -> float32 [B, S].

    It equals `nn.cross_entropy` of the float32 logits `nn.capped(scale * (x @ weight), cap)`, in value and gradients. The
    products have the type of x. A block has `block` words of every device's part of the vocabulary.
    """
    return block_nats_and_log_sums(x, weight, targets, scale, block, cap)[0]


def block_nats_and_log_sums(x, weight, targets, scale=1.0, block=None, cap=0.0):
    """(`block_cross_entropy`, the logarithms of the sums of the exponentials of the logits, float32 [B, S])."""
    return _nats(x, weight, targets, LogitForm(scale, cap, _block(x, weight, block)))


def block_scores(x, weight, targets, scale=1.0, block=None, cap=0.0):
    """(`block_cross_entropy`, the words with the largest logits, int32 [B, S]) in one pass, for evaluation."""
    top, total, picked, best = _pass(x, weight, targets, LogitForm(scale, cap, _block(x, weight, block)))
    highest = top.max(-1, keepdims=True)
    first = jnp.where(top == highest, best, weight.shape[-1]).min(-1)
    return _log_sum(top, total) - picked.sum(-1), first


def _block(x, weight, block):
    parts = _parts(weight)
    tokens = x.shape[0] * x.shape[1] // sharding.shards("batch") // sharding.shards("length")
    return min(block or max(BLOCK, HELD // max(1, tokens) // BLOCK * BLOCK), weight.shape[-1] // parts)


def _parts(weight) -> int:
    """The number of parts of the vocabulary that lie on different devices."""
    parts = sharding.shards("vocab")
    return parts if weight.shape[-1] % parts == 0 else 1


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _nats(x, weight, targets, form):
    return _forward(x, weight, targets, form)[0]


def _forward(x, weight, targets, form):
    top, total, picked, _ = _pass(x, weight, targets, form)
    log_sum = _log_sum(top, total)
    return (log_sum - picked.sum(-1), log_sum), (x, weight, targets, log_sum)


def _backward(form, saved, d_outputs):
    x, weight, targets, log_sum = saved
    d_nats, d_log_sum = ((form.scale * d)[..., None, None] for d in d_outputs)
    divided = _divided(weight)

    def step(carry, start, size):
        d_x, d_weight = carry
        logits, words, columns = _logits(x, divided, form, start, size)
        probability = jnp.exp(logits - log_sum[..., None, None])
        d_logits = (probability - (words == targets[..., None, None])) * d_nats + probability * d_log_sum
        if form.cap:
            d_logits *= 1 - jnp.square(logits / form.cap)
        d_logits = _placed(d_logits.astype(x.dtype))
        found = jnp.einsum("bsw,bspc->wpc", x, d_logits, preferred_element_type=jnp.float32)
        d_weight = lax.dynamic_update_slice_in_dim(d_weight, found.astype(weight.dtype), start, 2)
        d_x += jnp.einsum("bspc,wpc->bspw", d_logits, columns, preferred_element_type=jnp.float32)
        return _placed(d_x), d_weight

    d_x = _placed(jnp.zeros((*x.shape[:2], divided.shape[1], x.shape[2]), jnp.float32))
    d_x, d_weight = _over_blocks(step, (d_x, jnp.zeros_like(divided)), divided.shape[2], form.block)
    return d_x.sum(2).astype(x.dtype), d_weight.reshape(weight.shape), None


_nats.defvjp(_forward, _backward)


def _pass(x, weight, targets, form):
    """For every token and part of the vocabulary, [B, S, parts]: the largest logit, the sum of exponentials of the logits
    less it, the logit of the target (0 if it is in another part), and the word with the largest logit."""
    divided = _divided(weight)

    def step(carry, start, size):
        top, total, picked, best = carry
        logits, words, _ = _logits(x, divided, form, start, size)
        here = logits.max(-1)
        first = jnp.where(logits == here[..., None], words, weight.shape[-1]).min(-1)
        new = jnp.maximum(top, here)
        total = total * jnp.exp(top - new) + jnp.exp(logits - new[..., None]).sum(-1)
        picked += jnp.where(words == targets[..., None, None], logits, 0.0).sum(-1)
        return new, total, picked, jnp.where(here > top, first, best)

    shape = (*x.shape[:2], divided.shape[1])
    carry = (jnp.full(shape, -jnp.inf), jnp.zeros(shape), jnp.zeros(shape), jnp.zeros(shape, jnp.int32))
    return _over_blocks(step, jax.tree.map(_placed, carry), divided.shape[2], form.block)


def _log_sum(top, total):
    """The logarithm of the sum of exponentials over all parts."""
    highest = top.max(-1)
    return highest + jnp.log((total * jnp.exp(top - highest[..., None])).sum(-1))


def _divided(weight):
    """[width, vocab] -> [width, parts, words of a part]."""
    return weight.reshape(weight.shape[0], _parts(weight), -1)


def _logits(x, divided, form, start, size):
    """(float32 logits [B, S, parts, size], numbers of their words [1, 1, parts, size], columns of the weight)."""
    columns = lax.dynamic_slice_in_dim(divided, start, size, 2).astype(x.dtype)
    columns = sharding.activation(columns, "whole", "vocab", "block")
    logits = _placed(jnp.einsum("bsw,wpc->bspc", x, columns, preferred_element_type=jnp.float32))
    parts, words = divided.shape[1:]
    numbers = (jnp.arange(parts) * words)[:, None] + (start + jnp.arange(size))[None]
    return capped(logits * form.scale if form.scale != 1.0 else logits, form.cap), numbers[None, None], columns


def _placed(x):
    """x [B, S, parts, ...], each part where its words are."""
    return sharding.activation(x, "batch", "length", "vocab", *["block"] * (x.ndim - 3))


def _over_blocks(step, carry, words, block):
    """`step(carry, start, size)` for all blocks of a part of the vocabulary. The last one may be smaller."""
    count, rest = divmod(words, block)
    if count > 1:
        carry = lax.scan(lambda carry, i: (step(carry, i * block, block), None), carry, jnp.arange(count))[0]
    elif count:
        carry = step(carry, 0, block)
    return step(carry, count * block, rest) if rest else carry
