"""Options of the Transformer that change what training minimises: dropout, the z-loss, and capped logits."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sources import tiny

from scaling import nn
from scaling.families.transformer import Transformer
from scaling.training.step import TRUNK, init_state, train_step

SMALL = Transformer(vocab=31, length=12, width=16, layers=2, heads=2)
DROPPED = dataclasses.replace(SMALL, dropout=0.4)


@functools.cache
def params():
    """Parameters without special values, so that every branch writes something."""
    with jax.ensure_compile_time_eval():  # also where a test is traced
        leaves, treedef = jax.tree.flatten(jax.jit(SMALL.init)(jax.random.key(0)))
        noise = [np.sin(7.0 * np.arange(x.size) + i).reshape(x.shape).astype(np.float32) for i, x in enumerate(leaves)]
        return jax.tree.unflatten(treedef, [jnp.asarray(np.asarray(x) + 0.2 * n) for x, n in zip(leaves, noise)])


@functools.cache
def drawn(size):
    with jax.ensure_compile_time_eval():
        return SMALL.example_batch(size, jax.random.key(1))


def batch_of(size=4):
    return drawn(size) | {"example": jnp.arange(size)}


@functools.partial(jax.jit, static_argnums=0)
def loss_and_grads(family, params, batch, key):
    return jax.value_and_grad(lambda p: family.loss(p, batch, key), has_aux=True)(params)


@functools.partial(jax.jit, static_argnums=0)
def evaluated(family, batch):
    return family.evaluate(params(), batch, None)


@functools.partial(jax.jit, static_argnums=0)
def logits_of(family, tokens):
    return family.logits(params(), tokens)


def assert_same(a, b, **tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert_allclose(x, y, **(tolerance or {"rtol": 1e-5, "atol": 1e-6}))


# -------------------------------------------------------------------------------------------- dropout


def test_dropout_depends_on_the_key_and_the_number_of_an_example_and_not_on_the_batch():
    batch = batch_of()

    def of(rows, key):
        part = {name: x[rows] for name, x in batch.items()}
        return float(loss_and_grads(DROPPED, params(), part, jax.random.key(key))[0][0])

    whole = of(slice(None), 0)
    assert whole == pytest.approx((of(slice(2), 0) + of(slice(2, 4), 0)) / 2, rel=1e-5) and whole != of(slice(None), 1)


def test_evaluation_has_no_dropout():
    assert_same(evaluated(DROPPED, batch_of()), evaluated(SMALL, batch_of()), rtol=0, atol=0)


@pytest.mark.parametrize("how", [{}, {"scan": False}, {"remat": "full"}], ids=str)
def test_no_dropout_is_the_program_without_randomness(how):
    """No random bits are drawn at 0. At 0.4 they are, as many however the layers run."""
    batch = batch_of()

    def draws(dropout):
        family = dataclasses.replace(SMALL, dropout=dropout, **how)
        text = str(jax.make_jaxpr(lambda p, key: family.loss(p, batch, key)[0])(params(), jax.random.key(0)))
        return text.count("random_bits")

    assert draws(0.0) == 0 and draws(0.4) > 0
    family = dataclasses.replace(DROPPED, **how)
    one, other = (loss_and_grads(f, params(), batch_of(), jax.random.key(3)) for f in (family, DROPPED))
    assert_same(one, other)


def test_dropout_keeps_the_mean_of_what_is_written():
    """Where the branches write nothing, what leaves the last layer is what the embeddings wrote."""
    family = dataclasses.replace(DROPPED, layers=1)
    tokens, examples = batch_of(2)["tokens"][:, :-1], jnp.arange(2)

    @jax.jit
    def hidden(keys):
        module = family.module(family.init(jax.random.key(0)))
        module.layers.attention.out.weight[...] *= 0  # the two branches write nothing: the embeddings are left
        module.layers.mlp.down.weight[...] *= 0
        found = jax.lax.map(lambda key: module.hidden(tokens, (key, examples)), keys, batch_size=400)
        return found, module.hidden(tokens)
    found, whole = hidden(jax.random.split(jax.random.key(5), 4000))
    assert_allclose(found.mean(0), whole, atol=5 * 0.82 * float(jnp.abs(whole).max()) / 4000**0.5)
    assert set(np.unique(np.round(np.asarray(found[:20]) / np.asarray(whole), 3))) == {0.0, np.float32(1.667)}


def test_every_branch_and_the_embedding_have_masks_of_their_own(monkeypatch):
    keys, plain = [], nn.dropout

    def noted(x, rate, key, examples):
        jax.debug.callback(keys.append, jax.random.key_data(key))
        return plain(x, rate, key, examples)

    monkeypatch.setattr(nn, "dropout", noted)
    jax.jit(lambda key: DROPPED.loss(params(), batch_of(2), key)[0])(jax.random.key(0)).block_until_ready()
    jax.effects_barrier()
    assert len(np.unique(np.stack(keys), axis=0)) == len(keys) == 1 + 2 * SMALL.layers


# --------------------------------------------------------------------------------- z-loss and capped logits


@pytest.mark.parametrize("way", ["whole", pytest.param("blocks", marks=pytest.mark.slow)])
def test_the_z_loss_is_differentiated_and_not_reported(way):
    plain, penalised = (dataclasses.replace(SMALL, cross_entropy=way, z_loss=z) for z in (0.0, 0.3))
    log_sums = jax.nn.logsumexp(logits_of(SMALL, batch_of()["tokens"][:, :-1]), axis=-1)
    (loss, metrics), _ = loss_and_grads(plain, params(), batch_of(), None)
    (total, found), grads = loss_and_grads(penalised, params(), batch_of(), None)
    assert set(metrics) == {"loss"} and set(found) == {"loss", "z_loss"}
    assert_allclose(found["loss"], loss, rtol=1e-6)
    assert_allclose(found["z_loss"], jnp.square(log_sums).mean(), rtol=1e-5)
    assert_allclose(total, loss + 0.3 * found["z_loss"], rtol=1e-6)
    assert_same(evaluated(penalised, batch_of()), evaluated(plain, batch_of()), rtol=0, atol=0)

    def by_hand(p):
        logits = plain.logits(p, batch_of()["tokens"][:, :-1])
        return plain.loss(p, batch_of(), None)[0] + 0.3 * jnp.square(jax.nn.logsumexp(logits, axis=-1)).mean()
    assert_same(grads, jax.jit(jax.grad(by_hand))(params()), rtol=1e-4, atol=1e-5)


def test_training_reports_the_loss_without_its_penalties():
    of_family = tiny("transformer").replace({"family": SMALL})
    state = jax.jit(lambda: init_state(of_family))()  # the same with a z-loss

    def step(family):
        e = of_family.replace({"family": family})
        return jax.jit(lambda s: train_step(e, TRUNK, s, batch_of(8)))(state)

    (plain, metrics), (moved, found) = (step(dataclasses.replace(SMALL, z_loss=z)) for z in (0.0, 0.5))
    assert_allclose(found["loss"], metrics["loss"], rtol=1e-6)
    assert found["z_loss"] > 1 and found["grad_norm"] != metrics["grad_norm"]
    assert any(bool((a != b).any()) for a, b in zip(jax.tree.leaves(plain.params), jax.tree.leaves(moved.params)))


CAPPED = {"logit_cap": 2.0, "z_loss": 0.2, "logit_scale": 0.5}


@pytest.mark.parametrize("changes", [CAPPED | {"tied": True}, *(pytest.param(some, marks=pytest.mark.slow) for some in (
    {"logit_cap": 1.5}, CAPPED, {"z_loss": 0.2, "tied": True}))], ids=str)
def test_blocks_of_the_vocabulary_give_the_same_loss_and_gradients(changes):
    family = dataclasses.replace(SMALL, **changes)
    start = jax.tree.map(lambda x: x + 0.2 * np.sin(7.0 * np.arange(x.size, dtype=np.float32)).reshape(x.shape),
                         jax.jit(family.init)(jax.random.key(0)))
    ways = [dataclasses.replace(family, cross_entropy=way) for way in ("whole", "blocks")]
    one, other = (loss_and_grads(f, start, batch_of(), None) for f in ways)
    assert_same(one, other, rtol=1e-4, atol=1e-5)
    evaluations = [jax.jit(lambda p, f=f: f.evaluate(p, batch_of(), None))(start) for f in ways]
    assert_same(*evaluations, rtol=1e-5, atol=1e-6)


def test_capped_logits_stay_below_the_cap_and_small_ones_stay_as_they_are():
    tokens = batch_of()["tokens"][:, :-1]
    plain, close, wide = (logits_of(dataclasses.replace(SMALL, logit_cap=cap), tokens) for cap in (0.0, 0.5, 1e4))
    assert float(jnp.abs(plain).max()) > 0.5 > float(jnp.abs(close).max())
    assert_allclose(close, 0.5 * np.tanh(np.asarray(plain) / 0.5), rtol=1e-5, atol=1e-6)
    assert_allclose(wide, plain, rtol=1e-4, atol=1e-5)
    assert bool((close.argmax(-1) == plain.argmax(-1)).all())
