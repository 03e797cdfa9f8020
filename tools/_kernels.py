"""Measurements of tools.bench_accelerator that need no train loop: kernels of attention, and the cross-entropy.

As in tools._accelerator, each function passes its results to `note(text, **values)`, and `left()` is the number of seconds
that it still has.
"""

import functools

import jax
import jax.numpy as jnp

from scaling.nn import attention, cross_entropy, readout
from tools._accelerator import Sizes, again, seconds


def attentions(sizes: Sizes, note, left):
    """ms of causal attention in bfloat16, forward and with its gradients, for every implementation of this platform.

    TFLOP/s are those of the causal half of the square, forward twice and backward four times, whatever a kernel executes.
    """
    platform = jax.default_backend()
    ways = {"gpu": ["xla", "cudnn"], "tpu": ["xla", "splash"]}.get(platform, ["xla", "cpu"])
    batch, length, heads, size = sizes.attention
    q, k, v = (jax.random.normal(jax.random.key(i), (batch, length, heads, size), jnp.bfloat16) for i in range(3))
    product = 2 * batch * heads * size * length**2 / 2
    for way in ways:
        def loss(q, k, v, way=way):
            return attention.causal(q, k, v, way).astype(jnp.float32).sum()
        ahead, both = jax.jit(functools.partial(attention.causal, implementation=way)), jax.jit(jax.grad(loss, (0, 1, 2)))
        took = [seconds(again(call, q, k, v), sizes.seconds / 2) for call in (ahead, both)]
        held = both.lower(q, k, v).compile().memory_analysis().temp_size_in_bytes
        note(f"attention {way}, {batch} sequences of {length}, {heads} heads of {size}: {1e3 * took[0]:.3g} ms forward, "
             f"{1e3 * took[1]:.3g} ms with gradients ({6 * product / took[1] / 1e12:.3g} TFLOP/s), "
             f"{held / 2**20:,.0f} MiB of temporaries", attention=way, ms=[1e3 * t for t in took], temporaries=held)
        if left() < 5 * sizes.seconds:
            break


def losses(sizes: Sizes, note, left):
    """ms and memory of the cross-entropy of a readout with its gradients: whole logits, and blocks of the vocabulary."""
    tokens, width, vocab = sizes.loss
    x = jax.random.normal(jax.random.key(0), (1, tokens, width), jnp.bfloat16)
    weight = jax.random.normal(jax.random.key(1), (width, vocab)) * width**-0.5
    targets = jax.random.randint(jax.random.key(2), (1, tokens), 0, vocab)

    def whole(x, weight):
        logits = jnp.tensordot(x, weight.astype(x.dtype), 1, preferred_element_type=jnp.float32)
        return cross_entropy(logits, targets).mean()

    def blocks(x, weight):
        return readout.block_cross_entropy(x, weight, targets).mean()

    for name, loss in {"blocks": blocks, "whole": whole}.items():  # the one that may not fit comes last
        call = jax.jit(jax.grad(loss, (0, 1)))
        held = call.lower(x, weight).compile().memory_analysis().temp_size_in_bytes
        took = seconds(again(call, x, weight), sizes.seconds / 2)
        note(f"cross-entropy of {tokens:,} tokens over {vocab:,} words, width {width}, {name}: {1e3 * took:.3g} ms with "
             f"gradients, {held / 2**20:,.0f} MiB of temporaries", loss=name, ms=1e3 * took, temporaries=held)
        if left() < 5 * sizes.seconds:
            break
