"""Attention by whichever implementation is fast on the device.

q [B, S, H, d], k and v [B, S, K, d] -> [B, S, H, d], where H is a multiple of K: each key head serves H/K
query heads (grouped-query attention, Ainslie et al. 2023).
"""

import jax
import jax.numpy as jnp
from jax import lax

from scaling import cost
from scaling.devices import sharding

IMPLEMENTATIONS = ("auto", "xla", "cudnn", "cpu")


@jax.named_scope(cost.CAUSAL_SCOPE)
def causal(q, k, v, implementation="auto"):
    """softmax(q k^T / sqrt(d), over positions up to the query's) v. "auto" goes by the platform and the layout."""
    q, k, v = _lying(q, k, v)
    if implementation == "auto":
        implementation = _fastest(q)
    if implementation == "cpu":
        return _cpu(q, k, v)
    return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=implementation)


def full(q, k, v):
    """softmax(q k^T / sqrt(d)) v: every query sees every key. May be differentiated twice."""
    heads, size = q.shape[2:]
    q, k, v = _lying(q, k, v)
    k, v = (jnp.repeat(x, heads // x.shape[2], axis=2) for x in (k, v))
    scores = jnp.einsum("bshd,bthd->bhst", q * size**-0.5, k, preferred_element_type=jnp.float32)
    return jnp.einsum("bhst,bthd->bshd", jax.nn.softmax(scores, axis=-1).astype(v.dtype), v)


def masked(q, k, v, mask):
    """Attention of q [B, S, H, d] to a cache k, v [B, T, K, d] where mask, bool [B, S, T], is true."""
    return jax.nn.dot_product_attention(q, k, v, mask=mask[:, None], implementation="xla")


def _lying(q, k, v):
    """Each device has the queries of its own positions and heads, and the keys and values of every position."""
    def made(x, heads):
        return sharding.activation(x, "batch", "length", heads, "head_dim")

    def gathered(x):  # made where their positions are, and only then gathered
        return sharding.activation(made(x, "kv_heads"), "batch", "keys", "kv_heads", "head_dim")
    return made(q, "heads"), gathered(k), gathered(v)


def _fastest(q):
    platform = sharding.platform()
    if platform == "cpu":  # its blocks of queries would each be gathered where the length is divided
        return "xla" if sharding.divided() else "cpu"
    if platform == "gpu" and q.dtype == jnp.bfloat16 and not sharding.cuts("length"):
        return "cudnn"  # which has no float32 kernel, and wants every position at hand
    return "xla"


def _cpu(q, k, v):
    """By plain matrix products: heads become a batch axis, grouped queries become more heads."""
    heads, size = q.shape[2:]
    k, v = (jnp.repeat(x, heads // x.shape[2], axis=2) for x in (k, v))
    return _heads_last(_products(*(_heads_first(x) for x in (q * size**-0.5, k, v))))


def _heads_first(x):
    return x.transpose(0, 2, 1, 3)


_heads_last = _heads_first


# Attention of one head on CPU, q, k, v [..., S, d]. Three things make it several times faster than the
# library's: every product has both factors in row-major order (XLA folds transposes into products, which
# then miss the fast kernel; `_transposed` prevents it); scores are held as [key, query], so that maxima and
# sums run down columns, which vectorises; and blocks of queries skip the keys that come after them all. The
# backward pass recomputes the weights.


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
    out_t = jnp.concatenate(outs, -1).astype(q.dtype)
    return jnp.swapaxes(out_t, -1, -2), (q, k, v, out_t, jnp.concatenate(logs, -1))


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
    """Consecutive (start, stop) of queries: four or two of at least 128. More of them compile longer."""
    count = next((n for n in (4, 2) if length % n == 0 and length >= 128 * n), 1)
    return [(i * length // count, (i + 1) * length // count) for i in range(count)]


def _scores(q_t, k, start, stop):
    """float32 [..., stop keys, stop - start queries], very negative where the key comes after the query."""
    scores = (k[..., :stop, :] @ q_t[..., start:stop]).astype(jnp.float32)
    visible = jnp.arange(stop)[:, None] <= jnp.arange(start, stop)[None, :]
    return jnp.where(jnp.expand_dims(visible, range(scores.ndim - 2)), scores, -1e30)


def _padded(x, shape):
    return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, shape[-2] - x.shape[-2]), (0, 0)])


def _transposed(x):
    return lax.optimization_barrier(jnp.swapaxes(x, -1, -2))
