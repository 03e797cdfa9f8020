"""Causal attention by JAX's splash attention kernel for TPUs, which keeps no scores in memory and skips the blocks of the
square above its diagonal (`jax.experimental.pallas.ops.tpu.splash_attention`).

The compiler cannot divide a kernel among devices, so each device calls it for its own sequences and heads. Where the layout
divides positions, it calls it for its own queries and all keys, with the part of the mask's blocks that belongs to them. On
other platforms the kernel is interpreted: slowly, to compare its numbers.
"""

import jax
import jax.numpy as jnp

from scaling.devices import sharding
from scaling.nn import remat

LANES = 128  # lengths and heads are multiples of the width of the vector units
BLOCK = 512  # queries and keys that the kernel holds at once
ROWS = (None, "length", None)  # of an array with an entry for each block of queries and of keys
NAMES = {"data_next": ROWS, "mask_next": ROWS, "block_mask": ROWS, "partial_mask_blocks": (None, None, None),
         "q_sequence": ("length",)}  # the dimensions of the arrays that describe a mask


def serves(q) -> bool:
    """Whether the kernel is made for queries of this shape [B, S, H, d] under the layout in force: it needs whole
    blocks of positions on every device, and heads without padding."""
    return q.shape[1] % (LANES * sharding.shards("length")) == 0 and q.shape[3] % LANES == 0


def block(length: int) -> int:
    """The number of queries and of keys in a block of the kernel."""
    return next(size for size in range(min(BLOCK, length), 0, -LANES) if length % size == 0)


def attend(q, k, v):
    """softmax(q k^T / sqrt(d)) v over the positions up to the query's own; shapes are those of `scaling.nn.attention`."""
    parts = sharding.shards("length")
    if q.shape[1] % (LANES * parts):
        among = f" on each of {parts} devices" if parts > 1 else ""
        raise ValueError(f"splash attention takes lengths that are multiples of {LANES}{among}, not {q.shape[1]}; write "
                         "family.attention=xla")
    heads = q.shape[2]
    if k.shape[2] % sharding.shards("heads"):  # every device needs the keys of its own queries
        k, v = (jnp.repeat(x, heads // x.shape[2], axis=2) for x in (k, v))
    queries, keys = ("batch", "length", "heads", None), ("batch", None, "heads", None)
    interpret = sharding.platform() != "tpu"
    divided = _kernel(q.shape[1], parts, interpret) if parts > 1 else None
    masks, structure = jax.tree.flatten(divided)
    infos = [divided.fwd_mask_info, divided.dkv_mask_info] if divided else []
    names = [NAMES[field] for info in infos for field, x in zip(info._fields, info) if x is not None]

    def own(q, k, v, *masks):
        """q [B, S, H, d], k and v [B, T, K, d] of one device; S is T where it holds all positions."""
        whole = q.shape[1] == k.shape[1]
        kernel = _kernel(q.shape[1], 1, interpret) if whole else jax.tree.unflatten(structure, masks)
        heads_first = (x.swapaxes(1, 2) for x in (q * q.shape[3]**-0.5, k, v))
        return jax.vmap(kernel)(*heads_first).swapaxes(1, 2)

    return sharding.on_each_device(own, (q, k, v, *masks), (queries, keys, keys, *names), queries)


def _kernel(length: int, parts: int, interpret: bool):
    """The kernel for sequences of this length whose queries are divided into parts; its arrays describe the mask."""
    from jax.experimental.pallas.ops.tpu import splash_attention  # imported in half a second, and only where it is used

    with jax.ensure_compile_time_eval():  # the blocks of the mask are constants
        mask = splash_attention.MultiHeadMask([splash_attention.CausalMask((length, length))])  # of all heads
        n = block(length // parts)
        sizes = splash_attention.BlockSizes(block_q=n, block_kv=n, block_q_dkv=n, block_kv_dkv=n, use_fused_bwd_kernel=True)
        return splash_attention.make_splash_mha(mask, block_sizes=sizes, head_shards=1, q_seq_shards=parts,
                                                interpret=interpret, residual_checkpoint_name=remat.ATTENTION)
