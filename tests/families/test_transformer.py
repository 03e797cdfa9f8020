"""The Transformer: causality, equivalent ways to run it, and its ladder of sizes."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.testing import assert_allclose

from scaling import axes, cost
from scaling.families.transformer import Transformer

SMALL = Transformer(vocab=31, length=12, width=16, layers=2, heads=2)
VARIANTS = {
    "default": {}, "layernorm": {"norm": "layernorm", "biases": True}, "learned": {"positions": "learned"},
    "gelu": {"activation": "gelu", "mlp": 64}, "no_qk_norm": {"qk_norm": False}, "tied": {"tied": True},
    "grouped": {"kv_heads": 1}, "remat": {"remat": True}, "unrolled": {"scan": False},
    "scaled": {"logit_scale": 0.5}, "xla": {"attention": "xla"}, "bfloat16": {"dtype": "bfloat16"},
    "experts": {"experts": 4, "mlp": 24}, "capped": {"logit_cap": 5.0},
    "parallel": {"parallel": True, "rope_share": 0.5, "rope_scaling": "llama3:8,1,4,12", "attention_biases": "qkv"},
}


def variant(name, **more):
    return dataclasses.replace(SMALL, **VARIANTS[name], **more)


@functools.partial(jax.jit, static_argnums=0)
def random_params(family):
    """Parameters without special values: scales are not one and biases are not zero."""
    leaves, treedef = jax.tree.flatten(family.init(jax.random.key(0)))
    noise = [jnp.sin(7.0 * jnp.arange(x.size) + i).reshape(x.shape) for i, x in enumerate(leaves)]
    return jax.tree.unflatten(treedef, [x + 0.4 * n for x, n in zip(leaves, noise)])


@functools.partial(jax.jit, static_argnums=0)
def loss_and_grads(family, params, batch):
    return jax.value_and_grad(lambda p: family.loss(p, batch, None)[0])(params)


@functools.partial(jax.jit, static_argnums=0)
def logits_of(family, params, tokens):
    return family.logits(params, tokens)


def assert_same(a, b, rtol=1e-4, atol=1e-5):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert_allclose(x, y, rtol=rtol, atol=atol)


@pytest.mark.parametrize("names", ["layernorm learned gelu remat unrolled xla", "no_qk_norm tied grouped scaled",
                                   "experts capped parallel", *(pytest.param(name, marks=pytest.mark.slow) for name in
                                                       ("default", "bfloat16"))])  # every variant, several at once
def test_each_logit_depends_on_its_own_token_and_all_earlier_ones_and_no_later_one(names):
    family = dataclasses.replace(SMALL, **{k: v for name in names.split() for k, v in VARIANTS[name].items()})
    module = family.module(random_params(family))
    tokens = family.example_batch(1, jax.random.key(2))["tokens"][:, :-1]
    positions = jnp.arange(family.length)[None]

    def logits(x):
        return module.logits(module.run(x, positions)[0])[0, :, :4]

    jacobian = jax.jit(jax.jacobian(logits))(module.embed_at(tokens, positions))  # [t, 4, 1, s, width]
    depends = (jacobian != 0).any((1, 2, 4))
    assert np.array_equal(depends, np.tril(np.ones_like(depends)))


@pytest.mark.parametrize("name", ["default", "experts", *(pytest.param(name, marks=pytest.mark.slow) for name in
                                                          ("tied", "bfloat16"))])
def test_changing_a_token_changes_no_logit_before_it(name):
    family = variant(name)
    params = random_params(family)
    tokens = family.example_batch(2, jax.random.key(2))["tokens"][:, :-1]
    changed = tokens.at[:, 7].set((tokens[:, 7] + 1) % family.vocab)
    a, b = logits_of(family, params, jnp.stack([tokens, changed]).reshape(4, -1)).reshape(2, 2, 12, -1)
    assert jnp.array_equal(a[:, :7], b[:, :7])
    assert bool((a[:, 7:] != b[:, 7:]).any(-1).all())


@pytest.mark.parametrize("names", ["unrolled xla", "remat", *(pytest.param(name, marks=pytest.mark.slow) for name in
                                                              ("unrolled", "xla"))])
def test_ways_to_run_are_the_same_function(names):
    batch = SMALL.example_batch(4, jax.random.key(1))
    params = random_params(SMALL)
    other = dataclasses.replace(SMALL, **{k: v for name in names.split() for k, v in VARIANTS[name].items()})
    assert_same(loss_and_grads(other, params, batch), loss_and_grads(SMALL, params, batch))


def test_grouped_queries_with_repeated_keys_equal_multi_head_attention():
    grouped = variant("grouped")
    params = random_params(grouped)

    def repeat(array, names):
        if "kv_heads" not in names:
            return array
        return jnp.repeat(array, grouped.heads, axis=names.index("kv_heads"))

    many = axes.tree_map_with_axes(repeat, params)
    tokens = grouped.example_batch(3, jax.random.key(1))["tokens"][:, :-1]
    assert_same(logits_of(grouped, params, tokens), logits_of(SMALL, many, tokens))


def test_bfloat16_is_close_to_float32_and_keeps_float32_parameters_and_logits():
    low = variant("bfloat16")
    params, batch = jax.jit(low.init)(jax.random.key(0)), SMALL.example_batch(4, jax.random.key(1))
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert jax.eval_shape(low.logits, params, batch["tokens"]).dtype == jnp.float32
    loss, grads = loss_and_grads(low, params, batch)
    want, want_grads = loss_and_grads(SMALL, params, batch)
    assert_allclose(loss, want, rtol=2e-3)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(want_grads), strict=True):
        assert a.dtype == jnp.float32
        assert float(jnp.linalg.norm(a - b)) < 0.05 * float(jnp.linalg.norm(b))


def test_runs_packed_by_vmap_and_sharded_over_devices_equal_single_runs():
    mesh = jax.make_mesh((2, 4), ("run", "data"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    spec = jax.sharding.PartitionSpec
    keys = jax.random.split(jax.random.key(3), 2)
    params = jax.jit(jax.vmap(SMALL.init))(keys)
    batch = jax.vmap(lambda key: SMALL.example_batch(4, key))(keys)
    packed = jax.jit(jax.vmap(functools.partial(loss_and_grads, SMALL)))
    found = packed(params, batch)
    for i in range(2):
        single = loss_and_grads(SMALL, *jax.tree.map(lambda x, i=i: x[i], (params, batch)))
        assert_same(jax.tree.map(lambda x, i=i: x[i], found), single)
    assert_same(packed(jax.device_put(params, jax.NamedSharding(mesh, spec("run"))),
                       jax.device_put(batch, jax.NamedSharding(mesh, spec("run", "data")))), found)


def test_evaluation_adds_up_to_the_loss_whatever_the_batches():
    params, batch = random_params(SMALL), SMALL.example_batch(6, jax.random.key(1))
    batch["bytes"] = jax.random.randint(jax.random.key(4), batch["bytes"].shape, 0, 5)
    evaluate = jax.jit(lambda batch: SMALL.evaluate(params, batch, None))
    whole = evaluate(batch)
    halves = [evaluate({k: v[s] for k, v in batch.items()}) for s in (slice(3), slice(3, 6))]
    for name, found in whole.items():
        for part, numbers in zip(found._fields, found):
            assert_allclose(jnp.concatenate([getattr(h[name], part) for h in halves]), numbers, rtol=1e-5, atol=1e-7)
    nats = whole["loss"].over  # the mean over the tokens of each sequence
    assert_allclose(nats.mean(), loss_and_grads(SMALL, params, batch)[0], rtol=1e-5)
    bits, size = whole["bits_per_byte"]
    assert_allclose(bits, nats * SMALL.length / math.log(2), rtol=1e-5)
    assert_allclose(size, batch["bytes"].sum(-1))
    assert "bits_per_byte" not in jax.eval_shape(evaluate, {"tokens": batch["tokens"]})


@pytest.mark.parametrize("name,width", [("default", 128), ("tied", 128), ("experts", 32), *(
    pytest.param(name, 16, marks=pytest.mark.slow) for name in ("default", "learned", "capped"))])
def test_the_first_loss_is_that_of_a_uniform_guess(name, width):
    family = dataclasses.replace(variant(name), width=width, vocab=256, heads=None, kv_heads=None,
                                     head_dim=None, mlp=None)
    batch = family.example_batch(32, jax.random.key(1))
    loss = jax.jit(lambda key: family.loss(family.init(key), batch, None)[0])(jax.random.key(0))
    assert abs(float(loss) - math.log(256)) < 0.1


def test_layers_initially_add_little_to_the_residual_stream_at_every_depth():
    def growth(layers):
        family = dataclasses.replace(SMALL, layers=layers, width=64, heads=None, kv_heads=None,
                                     head_dim=None, mlp=None)
        tokens, positions = family.example_batch(8, jax.random.key(1))["tokens"][:, :-1], jnp.arange(12)[None]

        @jax.jit
        def ratio(key):
            module = family.module(family.init(key))
            x = module.embed_at(tokens, positions)
            return jnp.std(module.run(x, positions)[0]) / jnp.std(x)

        return float(ratio(jax.random.key(0)))

    assert 1 < growth(2) < 1.5 and abs(growth(32) - growth(2)) < 0.1


def test_tokens_may_come_in_any_integer_type():
    params, batch = random_params(SMALL), SMALL.example_batch(4, jax.random.key(1))
    small, loss = {"tokens": batch["tokens"].astype(jnp.uint8)}, jax.jit(lambda p, b: SMALL.loss(p, b, None)[0])
    assert loss(params, small) == loss(params, batch)


def test_the_ladder_ascends_and_is_near_the_wanted_size():
    wanted = np.geomspace(5e3, 1e11, 30)
    families = [Transformer.ladder(size) for size in wanted]
    assert families[0].width == 16 and Transformer.ladder(size=1e6).width > 100
    got = np.array([cost.param_count(family)["non_embedding"] for family in families])  # allocates nothing
    assert np.all(np.diff(got) >= 0) and len(np.unique(got)) >= 25
    assert np.all(np.abs(got / wanted - 1) <= 0.35)
    assert np.all(np.abs(got / wanted - 1)[wanted >= 1e6] <= 0.15)
    for family in families:
        assert family.heads * family.head_dim == family.width and family.width % 4 == 0
        assert family.mlp % 8 == 0 and 16 <= family.head_dim <= 128


def test_the_ladder_takes_overrides_and_refuses_sizes_out_of_its_range():
    family = Transformer.ladder(1e5, length=64, activation="gelu", layers=1)
    assert (family.length, family.activation, family.layers) == (64, "gelu", 1)
    assert hash(family) == hash(Transformer.ladder(1e5, length=64, activation="gelu", layers=1))
    for size in (10, 1e13, float("nan")):
        with pytest.raises(ValueError, match="Transformer.ladder takes sizes"):
            Transformer.ladder(size)


@pytest.mark.parametrize("wrong,message", [
    ({"norm": "batchnorm"}, "norm='batchnorm' is not known"), ({"heads": 4, "kv_heads": 3}, "must divide"),
    ({"layers": 0}, "from 1 to"), ({"width": 18, "heads": 2, "head_dim": 9}, "even for rotary"),
    ({"head_dim": 24, "rope_share": 0.3}, "rotates 7 of the 24 .*; write 0.3333333333333333$"),
    ({"head_dim": 24, "rope_share": 0.01}, "rotates 0 of the 24 .*; write 0.0833"),
    ({"rope_scaling": "yarn:4"}, "yarn:4 is not"), ({"rope_scaling": "llama3:8,4,1,64"}, "is not known"),
    ({"biases": True, "attention_biases": "qkv"}, "changes nothing with"),
    ({"positions": "learned", "rope_share": 0.5}, "rope_share=0.5 changes nothing"),
])
def test_impossible_sizes_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Transformer(**wrong)


def test_blocks_that_are_opened_one_by_one_make_the_network():
    """As those do who look into a checkpoint: see experiments/notebooks/checkpoints.py."""
    tokens = SMALL.example_batch(3, jax.random.key(1))["tokens"]

    @jax.jit
    def opened(params):
        network = SMALL.module(params)
        graph, stacked = nnx.split(network.layers)
        positions = jnp.arange(tokens.shape[1])[None]
        x = network.embed_at(tokens, positions)
        for layer in range(SMALL.layers):
            x = nnx.merge(graph, jax.tree.map(lambda weights, layer=layer: weights[layer], stacked))(x, positions)[0]
        return x, network.hidden(tokens)

    assert_allclose(*opened(random_params(SMALL)), rtol=1e-5, atol=1e-5)
