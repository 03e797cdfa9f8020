"""FLOPs counted from the jaxpr agree with XLA's own count and with 6ND where that should hold."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from scaling import axes, cost, families
from scaling.devices import sharding
from scaling.families.transformer import Transformer

X = jax.ShapeDtypeStruct((8, 8), jnp.float32)
ONE = 2 * 8**3  # one product of X with itself


def xla_flops(fn, *args):
    return jax.jit(fn).lower(*args).compile().cost_analysis()["flops"]


def test_products_count_wherever_they_are():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec

    def repeat(n, x):
        return lax.scan(lambda c, _: (c @ c, None), x, length=n)[0]

    cases = {
        "once": (lambda x: x @ x, 1),
        "jit": (jax.jit(lambda x: x @ x), 1),
        "scan": (lambda x: repeat(5, x), 5),
        "nested": (lambda x: lax.scan(lambda c, _: (repeat(3, c), None), x, length=4)[0], 12),
        "fori": (lambda x: lax.fori_loop(0, 7, lambda i, c: c @ c, x), 7),
        "cond": (lambda x: lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x), 2),
        "vmap": (lambda x: jax.vmap(lambda v: x @ v)(x), 1),
        "grad": (jax.grad(lambda x: jnp.sin(x @ x).sum()), 3),
        "remat": (jax.grad(lambda x: jax.checkpoint(lambda y: jnp.sin(jnp.sin(y @ y) @ y))(x).sum()), 8),
        "shard_map": (jax.shard_map(lambda x: x @ x.T @ x, mesh=mesh, in_specs=spec("data"),
                                    out_specs=spec("data")), 1),
        "einsum": (lambda x: jnp.einsum("ij,jk->ki", x, x), 1),
    }
    for name, (fn, products) in cases.items():
        assert cost.flops(fn, X) == products * ONE, name


def test_a_while_loop_needs_its_trip_count():
    def fn(x):
        return lax.while_loop(lambda c: c[0, 0] < 9, lambda c: c @ c, x)

    with pytest.raises(ValueError, match="trips="):
        cost.flops(fn, X)
    assert cost.flops(fn, X, trips=11) == 11 * ONE


def test_what_cannot_be_seen_is_refused():
    with pytest.raises(ValueError, match="cholesky"):
        cost.flops(jnp.linalg.cholesky, X)


@pytest.mark.parametrize("options", [
    {}, {"window_strides": (2, 2)}, {"padding": "VALID"}, {"feature_group_count": 4},
    {"rhs_dilation": (2, 2)}, {"lhs_dilation": (2, 2), "padding": [(1, 2), (2, 1)]},
], ids=str)
def test_convolutions_and_their_gradients_agree_with_xla(options):
    options = {"window_strides": (1, 1), "padding": "SAME"} | options
    image = jax.ShapeDtypeStruct((2, 8, 12, 12), jnp.float32)
    kernel = jax.ShapeDtypeStruct((16, 8 // options.get("feature_group_count", 1), 3, 3), jnp.float32)

    def value(image, kernel):
        return lax.conv_general_dilated(image, kernel, **options)

    def gradients(image, kernel):
        return jax.grad(lambda *a: jnp.square(value(*a)).sum(), (0, 1))(image, kernel)

    for fn in (value, gradients):
        ours = cost.flops(fn, image, kernel)
        assert abs(ours / xla_flops(fn, image, kernel) - 1) < 0.05


@pytest.mark.parametrize("variant", [{}, {"activation": "gelu", "mlp": 1024, "kv_heads": 2},
                                     {"attention": "xla", "remat": True}], ids=str)
def test_a_transformer_step_agrees_with_xla_where_products_dominate(variant):
    family = Transformer(width=256, layers=2, length=128, vocab=512, scan=False, **variant)
    params, batch, key = cost._abstract(family, 2)

    def step(params):
        return jax.grad(lambda p: family.loss(p, batch_like(batch), key)[0])(params)

    def batch_like(abstract):
        return {"tokens": jnp.zeros(abstract["tokens"].shape, jnp.int32)}

    assert abs(cost.flops(step, params) / xla_flops(step, params) - 1) < 0.05


# Those built of blocks that other families have.
LIKE_OTHERS = ("masked", "seq2seq", "textgan", "diffusion", "fsq", "coded", "multimodal", "classifier")
LONG = (*LIKE_OTHERS, "vae")


@pytest.mark.parametrize("cls", [
    pytest.param(cls, marks=[pytest.mark.slow] if families.name(cls) in LIKE_OTHERS else [], id=families.name(cls))
    for cls in families.all() if not families.is_solved(cls)])
def test_a_family_agrees_with_xla_within_its_own_elementwise_work(cls):
    """On low rungs elementwise work is a large share of what XLA counts; products are never more. XLA counts the body of a
    loop once, so the steps of a recurrence are unrolled here."""
    family = cls.ladder(cls.sizes()[2])
    if hasattr(family, "unroll"):
        family = dataclasses.replace(family, length=8, unroll=9)
    params, batch, key = cost._abstract(family, 2)

    def step(params, batch, key):
        return [jax.grad(lambda own, p=p: p.loss({**params, p.name: own}, batch, key)[0])(params[p.name])
                for p in family.players()]

    share = cost.flops(step, params, batch, key) / xla_flops(step, params, batch, key)
    assert 0.3 < share < 1.05, share


@pytest.mark.parametrize("name,cell", [("recurrent", "lstm"), ("recurrent", "mingru"), ("hmm", "")])
def test_six_nd_holds_for_recurrences_of_any_length_and_unrolling(name, cell):
    """Every weight beside those of tokens takes part in every step."""
    own = {"cell": cell} if cell else {}
    for length, unroll in ((8, 1), (96, 1), (96, 5)):
        family = families.find(name).ladder(1e6, length=length, vocab=2, unroll=unroll, **own)
        params = cost.param_count(family)["non_embedding"]
        assert abs(cost.train_flops(family, 4) / cost.six_nd(params, 4 * (length + (name == "hmm"))) - 1) < 0.02


def test_six_nd_holds_for_a_wide_model_with_short_sequences_and_few_words():
    family = Transformer(width=1024, layers=4, length=32, vocab=64, heads=8)
    tokens = 4 * family.length
    params = cost.param_count(family)["non_embedding"]
    assert abs(cost.train_flops(family, 4) / cost.six_nd(params, tokens) - 1) < 0.05
    assert abs(cost.forward_flops(family, 4) / (2 * params * tokens) - 1) < 0.05


def test_the_flops_of_a_transformer_are_those_of_the_formula():
    """Three times the forward pass: its matrices, its readout, and half the square of its attention."""
    f = Transformer(width=64, layers=3, length=128, vocab=200, heads=4, kv_heads=2, head_dim=16, mlp=96)
    attention = f.width * f.head_dim * 2 * (f.heads + f.kv_heads)
    matrices = f.layers * (attention + 3 * f.width * f.mlp) + f.width * f.vocab
    square = f.layers * 2 * f.heads * f.head_dim * f.length
    assert cost.train_flops(f, 8) == 3 * 2 * 8 * f.length * (matrices + square // 2)


HOW = {"scan": [True, False], "unroll": [1, 4], "remat": ["none", "full", "dots"],
       "attention": ["auto", "xla", "cpu", "cudnn", "splash"],
       "cross_entropy": ["auto", "whole", "blocks"], "convolution": ["auto", "xla", "products"]}


@pytest.mark.parametrize("cls", [
    pytest.param(cls, marks=[pytest.mark.slow] if families.name(cls) in LONG else [], id=families.name(cls))
    for cls in families.all()])
def test_the_flops_of_a_model_do_not_depend_on_how_it_is_computed(cls):
    family = cls.ladder(cls.sizes()[2])
    names = {f.name for f in dataclasses.fields(family) if f.metadata.get("how")}
    ways = [{name: value} for name in names for value in HOW[name]]
    assert {cost.train_flops(dataclasses.replace(family, **way), 4) for way in ways} <= {cost.train_flops(family, 4)}
    assert cost.train_flops(family, 8) == 2 * cost.train_flops(family, 4)
    with sharding.as_on("gpu"):
        cost.player_flops.cache_clear()
        assert cost.train_flops(family, 8) == 2 * cost.train_flops(family, 4)


def test_recomputation_and_the_kernel_of_attention_are_executed():
    """Under remat more is executed; two blocks of queries compute three quarters of the square that the library does."""
    family = Transformer(width=64, layers=1, length=256)
    whole, square = dataclasses.replace(family, attention="xla"), 2 * family.heads * family.head_dim * 256**2
    assert cost.forward_flops(whole, 1) - cost.forward_flops(family, 1) == 2 * square / 4
    arguments, name_and_loss = cost._abstract(family, 2), family.players()[0]
    plain = cost.flops(functools.partial(cost._gradient, *name_and_loss), *arguments)
    again = dataclasses.replace(family, remat=True).players()[0]
    assert cost.flops(functools.partial(cost._gradient, *again), *arguments) > plain


def test_parameters_and_bytes():
    family = Transformer.ladder(5e3)
    params = jax.jit(family.init)(jax.random.key(0))
    assert cost.param_count(family) == axes.count_parameters(params)
    assert axes.count_parameters(params)["total"] == sum(x.size for x in jax.tree.leaves(params))
    assert cost.nbytes(params) == 4 * axes.count_parameters(params)["total"]
    assert cost.nbytes(jax.eval_shape(lambda: params)) == cost.nbytes(params)
