"""Recurrent models: causality, equivalent ways to run them, dropout, and their ladder of sizes."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from scaling import cost, nn
from scaling.families._recurrent import FORGETS, RecurrentCell
from scaling.families.recurrent import Recurrent

SMALL = Recurrent(vocab=31, length=9, width=12)
CELLS = ("lstm", "gru", "mingru", "minlstm")


@functools.partial(jax.jit, static_argnums=0)
def random_params(family):
    """Parameters without special values: biases are not zero."""
    leaves, treedef = jax.tree.flatten(family.init(jax.random.key(0)))
    noise = [jnp.sin(7.0 * jnp.arange(x.size) + i).reshape(x.shape) for i, x in enumerate(leaves)]
    return jax.tree.unflatten(treedef, [x + 0.4 * n for x, n in zip(leaves, noise)])


@functools.partial(jax.jit, static_argnums=0)
def loss_of(family, params, batch, key):
    return family.loss(params, batch, key)[0]


@functools.partial(jax.jit, static_argnums=0)
def loss_and_grads(family, params, batch, key=None):
    return jax.value_and_grad(lambda p: family.loss(p, batch, key)[0])(params)


def assert_same(a, b, rtol=1e-4, atol=1e-5):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert_allclose(x, y, rtol=rtol, atol=atol)


@pytest.mark.parametrize("cell", CELLS)
def test_each_state_depends_on_its_own_input_and_all_earlier_ones_and_no_later_one(cell):
    family = dataclasses.replace(SMALL, cell=cell)
    cell = jax.tree.map(lambda x: x[0], family.module(random_params(family)).layers).cell
    x = jax.random.normal(jax.random.key(1), (1, family.length, family.width))
    jacobian = jax.jit(jax.jacobian(lambda x: cell(x)[0][0]))(x)  # [t, width, 1, s, width]
    depends = (jacobian != 0).any((1, 2, 4))
    assert np.array_equal(depends, np.tril(np.ones_like(depends)))


@pytest.mark.parametrize("changes", [{"tied": True}, {"cell": "minlstm", "norm": "layernorm", "layers": 3}], ids=str)
def test_changing_a_token_changes_no_logit_before_it_and_every_one_after(changes):
    family = dataclasses.replace(SMALL, **changes)
    tokens = family.example_batch(2, jax.random.key(2))["tokens"][:, :-1]
    changed = tokens.at[:, 5].set((tokens[:, 5] + 1) % family.vocab)
    a, b = jax.jit(family.logits)(random_params(family), jnp.concatenate([tokens, changed])).reshape(2, 2, 9, -1)
    assert jnp.array_equal(a[:, :5], b[:, :5]) and bool((a[:, 5:] != b[:, 5:]).any(-1).all())


@pytest.mark.parametrize("cell", ["gru", "minlstm"])
def test_ways_to_run_are_the_same_function(cell):
    plain = dataclasses.replace(SMALL, cell=cell)
    other = dataclasses.replace(plain, scan=False, unroll=4, remat="full", cross_entropy="blocks")
    params, batch = random_params(plain), plain.example_batch(4, jax.random.key(1))
    assert_same(loss_and_grads(other, params, batch), loss_and_grads(plain, params, batch))


@pytest.mark.parametrize("cell", ["lstm", pytest.param("mingru", marks=pytest.mark.slow)])
def test_bfloat16_is_close_to_float32_and_keeps_float32_parameters_states_and_logits(cell):
    plain = dataclasses.replace(SMALL, cell=cell, width=32)
    low = dataclasses.replace(plain, dtype="bfloat16")
    params, batch = jax.jit(low.init)(jax.random.key(0)), plain.example_batch(16, jax.random.key(1))
    logits, state = jax.eval_shape(lambda: low.begin(params, batch["tokens"], jnp.full(16, 9), 12))
    assert {x.dtype for x in jax.tree.leaves((params, logits, state))} == {jnp.dtype("float32")}
    (loss, grads), (wanted, wanted_grads) = (loss_and_grads(family, params, batch) for family in (low, plain))
    assert_allclose(loss, wanted, rtol=2e-3)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(wanted_grads), strict=True):
        assert float(jnp.linalg.norm(a - b)) < 0.05 * float(jnp.linalg.norm(b))


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_the_equations_are_those_of_torch(name):
    torch = pytest.importorskip("torch", reason="cells are compared where torch is installed")
    family = dataclasses.replace(SMALL, cell=name)
    cell = jax.tree.map(lambda x: x[0], family.module(random_params(family)).layers).cell
    theirs = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[name](family.width, family.width, batch_first=True)

    def rows(weight):
        return torch.from_numpy(np.asarray(weight[...]).reshape(family.width, -1).T.copy())

    def flat(bias):
        return torch.from_numpy(np.asarray(bias[...]).reshape(-1).copy())

    second = torch.zeros_like(theirs.bias_hh_l0) if cell.recurrent.bias is None else flat(cell.recurrent.bias)
    theirs.load_state_dict({"weight_ih_l0": rows(cell.inputs.weight), "weight_hh_l0": rows(cell.recurrent.weight),
                            "bias_ih_l0": flat(cell.inputs.bias), "bias_hh_l0": second})
    x = np.random.default_rng(0).normal(size=(2, 20, family.width)).astype(np.float32)
    states, (wanted, last) = jax.jit(lambda cell, x: cell(x))(cell, jnp.asarray(x)), theirs(torch.from_numpy(x))
    assert_allclose(states[0], wanted.detach(), atol=2e-6)
    for ours, state in zip(states, last if name == "lstm" else [last], strict=True):
        assert_allclose(ours[:, -1], state[0].detach(), atol=2e-6)


def test_the_bias_of_the_gate_that_forgets_begins_at_one_and_the_others_at_zero():
    for cell in CELLS:
        biases = RecurrentCell(dataclasses.replace(SMALL, cell=cell), jnp.zeros).inputs.bias[...]
        wanted = np.zeros(biases.shape)
        if cell in FORGETS:
            wanted[FORGETS[cell]] = 1
        np.testing.assert_array_equal(biases, wanted)


def test_dropout_depends_on_the_key_and_the_number_of_an_example_and_not_on_the_batch():
    family = dataclasses.replace(SMALL, dropout=0.4)
    params, batch = random_params(family), family.example_batch(4, jax.random.key(1))
    batch |= {"example": jnp.arange(4)}

    def of(rows, key):
        return float(loss_of(family, params, {name: x[rows] for name, x in batch.items()}, jax.random.key(key)))

    whole = of(slice(None), 0)
    assert whole == pytest.approx((of(slice(2), 0) + of(slice(2, 4), 0)) / 2, rel=1e-5) and whole != of(slice(None), 1)
    evaluate = jax.jit(lambda family, batch: family.evaluate(params, batch, None), static_argnums=0)
    assert_same(evaluate(family, batch), evaluate(SMALL, batch), rtol=0, atol=0)


def test_dropout_keeps_the_mean_and_drops_its_share():
    x = jnp.ones((40, 50, 20))
    dropped = nn.dropout(x, 0.3, jax.random.key(0), jnp.arange(40))
    assert abs(float((dropped == 0).mean()) - 0.3) < 0.01 and abs(float(dropped.mean()) - 1) < 0.015
    assert len({row.tobytes() for row in np.asarray(dropped)}) == 40


@pytest.mark.parametrize("changes", [pytest.param({}, marks=pytest.mark.slow), {"cell": "mingru", "width": 64},
                                     {"tied": True, "width": 64}], ids=str)
def test_the_first_loss_is_that_of_a_uniform_guess(changes):
    family = dataclasses.replace(SMALL, vocab=256, **changes)
    batch = family.example_batch(32, jax.random.key(1))
    loss = jax.jit(lambda key: family.loss(family.init(key), batch, None)[0])(jax.random.key(0))
    assert abs(float(loss) - math.log(256)) < 0.1


@pytest.mark.parametrize("cell", ["lstm", "mingru"])
def test_the_ladder_ascends_and_is_near_the_wanted_size(cell):
    wanted = np.geomspace(5e3, 1e8, 12)
    families = [Recurrent.ladder(size, cell=cell) for size in wanted]
    got = np.array([cost.param_count(family)["non_embedding"] for family in families])  # allocates nothing
    assert np.all(np.diff(got) > 0)
    assert np.all(np.abs(got / wanted - 1) <= 0.35) and np.all(np.abs(got / wanted - 1)[wanted >= 1e6] <= 0.15)
    shapes = np.array([(family.width, family.layers) for family in families])
    assert np.all(shapes[:, 0] % 4 == 0) and np.all(np.diff(shapes, axis=0)[:, 1] >= -1)
    assert Recurrent.ladder(1e5, cell=cell, layers=1).layers == 1


@pytest.mark.parametrize("wrong,message", [({"cell": "ltsm"}, "nearest: lstm"), ({"dropout": 1.0}, "below 1"),
                                           ({"unroll": 0}, "from 1 to")], ids=str)
def test_wrong_values_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Recurrent(**wrong)
