"""Mixtures of experts in the Transformer: equal however they are computed, balanced, counted, and divided over devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sources import ExampleSource, tiny

from scaling import axes, cost, nn
from scaling.devices import sharding
from scaling.families._decoder import init_cache
from scaling.families.transformer import Transformer
from scaling.fields import ConfigError
from scaling.nn.experts import routing
from scaling.results.records import Records, load_records
from scaling.training.counts import counts
from scaling.training.program import Program
from scaling.training.step import TRUNK

SMALL = Transformer(vocab=31, length=12, width=16, layers=2, heads=2)
ROUTED = dataclasses.replace(SMALL, experts=4, mlp=24)
VARIANTS = {"default": {}, "one of many": {"top_k": 1}, "all": {"top_k": 4},
            "gelu with biases": {"activation": "gelu", "biases": True, "top_k": 3}}


@functools.cache
def params(family):
    """Parameters without special values; routers are sharp enough to choose."""
    with jax.ensure_compile_time_eval():
        def sharper(x, names):
            noise = np.sin(7.0 * np.arange(x.size)).reshape(x.shape).astype(np.float32)
            return jnp.asarray((8 if "choices" in names else 1) * np.asarray(x) + 0.1 * noise)
        return axes.tree_map_with_axes(sharper, jax.jit(family.init)(jax.random.key(0)))


def loss_and_grads(family, own, batch):
    return jax.jit(lambda p: jax.value_and_grad(lambda p: family.loss(p, batch, None), has_aux=True)(p))(own)


def batch_of(size=4):
    return SMALL.example_batch(size, jax.random.key(1))


def assert_same(a, b, rtol=1e-4, atol=1e-5):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert_allclose(x, y, rtol=rtol, atol=atol)


class Divided(sharding.Placement):
    """Moves nothing, but lets experts be computed as where a layout divides models."""

    divided = True


PLACES = {"ragged": sharding.PlatformPlacement("cpu", plain=True), "dense": Divided(),
          "accelerator": sharding.PlatformPlacement("gpu")}


@pytest.mark.parametrize("name", ["default", *(pytest.param(name, marks=pytest.mark.slow) for name in
                                              ("one of many", "all", "gelu with biases"))])
def test_every_way_to_compute_experts_is_the_same_function(name):
    family = dataclasses.replace(ROUTED, **VARIANTS[name])
    found = loss_and_grads(family, params(family), batch_of())
    for place in ("ragged", "dense"):
        with sharding.placed(PLACES[place]):
            assert_same(loss_and_grads(family, params(family), batch_of()), found)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_token_gets_the_sum_of_its_experts_by_share(name):
    """By hand, one token and one expert at a time."""
    family = dataclasses.replace(ROUTED, **VARIANTS[name])
    mixture = jax.tree.map(lambda x: x[0], family.module(params(family)).layers).mlp
    x = jax.random.normal(jax.random.key(2), (2, 5, 16))
    found, about = jax.jit(lambda mixture, x: mixture(x))(mixture, x)
    logits = np.asarray(x) @ np.asarray(mixture.router.weight[...])
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for at in np.ndindex(2, 5):
        chosen = np.argsort(-p[at])[:family.top_k]
        shares = p[at][chosen] / (p[at][chosen].sum() if family.top_k > 1 else 1)
        assert_allclose(found[at], sum(s * alone(mixture, e, x[at]) for s, e in zip(shares, chosen)), rtol=1e-4, atol=1e-5)
    assert all(value.shape == (2,) for value in about.values())


@jax.jit
def alone(mixture, expert, x):
    """One expert's output for x [width], by `nn.Mlp`."""
    mlp = nn.Mlp(jnp.zeros, 16, 1, activation="gelu" if mixture.gate is None else "swiglu",
                 bias=mixture.up.bias is not None)
    for name in ("up", "gate", "down"):
        if (maps := getattr(mixture, name)) is not None:
            linear = getattr(mlp, name)
            linear.weight = axes.param(maps.weight[...][expert], ("a", "b"))
            if maps.bias is not None:
                linear.bias = axes.param(maps.bias[...][expert], ("b",))
    return mlp(x[None, None])[0, 0]


@pytest.mark.parametrize("changes", [pytest.param({}, marks=pytest.mark.slow), {"activation": "gelu", "biases": True}],
                         ids=str)
def test_one_expert_is_the_dense_mlp(changes):
    dense = dataclasses.replace(SMALL, mlp=24, **changes)
    one = dataclasses.replace(dense, experts=1, top_k=1)
    start, given = params(one), {tuple(map(str, path)): x for path, x in
                                 jax.tree_util.tree_leaves_with_path(params(dense))}

    def same(path, x):
        found = given.get(tuple(map(str, path)))
        return x if found is None else found.reshape(x.shape)
    start = jax.tree_util.tree_map_with_path(same, start)
    (total, metrics), grads = loss_and_grads(one, start, batch_of())
    (loss, _), wanted = loss_and_grads(dense, params(dense), batch_of())
    assert_allclose(metrics["loss"], loss, rtol=1e-6)
    assert_allclose(total, loss + 2 * 0.01, rtol=1e-6)  # one expert is balanced
    named = {tuple(map(str, path)): x for path, x in jax.tree_util.tree_leaves_with_path(grads)}
    for path, x in jax.tree_util.tree_leaves_with_path(wanted):
        assert_allclose(named[tuple(map(str, path))].reshape(x.shape), x, rtol=1e-4, atol=1e-6)


def test_the_order_of_experts_does_not_matter():
    order = jnp.array([2, 0, 3, 1])

    def permuted(tree):
        return axes.tree_map_with_axes(lambda x, names: x if not {"experts", "choices"} & set(names) else jnp.take(
            x, order, axis=names.index("experts" if "experts" in names else "choices")), tree)

    found, grads = loss_and_grads(ROUTED, params(ROUTED), batch_of())
    other, moved = loss_and_grads(ROUTED, permuted(params(ROUTED)), batch_of())
    assert_same(other, found)
    assert_same(moved, permuted(grads))


def test_balance_is_one_where_all_experts_are_used_alike_and_their_number_where_one_is():
    uniform = jnp.zeros((2, 8, 4))
    chosen = jnp.tile(jnp.arange(4), (2, 4)).reshape(2, 8, 2)
    even = routing(uniform, jax.nn.softmax(uniform), chosen)
    assert_allclose(even["balance"], 1.0, rtol=1e-6)
    assert_allclose(even["busiest"], 1.0, rtol=1e-6)
    assert_allclose(even["router_z"], np.log(4)**2, rtol=1e-6)
    one = uniform.at[..., 2].set(50.0)
    all_alike = routing(one, jax.nn.softmax(one), jnp.full((2, 8, 1), 2))
    assert_allclose(all_alike["balance"], 4.0, rtol=1e-5)
    assert_allclose(all_alike["busiest"], 4.0, rtol=1e-6)


def test_losses_of_routers_are_differentiated_and_shown_beside_the_loss():
    free = dataclasses.replace(ROUTED, expert_balance=0.0)
    held = dataclasses.replace(ROUTED, expert_balance=0.1, router_z_loss=0.01)
    (loss, metrics), _ = loss_and_grads(free, params(ROUTED), batch_of())
    (total, found), _ = loss_and_grads(held, params(ROUTED), batch_of())
    assert set(metrics) == set(found) == {"loss", "balance", "router_z", "busiest"}
    assert_allclose(loss, metrics["loss"], rtol=1e-6)
    assert_same(found, metrics, rtol=1e-6)
    assert_allclose(total, loss + 2 * (0.1 * found["balance"] + 0.01 * found["router_z"]), rtol=1e-6)
    assert found["balance"] > 1 and 1 < found["busiest"] <= 4


def test_the_loss_of_balance_evens_out_a_router_that_sends_most_tokens_to_one_expert():
    x = 1.0 + jax.random.normal(jax.random.key(0), (4, 64, 16))
    weight = 0.3 * jax.random.normal(jax.random.key(1), (16, 4)).at[:, 2].add(1.0)

    def found(weight):
        logits = x @ weight
        return routing(logits, jax.nn.softmax(logits), jax.lax.top_k(logits, 1)[1])

    step = jax.grad(lambda weight: found(weight)["balance"].mean())
    trained = jax.jit(lambda w: jax.lax.fori_loop(0, 200, lambda _, w: w - 0.1 * step(w), w))(weight)
    assert found(weight)["busiest"].mean() > 3 and found(trained)["busiest"].mean() < 1.7


def test_a_cache_gives_the_logits_of_the_whole_text():
    own = params(ROUTED)
    run = jax.jit(lambda tokens, cache=None: ROUTED.module(own)(tokens, cache))
    tokens = np.random.default_rng(1).integers(0, 31, (2, 11))
    cache, parts = init_cache(ROUTED, 2, 16), []
    for start, stop in ((0, 5), (5, 6), (6, 11)):
        logits, cache = run(tokens[:, start:stop], cache)
        parts.append(logits)
    assert_allclose(np.concatenate(parts, 1), run(tokens)[0], rtol=1e-4, atol=1e-4)


def test_weights_of_experts_begin_and_learn_as_those_of_one_mlp():
    """Fan-in is the width, whatever the number of experts."""
    few, many = (jax.jit(dataclasses.replace(ROUTED, width=64, experts=n).init)(jax.random.key(0)) for n in (2, 32))
    for a, b, names, role in zip(*map(jax.tree.leaves, (few, many, axes.names(few), axes.roles(few))), strict=True):
        assert role != "vector" or len(names) < 4
        if "experts" in names:
            assert role == "hidden" and axes.width(names, a.shape) == 64
            assert float(b.std()) == pytest.approx(float(a.std()), rel=0.05)


# ---------------------------------------------------------------------------------------------- counts


def test_parameters_in_use_and_flops_are_those_of_the_chosen_experts():
    f = Transformer(width=64, layers=3, length=32, vocab=200, heads=4, mlp=96, experts=8, top_k=2)
    dense = dataclasses.replace(f, experts=0)
    expert, router = 3 * 64 * 96 * f.layers, 64 * 8 * f.layers
    total, base = (cost.param_count(x)["non_embedding"] for x in (f, dense))
    assert total == base + 7 * expert + router
    assert cost.active_count(f) == base + expert + router and cost.active_count(dense) == base
    assert cost.train_flops(f, 4) == cost.train_flops(dense, 4) + 3 * 2 * 4 * f.length * (expert + router)
    for changes in ({"activation": "gelu", "biases": True}, {"scan": False, "remat": "full"}):
        assert cost.train_flops(dataclasses.replace(f, **changes), 4) > 0
    e = tiny("transformer").replace({"family": f})
    found = counts(e, 10**6)
    assert found["params_active"] < found["params_non_embedding"] < found["params_total"]
    assert found["flops_6nd"] == cost.six_nd(found["params_active"], found["tokens_seen"])


def test_older_records_say_that_a_token_used_every_parameter(tmp_path):
    for name, more in (("old", {}), ("new", {"params_active": 7})):
        Records(tmp_path).write({"fingerprint": name, "family": "transformer", "role": "sweep", "diverged": False,
                                 "params_non_embedding": 12, "experiment": {"family": {"experts": 4}}, **more})
    frame = load_records(tmp_path).set_index("fingerprint")
    assert frame["params_active"].to_dict() == {"old": 12, "new": 7} and set(frame["family.experts"]) == {4}


@pytest.mark.parametrize("changes,message", [
    ({"experts": 2, "top_k": 3}, "top_k=3 is more than family.experts=2; write at most 2"),
    ({"top_k": 1}, "top_k=1 needs experts; write family.experts=8"),
    ({"expert_balance": 0.0}, "expert_balance=0.0 needs experts"), ({"router_z_loss": 0.1}, "router_z_loss=0.1 needs")])
def test_fields_of_experts_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SMALL, **changes)


# --------------------------------------------------------------------------------------------- devices


def trained(e, mesh, devices=None, steps=6):
    program = Program(e, ExampleSource(e.family, e.data.batch), 1, mesh, 8, devices)
    state, metrics = program.advance(program.init([e]), [e], [TRUNK], steps)
    return {name: np.asarray(metrics[name])[0, :steps] for name in ("loss", "balance", "busiest", "grad_norm")}, state


@functools.cache
def on_one_device():
    return trained(divided_member(), "", jax.devices()[:1])


def divided_member(layout="data"):
    e = tiny("transformer", **{"data.batch": 8})
    family = Transformer(vocab=32, length=16, width=32, layers=1, heads=2, mlp=32, experts=8)
    return e.replace({"family": family, "layout": layout})


@pytest.mark.parametrize("layout,mesh", [("data", "expert=4,data=2"),
                                         pytest.param("data", "data=8", marks=pytest.mark.slow),
                                         pytest.param("data", "expert=8", marks=pytest.mark.slow),
                                         ("fsdp_tensor", "expert=2,fsdp=2,tensor=2")])
def test_experts_on_eight_devices_equal_those_on_one(layout, mesh):
    found, state = trained(divided_member(layout), mesh)
    wanted, _ = on_one_device()
    for name, values in wanted.items():
        assert_allclose(found[name], values, rtol=2e-5)
    shards = {names: x.shape[-3] // x.addressable_shards[0].data.shape[-3] for x, names in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(axes.names(state.params))) if "experts" in names}
    assert set(shards.values()) == {dict(p.split("=") for p in mesh.split(",")).get("expert", "1") and
                                    int(dict(p.split("=") for p in mesh.split(",")).get("expert", 1))}


def test_packed_runs_equal_single_runs():
    """Those of one pack route their tokens apart, though one program computes them all."""
    e = divided_member()
    pack = [e, e.replace({"optim.learning_rate": 3 * e.optim.learning_rate})]
    program = Program(e, ExampleSource(e.family, e.data.batch), 2, "", 8, jax.devices()[:1])
    _, found = program.advance(program.init(pack), pack, [TRUNK] * 2, 6)
    for name, values in on_one_device()[0].items():
        assert_allclose(np.asarray(found[name])[0, :6], values, rtol=2e-5)
    assert not np.allclose(found["loss"][0, :6], found["loss"][1, :6], rtol=1e-4)


def test_microbatches_change_nothing():
    e = divided_member().replace({"microbatch": 2})
    found, _ = trained(e, "", jax.devices()[:1])
    for name, values in on_one_device()[0].items():
        assert_allclose(found[name], values, rtol=2e-5)
