"""Causal attention by JAX's splash attention kernel for TPUs, which keeps no scores in memory and skips the blocks of the
square above its diagonal (`jax.experimental.pallas.ops.tpu.splash_attention`).

The compiler cannot divide a kernel among devices, so each device calls it for its own sequences and heads. On other
platforms the kernel is interpreted: slowly, to compare its numbers.
"""

import functools

import jax
import jax.numpy as jnp

from scaling.devices import sharding
from scaling.nn import remat

LANES = 128  # lengths and heads are multiples of the width of the vector units
BLOCK = 512  # queries and keys that the kernel holds at once


def serves(q) -> bool:
    """Whether the kernel is made for queries of this shape [B, S, H, d] under the layout in force: it needs whole
    sequences, and heads without padding."""
    return q.shape[1] % LANES == 0 and q.shape[3] % LANES == 0 and not sharding.cuts("length")


def block(length: int) -> int:
    """The number of queries and of keys in a block of the kernel."""
    return next(size for size in range(min(BLOCK, length), 0, -LANES) if length % size == 0)


def attend(q, k, v):
    """softmax(q k^T / sqrt(d)) v over the positions up to the query's own; shapes are those of `scaling.nn.attention`."""
    if q.shape[1] % LANES:
        raise ValueError(f"splash attention takes lengths that are multiples of {LANES}, not {q.shape[1]}; write "
                         "family.attention=xla")
    heads = q.shape[2]
    if k.shape[2] % sharding.shards("heads"):  # every device needs the keys of its own queries
        k, v = (jnp.repeat(x, heads // x.shape[2], axis=2) for x in (k, v))
    named = ("batch", None, "heads", None)
    interpret = sharding.platform() != "tpu"
    return sharding.on_each_device(functools.partial(_kernel, interpret), (q, k, v), (named,) * 3, named)


def _kernel(interpret, q, k, v):
    """q [B, S, H, d], k and v [B, S, K, d] of one device."""
    from jax.experimental.pallas.ops.tpu import splash_attention  # imported in half a second, and only where it is used

    _, length, heads, size = q.shape
    with jax.ensure_compile_time_eval():  # the blocks of the mask are constants
        mask = splash_attention.MultiHeadMask([splash_attention.CausalMask((length, length))] * heads)
        n = block(length)
        sizes = splash_attention.BlockSizes(block_q=n, block_kv=n, block_q_dkv=n, block_kv_dkv=n, use_fused_bwd_kernel=True)
        kernel = splash_attention.make_splash_mha_single_device(mask, block_sizes=sizes, interpret=interpret,
                                                                residual_checkpoint_name=remat.ATTENTION)
    heads_first = (x.swapaxes(1, 2) for x in (q * size**-0.5, k, v))
    return jax.vmap(kernel)(*heads_first).swapaxes(1, 2)
