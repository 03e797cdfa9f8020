"""Attention: every implementation is the same function; rotary scores depend on differences of positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from scaling import nn
from scaling.nn import attention

causal = jax.jit(attention.causal, static_argnums=3)


def inputs(length, heads, kv_heads, dtype=jnp.float32, batch=2, size=8):
    rng = np.random.default_rng(length)
    shapes = [(batch, length, n, size) for n in (heads, kv_heads, kv_heads, heads)]
    return [jnp.asarray(rng.normal(scale=2, size=shape), dtype) for shape in shapes]


@pytest.mark.parametrize("length", [7, 256, 512])  # one, two and four blocks of queries
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_cpu_equals_library_in_value_and_gradient(length, kv_heads):
    *qkv, weight = inputs(length, 4, kv_heads)

    def value_and_grad(implementation):
        def f(q, k, v):
            out = attention.causal(q, k, v, implementation)
            return (out * weight).sum(), out
        return jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2), has_aux=True))(*qkv)

    ((_, ours), our_grads), ((_, theirs), their_grads) = value_and_grad("cpu"), value_and_grad("xla")
    assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)
    for a, b in zip(our_grads, their_grads, strict=True):
        assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_cpu_attention_is_batched_like_any_function():
    *qkv, _ = inputs(64, 2, 2, batch=6)
    runs = [x.reshape(3, 2, *x.shape[1:]) for x in qkv]
    grad = jax.grad(lambda *qkv: jnp.square(attention.causal(*qkv, "cpu")).sum(), argnums=(0, 1, 2))
    for packed, whole in zip(jax.jit(jax.vmap(grad))(*runs), jax.jit(grad)(*qkv), strict=True):
        assert_allclose(packed.reshape(whole.shape), whole, rtol=1e-5, atol=1e-5)


def test_cpu_attention_survives_scores_that_overflow_an_exponential():
    q, k, v, _ = inputs(64, 2, 2)
    out, grad = jax.jit(jax.value_and_grad(lambda q: attention.causal(100 * q, k, v, "cpu").sum()))(q)
    assert_allclose(out, causal(100 * q, k, v, "xla").sum(), rtol=1e-4)
    assert bool(jnp.isfinite(grad).all())


def test_bfloat16_is_close_to_float32():
    *qkv, _ = inputs(64, 4, 2)
    exact = causal(*qkv, "cpu")
    for implementation in ("cpu", "xla"):
        low = causal(*(x.astype(jnp.bfloat16) for x in qkv), implementation)
        assert low.dtype == jnp.bfloat16
        assert float(jnp.abs(low.astype(jnp.float32) - exact).max()) < 0.05 * float(jnp.abs(exact).max())


def test_masked_attention_to_a_cache_equals_causal_attention():
    *qkv, _ = inputs(16, 4, 2)
    mask = jnp.broadcast_to(jnp.tril(jnp.ones((16, 16), bool)), (2, 16, 16))
    assert_allclose(jax.jit(attention.masked)(*qkv, mask), causal(*qkv, "xla"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shift", [1, 100, 5000])
def test_rotary_scores_depend_on_the_difference_of_positions_alone(shift):
    q, k, _, _ = inputs(12, 1, 1, size=32)
    positions = jnp.arange(12)[None]

    @jax.jit
    def scores(positions):
        return jnp.einsum("bqhd,bkhd->bqk", nn.rotate(q, positions), nn.rotate(k, positions))

    assert_allclose(scores(positions + shift), scores(positions), atol=2e-2 if shift > 1000 else 2e-3)
    different = scores(positions * 2) - scores(positions)
    assert float(jnp.abs(different).max()) > 1  # it does depend on differences


def test_rotation_keeps_norms():
    q, *_ = inputs(12, 2, 2, size=32)
    turned = nn.rotate(q, jnp.arange(12)[None] * 17)
    assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(q, axis=-1), rtol=1e-5)


@pytest.mark.parametrize("shape,contracted", [((5, 4), 1), ((3, 5, 4), 1), ((3, 5, 2, 2), 2)])
def test_product_equals_tensordot_in_value_and_gradient(shape, contracted):
    x = jax.random.normal(jax.random.key(0), shape)
    weight = jax.random.normal(jax.random.key(1), (*shape[len(shape) - contracted:], 3, 2))

    def run(f):
        gradients = jax.value_and_grad(lambda x, w: jnp.sin(f(x, w, contracted)).sum(), argnums=(0, 1))
        return jax.jit(gradients)(x, weight)

    for a, b in zip(jax.tree.leaves(run(nn.product)), jax.tree.leaves(run(jnp.tensordot)), strict=True):
        assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_cross_entropy_is_minus_the_log_of_softmax():
    logits = 5 * jax.random.normal(jax.random.key(0), (3, 4, 10))
    targets = jax.random.randint(jax.random.key(1), (3, 4), 0, 10)
    want = -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1)[..., 0]
    (_, found), grad = jax.jit(jax.value_and_grad(
        lambda logits: ((loss := nn.cross_entropy(logits, targets)).sum(), loss), has_aux=True))(logits)
    assert_allclose(found, want, rtol=1e-5, atol=1e-5)
    assert_allclose(grad, jax.nn.softmax(logits) - jax.nn.one_hot(targets, 10), atol=1e-6)
