"""Attention, by the implementation that is fast on the device.

q [B, S, H, d], k and v [B, S, K, d] -> [B, S, H, d], where H is a multiple of K: each key head serves H/K query heads
(grouped-query attention, Ainslie et al. 2023).

On GPUs in bfloat16 it is cuDNN's kernel, and on TPUs JAX's splash attention, where the shapes and the layout allow it. Both
keep no scores in memory. On CPU attention is written by hand: no JAX library has a CPU kernel, and XLA's version of
`jax.nn.dot_product_attention` is several times slower there.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from scaling import cost
from scaling.devices import sharding
from scaling.nn import remat, splash
from scaling.nn.taps import tap, tapping

IMPLEMENTATIONS = ("auto", "xla", "cudnn", "splash", "cpu")


def causal(q, k, v, implementation="auto", window=0, first=None):
    """softmax(q k^T / sqrt(d)) v over the positions up to the query's own. "auto" chooses by platform and layout.

    A query sees the last `window` positions, its own included (0: all), and none before `first`, int32 [B, S].
    """
    length = q.shape[1]
    window = 0 if window >= length else window
    with jax.named_scope(cost.causal_scope(window, length)):
        q, k, v = _constrain(q, k, v)
        if tapping():
            return _whole(q, k, v, _seen(length, window, first)[:, None])
        if implementation == "auto":
            implementation = _fastest(q, window, first)
        if implementation == "cpu":
            return _cpu(q, k, v, window, first)
        if implementation == "splash":
            return splash.attend(q, k, v)
        narrow = {"local_window_size": (window - 1, 0)} if window else {}
        if first is not None:
            narrow["mask"] = (jnp.arange(length)[None, None] >= first[:, :, None])[:, None]
        return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=implementation, **narrow)


def narrows(implementation: str, window: int, documents: bool) -> bool:
    """Whether an implementation can narrow what a query sees to a window, and to its document."""
    return not (implementation == "splash" and (window or documents) or implementation == "cudnn" and documents)


def full(q, k, v, seen=None):
    """softmax(q k^T / sqrt(d)) v: every query sees every key at which `seen`, bool [B, T], is true, by default all of them.
    It may be differentiated twice."""
    q, k, v = _constrain(q, k, v)
    return _whole(q, k, v, None if seen is None else seen[:, None, None])


def _whole(q, k, v, seen=None):
    """Attention by the whole matrix of weights, the place "attention" of `taps`; `seen` is bool [B or 1, 1, S or 1, T]."""
    heads, size = q.shape[2:]
    k, v = (jnp.repeat(x, heads // x.shape[2], axis=2) for x in (k, v))
    scores = jnp.einsum("bshd,bthd->bhst", q * size**-0.5, k, preferred_element_type=jnp.float32)
    if seen is not None:
        scores = jnp.where(seen, scores, -1e30)
    weights = tap("attention", jax.nn.softmax(scores, axis=-1))
    return jnp.einsum("bhst,bthd->bshd", weights.astype(v.dtype), v)


def _seen(length, window, first):
    """Which keys each query sees, bool [B or 1, S, T], as `causal` says."""
    queries, keys = jnp.arange(length)[:, None], jnp.arange(length)[None]
    seen = (keys <= queries)[None]
    if window:
        seen &= (keys > queries - window)[None]
    return seen if first is None else seen & (keys[None] >= first[:, :, None])


def masked(q, k, v, mask):
    """Attention of q [B, S, H, d] to the positions of a cache k, v [B, T, K, d] at which mask, bool [B, S, T], is true."""
    return jax.nn.dot_product_attention(q, k, v, mask=mask[:, None], implementation="xla")


def _constrain(q, k, v):
    """Each device gets the queries of its own positions and heads, and the keys and values of every position."""
    def by_position(x, heads):
        return sharding.activation(x, "batch", "length", heads, "head_dim")

    def gathered(x):  # computed by the devices that hold the positions, and gathered after that
        return sharding.activation(by_position(x, "kv_heads"), "batch", "keys", "kv_heads", "head_dim")
    return by_position(q, "heads"), gathered(k), gathered(v)


def _fastest(q, window=0, first=None):
    platform = sharding.platform()
    if sharding.plain():
        return "xla"
    if platform == "cpu":  # with a divided length XLA would gather each block of queries of the "cpu" implementation
        return "xla" if sharding.divided() else "cpu"
    kernel = "xla"
    if platform == "tpu" and splash.serves(q):
        kernel = "splash"
    elif platform == "gpu" and q.dtype == jnp.bfloat16 and not sharding.cuts("length"):
        kernel = "cudnn"  # it has no float32 kernel and needs every position on the device
    return kernel if narrows(kernel, window, first is not None) else "xla"


def _cpu(q, k, v, window, first):
    """Attention by plain matrix products: heads become a batch axis, and keys are repeated for grouped queries."""
    heads, size = q.shape[2:]
    k, v = (jnp.repeat(x, heads // x.shape[2], axis=2) for x in (k, v))
    first = None if first is None else first[:, None, None]
    return _heads_last(_products(*(_heads_first(x) for x in (q * size**-0.5, k, v)), first, window))


def _heads_first(x):
    return x.transpose(0, 2, 1, 3)


_heads_last = _heads_first


# Attention of one head on CPU, q, k, v [..., S, d], `first` [..., 1, S] or None. Three things make it several times faster
# than XLA's version. Both factors of every product are in row-major order (XLA folds transposes into products, which then
# miss the fast kernel; `_transposed` prevents it). Scores are held as [key, query], so that maxima and sums run down
# columns, which vectorises. Blocks of queries skip the keys that none of them sees by its place. The backward pass
# recomputes the weights.


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _products(q, k, v, first, window):
    return _products_forward(q, k, v, first, window)[0]


def _products_forward(q, k, v, first, window):
    q_t, v_t = _transposed(q), _transposed(v)
    outs, logs = [], []
    for block in _blocks(q.shape[-2], window):
        scores = _scores(q_t, k, first, window, block)
        top = scores.max(-2, keepdims=True)
        weights = jnp.exp(scores - top)
        total = weights.sum(-2, keepdims=True)
        outs.append((v_t[..., block.keys] @ weights.astype(v.dtype)) / total)
        logs.append(top + jnp.log(total))
    out_t, logs = remat.kept((jnp.concatenate(outs, -1).astype(q.dtype), jnp.concatenate(logs, -1)))
    return jnp.swapaxes(out_t, -1, -2), (q, k, v, first, out_t, logs)


def _products_backward(window, saved, d_out):
    q, k, v, first, out_t, logs = saved
    q_t, k_t, d_out_t = _transposed(q), _transposed(k), _transposed(d_out)
    delta = (d_out_t.astype(jnp.float32) * out_t).sum(-2, keepdims=True)
    d_q, d_k, d_v = [], 0.0, 0.0
    for block in _blocks(q.shape[-2], window):
        seen, here = block.keys, block.queries
        weights = jnp.exp(_scores(q_t, k, first, window, block) - logs[..., here])
        d_weights = (v[..., seen, :] @ d_out_t[..., here]).astype(jnp.float32)
        d_scores = (weights * (d_weights - delta[..., here])).astype(q.dtype)
        d_q.append(k_t[..., seen] @ d_scores)
        d_k += _padded(d_scores @ q[..., here, :], seen, q.shape)
        d_v += _padded(weights.astype(q.dtype) @ d_out[..., here, :], seen, q.shape)
    return jnp.swapaxes(jnp.concatenate(d_q, -1), -1, -2), d_k, d_v, None


_products.defvjp(_products_forward, _products_backward)


class Block(NamedTuple):
    """Neighbouring queries, and the keys that they may see."""

    queries: slice
    keys: slice


def _blocks(length, window):
    """Four or two blocks of at least 128 queries, else one block. More blocks compile longer."""
    count = next((n for n in (4, 2) if length % n == 0 and length >= 128 * n), 1)
    places = [(i * length // count, (i + 1) * length // count) for i in range(count)]
    return [Block(slice(start, stop), slice(max(0, start - window + 1) if window else 0, stop)) for start, stop in places]


def _scores(q_t, k, first, window, block):
    """float32 [..., keys, queries] of a block; -1e30 at keys that the query does not see."""
    scores = (k[..., block.keys, :] @ q_t[..., block.queries]).astype(jnp.float32)
    keys, queries = (jnp.arange(part.start, part.stop) for part in (block.keys, block.queries))
    visible = keys[:, None] <= queries[None, :]
    if window:
        visible &= keys[:, None] > queries[None, :] - window
    visible = jnp.expand_dims(visible, range(scores.ndim - 2))
    if first is not None:
        visible = visible & (jnp.expand_dims(keys[:, None], range(scores.ndim - 2)) >= first[..., block.queries])
    return jnp.where(visible, scores, -1e30)


def _padded(x, rows, shape):
    """x [..., rows, d] among zeros, [..., S, d]."""
    return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(rows.start, shape[-2] - rows.stop), (0, 0)])


def _transposed(x):
    return lax.optimization_barrier(jnp.swapaxes(x, -1, -2))
