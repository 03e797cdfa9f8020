"""Attention, by the implementation that is fast on the device.

q [B, S, H, d], k and v [B, S, K, d] -> [B, S, H, d], where H is a multiple of K: each key head serves H/K query heads
(grouped-query attention, Ainslie et al. 2023).

On GPUs in bfloat16 it is cuDNN's kernel, and on TPUs JAX's splash attention, where the shapes and the layout allow it. Both
keep no scores in memory. On CPU attention is written by hand: no JAX library has a CPU kernel, and XLA's version of
`jax.nn.dot_product_attention` is several times slower there.
"""

import jax
import jax.numpy as jnp
from jax import lax

from scaling import cost
from scaling.devices import sharding
from scaling.nn import remat, splash

IMPLEMENTATIONS = ("auto", "xla", "cudnn", "splash", "cpu")


@jax.named_scope(cost.CAUSAL_SCOPE)
def causal(q, k, v, implementation="auto"):
    """softmax(q k^T / sqrt(d)) v over the positions up to the query's own. "auto" chooses by platform and layout."""
    q, k, v = _constrain(q, k, v)
    if implementation == "auto":
        implementation = _fastest(q)
    if implementation == "cpu":
        return _cpu(q, k, v)
    if implementation == "splash":
        return splash.attend(q, k, v)
    return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=implementation)


def full(q, k, v, seen=None):
    """softmax(q k^T / sqrt(d)) v: every query sees every key at which `seen`, bool [B, T], is true, by default all of them.
    It may be differentiated twice."""
    heads, size = q.shape[2:]
    q, k, v = _constrain(q, k, v)
    k, v = (jnp.repeat(x, heads // x.shape[2], axis=2) for x in (k, v))
    scores = jnp.einsum("bshd,bthd->bhst", q * size**-0.5, k, preferred_element_type=jnp.float32)
    if seen is not None:
        scores = jnp.where(seen[:, None, None], scores, -1e30)
    return jnp.einsum("bhst,bthd->bshd", jax.nn.softmax(scores, axis=-1).astype(v.dtype), v)


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


def _fastest(q):
    platform = sharding.platform()
    if sharding.plain():
        return "xla"
    if platform == "cpu":  # with a divided length XLA would gather each block of queries of the "cpu" implementation
        return "xla" if sharding.divided() else "cpu"
    if platform == "tpu" and splash.serves(q):
        return "splash"
    if platform == "gpu" and q.dtype == jnp.bfloat16 and not sharding.cuts("length"):
        return "cudnn"  # it has no float32 kernel and needs every position on the device
    return "xla"


def _cpu(q, k, v):
    """Attention by plain matrix products: heads become a batch axis, and keys are repeated for grouped queries."""
    heads, size = q.shape[2:]
    k, v = (jnp.repeat(x, heads // x.shape[2], axis=2) for x in (k, v))
    return _heads_last(_products(*(_heads_first(x) for x in (q * size**-0.5, k, v))))


def _heads_first(x):
    return x.transpose(0, 2, 1, 3)


_heads_last = _heads_first


# Attention of one head on CPU, q, k, v [..., S, d]. Three things make it several times faster than XLA's version. Both
# factors of every product are in row-major order (XLA folds transposes into products, which then miss the fast kernel;
# `_transposed` prevents it). Scores are held as [key, query], so that maxima and sums run down columns, which vectorises.
# Blocks of queries skip the keys that come after all of them. The backward pass recomputes the weights.


@jax.custom_vjp
def _products(q, k, v):
    return _products_forward(q, k, v)[0]


def _products_forward(q, k, v):
    q_t, v_t = _transposed(q), _transposed(v)
    outs, logs = [], []
    for start, stop in _blocks(q.shape[-2]):
        scores = _scores(q_t, k, start, stop)
        top = scores.max(-2, keepdims=True)
        weights = jnp.exp(scores - top)
        total = weights.sum(-2, keepdims=True)
        outs.append((v_t[..., :stop] @ weights.astype(v.dtype)) / total)
        logs.append(top + jnp.log(total))
    out_t, logs = remat.kept((jnp.concatenate(outs, -1).astype(q.dtype), jnp.concatenate(logs, -1)))
    return jnp.swapaxes(out_t, -1, -2), (q, k, v, out_t, logs)


def _products_backward(saved, d_out):
    q, k, v, out_t, logs = saved
    q_t, k_t, d_out_t = _transposed(q), _transposed(k), _transposed(d_out)
    delta = (d_out_t.astype(jnp.float32) * out_t).sum(-2, keepdims=True)
    d_q, d_k, d_v = [], 0.0, 0.0
    for start, stop in _blocks(q.shape[-2]):
        here = slice(start, stop)
        weights = jnp.exp(_scores(q_t, k, start, stop) - logs[..., here])
        d_weights = (v[..., :stop, :] @ d_out_t[..., here]).astype(jnp.float32)
        d_scores = (weights * (d_weights - delta[..., here])).astype(q.dtype)
        d_q.append(k_t[..., :stop] @ d_scores)
        d_k += _padded(d_scores @ q[..., here, :], q.shape)
        d_v += _padded(weights.astype(q.dtype) @ d_out[..., here, :], q.shape)
    return jnp.swapaxes(jnp.concatenate(d_q, -1), -1, -2), d_k, d_v


_products.defvjp(_products_forward, _products_backward)


def _blocks(length):
    """(start, stop) of four or two blocks of at least 128 queries, else of one block. More blocks compile longer."""
    count = next((n for n in (4, 2) if length % n == 0 and length >= 128 * n), 1)
    return [(i * length // count, (i + 1) * length // count) for i in range(count)]


def _scores(q_t, k, start, stop):
    """float32 [..., stop keys, stop - start queries]; -1e30 at keys that come after the query."""
    scores = (k[..., :stop, :] @ q_t[..., start:stop]).astype(jnp.float32)
    visible = jnp.arange(stop)[:, None] <= jnp.arange(start, stop)[None, :]
    return jnp.where(jnp.expand_dims(visible, range(scores.ndim - 2)), scores, -1e30)


def _padded(x, shape):
    return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, shape[-2] - x.shape[-2]), (0, 0)])


def _transposed(x):
    return lax.optimization_barrier(jnp.swapaxes(x, -1, -2))
