"""Causal attention, by whichever implementation is fast on the device: q [B, S, H, d], k and v [B, S, K, d] -> [B, S, H, d].

H is a multiple of K: each key head serves H/K query heads (grouped-query attention, Ainslie et al. 2023).
"""

import jax
import jax.numpy as jnp
from jax import lax

IMPLEMENTATIONS = ("auto", "xla", "cudnn", "cpu")


def causal(q, k, v, implementation="auto"):
    """softmax(q k^T / sqrt(d), over earlier and equal positions) v. "auto" picks by `jax.default_backend()`."""
    if implementation == "auto":
        implementation = _fastest(q)
    if implementation == "cpu":
        return _cpu(q, k, v)
    return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=implementation)


def masked(q, k, v, mask):
    """Attention of q [B, S, H, d] to a cache k, v [B, T, K, d] where mask, bool [B, S, T], is true."""
    return jax.nn.dot_product_attention(q, k, v, mask=mask[:, None], implementation="xla")


def _fastest(q):
    backend = jax.default_backend()
    if backend == "cpu":
        return "cpu"
    return "cudnn" if backend == "gpu" and q.dtype == jnp.bfloat16 else "xla"  # cuDNN has no float32 kernel


def _cpu(q, k, v):
    """By plain matrix products: heads become a batch axis, grouped queries become longer sequences of queries."""
    batch, length, heads, size = q.shape
    groups = heads // k.shape[2]
    q = (q * size**-0.5).reshape(batch, length, k.shape[2], groups, size).transpose(0, 2, 3, 1, 4)
    k, v = (jnp.broadcast_to(x.transpose(0, 2, 1, 3)[:, :, None], q.shape) for x in (k, v))
    return _products(q, k, v).transpose(0, 3, 1, 2, 4).reshape(batch, length, heads, size)


@jax.custom_vjp
def _products(q, k, v):
    return _products_forward(q, k, v)[0]


def _products_forward(q, k, v):
    scores = _scores(q, k)
    top = scores.max(-1, keepdims=True)
    weights = jnp.exp(scores - top)
    total = weights.sum(-1, keepdims=True)
    out = ((weights.astype(v.dtype) @ v) / total).astype(v.dtype)
    return out, (q, k, v, out, top + jnp.log(total))


def _products_backward(saved, d_out):
    q, k, v, out, log_total = saved
    weights = jnp.exp(_scores(q, k) - log_total)
    delta = (d_out.astype(jnp.float32) * out).sum(-1, keepdims=True)
    d_scores = weights * ((d_out @ _transposed(v)).astype(jnp.float32) - delta)
    d_scores, weights = d_scores.astype(q.dtype), weights.astype(q.dtype)
    return (d_scores @ k, jnp.swapaxes(_transposed(q) @ d_scores, -1, -2),
            jnp.swapaxes(_transposed(d_out) @ weights, -1, -2))


_products.defvjp(_products_forward, _products_backward)


def _scores(q, k):
    length = q.shape[-2]
    mask = jnp.expand_dims(jnp.tril(jnp.ones((length, length), bool)), range(q.ndim - 2))
    return jnp.where(mask, (q @ _transposed(k)).astype(jnp.float32), -1e30)


def _transposed(x):
    # Without the barrier XLA folds the transpose into the product, which then misses the fast path on CPU.
    return lax.optimization_barrier(jnp.swapaxes(x, -1, -2))
