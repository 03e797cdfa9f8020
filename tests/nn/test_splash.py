"""Splash attention equals the plain one in value and gradients, on every layout that it serves, and its FLOPs are counted.

The kernel is interpreted here. tests/pods/test_kernels.py compiles it for TPUs.
"""

import jax
import jax.numpy as jnp
import pytest
from numpy.testing import assert_allclose

from scaling import cost
from scaling.devices import sharding
from scaling.devices.layouts import make_mesh
from scaling.families.transformer import Transformer
from scaling.nn import attention, splash
from scaling.training import accumulation


def inputs(batch=2, length=256, heads=2, kv_heads=2, size=8):
    shapes = [(batch, length, n, size) for n in (heads, kv_heads, kv_heads, heads)]
    return [2 * jax.random.normal(key, shape) for key, shape in zip(jax.random.split(jax.random.key(0), 4), shapes)]


def value_and_gradients(implementation, q, k, v, weight, where=None, layout=""):
    def total(q, k, v):
        out = attention.causal(q, k, v, implementation)
        return (out * weight).sum(), out

    def placed(*qkv):
        if where is None:
            return total(*qkv)
        with sharding.within(where, layout):
            return total(*qkv)
    (_, out), gradients = jax.jit(jax.value_and_grad(placed, argnums=(0, 1, 2), has_aux=True))(q, k, v)
    return out, *gradients


def assert_same(found, want):
    for ours, theirs in zip(found, want, strict=True):
        assert_allclose(ours, theirs, rtol=2e-4, atol=2e-4)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(splash, "BLOCK", 128)


@pytest.mark.parametrize("kv_heads", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_it_equals_plain_attention_in_value_and_gradients(small_blocks, kv_heads):
    given = inputs(kv_heads=kv_heads)
    assert_same(value_and_gradients("splash", *given), value_and_gradients("xla", *given))


@pytest.mark.parametrize("layout,mesh", [
    ("fsdp_tensor", "data=2,fsdp=2,tensor=2"), pytest.param("fsdp", "", marks=pytest.mark.slow),
    pytest.param("tensor", "data=2,tensor=4", marks=pytest.mark.slow)])  # it repeats two keys for four heads
def test_every_device_computes_its_own_sequences_and_heads(layout, mesh):
    given = inputs(batch=8, length=128, heads=4, kv_heads=2)
    found = value_and_gradients("splash", *given, where=make_mesh(1, mesh, layout), layout=layout)
    assert_same(found, value_and_gradients("xla", *given))


@pytest.mark.parametrize("parts", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_every_device_attends_from_its_own_positions_to_all_keys(small_blocks, parts):
    given, mesh = inputs(batch=8 // parts, length=128 * parts, heads=2, kv_heads=1), f"data={8 // parts},sequence={parts}"
    found = value_and_gradients("splash", *given, where=make_mesh(1, mesh, "sequence"), layout="sequence")
    assert_same(found, value_and_gradients("xla", *given))


def test_packed_runs_are_batched_over_their_axis():
    q, k, v, _ = inputs(batch=4, length=128)
    runs = [jnp.stack([x, x[::-1]]) for x in (q, k, v)]
    where = make_mesh(2, "run=2,data=4", "data")

    def square(implementation):
        def f(*qkv):
            with sharding.within(where, "data"):
                return jnp.square(attention.causal(*qkv, implementation)).sum()
        return jax.jit(jax.vmap(jax.grad(f, argnums=(0, 1, 2)), spmd_axis_name="run"))(*runs)

    assert_same(square("splash"), square("xla"))


def test_tpus_use_it_for_shapes_that_it_is_made_for():
    def q(length, size):
        return jax.ShapeDtypeStruct((8, length, 4, size), jnp.bfloat16)

    with sharding.as_on("tpu"):
        assert attention._fastest(q(2048, 128)) == "splash"
        assert attention._fastest(q(2000, 128)) == attention._fastest(q(2048, 64)) == "xla"
    with sharding.as_on("tpu", plain=True):
        assert attention._fastest(q(2048, 128)) == "xla"
    with sharding.as_on("gpu"):
        assert attention._fastest(q(2048, 128)) == "cudnn"
    with sharding.within(make_mesh(1, "sequence=8", "sequence"), "sequence"):
        assert splash.serves(q(2048, 128)) and not splash.serves(q(512, 128))  # 256 and 64 positions on each device


def test_a_length_that_it_does_not_take_is_refused():
    with pytest.raises(ValueError, match="multiples of 128, not 100; write family.attention=xla"):
        attention.causal(*inputs(length=100)[:3], "splash")
    divided = sharding.within(make_mesh(1, "sequence=8", "sequence"), "sequence")
    with divided, pytest.raises(ValueError, match="multiples of 128 on each of 8 devices, not 512"):
        attention.causal(*inputs(length=512)[:3], "splash")


@pytest.mark.parametrize("length,block", [(128, 128), (640, 128), (768, 384), (2048, 512)])
def test_blocks_divide_the_length(length, block):
    assert splash.block(length) == block


def test_the_products_of_both_kernels_are_counted_in_the_blocks_that_the_mask_leaves(small_blocks):
    """Two products forward and five backward, in 6 of 9 blocks of 128 x 128. The backward pass also sums outputs times
    their gradients."""
    q, k, v, _ = (jax.ShapeDtypeStruct(x.shape, x.dtype) for x in jax.eval_shape(lambda: inputs(length=384)))
    product = 2 * 2 * 2 * 8 * 6 * 128**2
    sums = 2 * 2 * 2 * 384 * 8

    def loss(*qkv):
        return attention.causal(*qkv, "splash").sum()

    assert cost.flops(loss, q, k, v) == 2 * product
    assert cost.flops(jax.grad(loss, (0, 1, 2)), q, k, v) == 7 * product + sums


def test_it_is_mapped_over_the_parts_of_a_batch_that_each_device_accumulates():
    q, k, v, _ = inputs(batch=8, length=128)
    where, layout = make_mesh(1, "data=4,tensor=2", "tensor"), "tensor"

    def gradients(implementation):
        def f(*qkv):
            return jnp.square(attention.causal(*qkv, implementation)).sum()

        def of_parts(*qkv):
            with sharding.within(where, layout):
                parts = [x.reshape(sharding.parts(), -1, *x.shape[1:]) for x in qkv]
                return sharding.map_parts(jax.grad(f, argnums=(0, 1, 2)), (0, 0, 0))(*parts)
        return jax.jit(of_parts)(q, k, v)

    assert_same(gradients("splash"), gradients("xla"))


def test_one_example_keeps_as_much_on_a_mesh_as_on_one_device():
    """The microbatch follows from what an example keeps; the parts of a mesh would count it once for each device."""
    family = Transformer(width=16, layers=1, heads=2, length=128, vocab=16, attention="splash")
    alone = accumulation.activation_bytes.__wrapped__(family)
    with sharding.within(make_mesh(1, "fsdp=8", "fsdp"), "fsdp"):
        assert accumulation.activation_bytes.__wrapped__(family) < 1.1 * alone
