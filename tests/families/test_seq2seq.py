"""The encoder-decoder Transformer: what sees what, padding, generation, smoothed labels, and its ladder of sizes."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from scaling import cost, nn
from scaling.families._beam import beam_search
from scaling.families._encoder import encode
from scaling.families._generate import generate
from scaling.families._pairs import smoothed_cross_entropy, written
from scaling.families.seq2seq import Seq2Seq

SMALL = Seq2Seq(vocab=31, source_length=9, length=8, width=16, heads=2)
VARIANTS = {"default": {}, "layernorm": {"norm": "layernorm", "biases": True}, "gelu": {"activation": "gelu", "mlp": 64},
            "no_qk_norm": {"qk_norm": False}, "tied": {"tied": True}, "apart": {"shared": False, "tied": True},
            "grouped": {"kv_heads": 1}, "deep encoder": {"encoder_layers": 3, "layers": 1},
            "unrolled": {"scan": False, "remat": "full", "cross_entropy": "blocks", "attention": "xla"},
            "smooth": {"label_smoothing": 0.1}, "bfloat16": {"dtype": "bfloat16"}}


def slow(*names):
    """A case whose parts other cases have."""
    return pytest.param(list(names), marks=pytest.mark.slow)


def variant(*names):
    return dataclasses.replace(SMALL, **{k: v for name in names for k, v in VARIANTS[name].items()})


@functools.partial(jax.jit, static_argnums=0)
def random_params(family):
    """Parameters without special values: scales are not one and biases are not zero."""
    leaves, treedef = jax.tree.flatten(family.init(jax.random.key(0)))
    noise = [jnp.sin(7.0 * jnp.arange(x.size) + i).reshape(x.shape) for i, x in enumerate(leaves)]
    return jax.tree.unflatten(treedef, [x + 0.4 * n for x, n in zip(leaves, noise)])


@functools.partial(jax.jit, static_argnums=0)
def loss_of(family, params, batch, key=None):
    return family.loss(params, batch, key)[0]


@functools.partial(jax.jit, static_argnums=0)
def evaluated(family, params, batch):
    return family.evaluate(params, batch, None)


@functools.partial(jax.jit, static_argnums=0)
def loss_and_grads(family, params, batch, key=None):
    return jax.value_and_grad(lambda p: family.loss(p, batch, key)[0])(params)


def assert_same(a, b, rtol=1e-4, atol=1e-5):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert_allclose(x, y, rtol=rtol, atol=atol)


@functools.cache
def drawn(family, size):
    return jax.jit(lambda key: family.example_batch(size, key))(jax.random.key(1))


def batch_of(family, size):
    """As NumPy arrays, whose slices need no program."""
    return {name: np.asarray(x) for name, x in drawn(family, size).items()}


def texts(batch):
    """Sources without their ends."""
    return [row[row != 0] for row in np.asarray(batch["source"])]


@pytest.mark.parametrize("names", [slow("default"), ["layernorm", "gelu", "apart"], slow("no_qk_norm", "tied", "grouped"),
                                   ["unrolled", "deep encoder"], slow("bfloat16")], ids=" ".join)
def test_logits_depend_on_the_whole_source_and_on_targets_up_to_their_own_place(names):
    family = variant(*names)
    network, source = family.module(random_params(family)), np.array([[3, 5, 7, 2, 9, 0, 0, 0, 0]])
    tokens, positions = np.array([[0, 4, 6, 8, 1, 2, 3, 5]]), jnp.arange(8)[None]
    table = network.embed if network.source_embed is None else network.source_embed

    def logits(source_vectors, target_vectors):
        encodings = encode(family.of_encoder, network.encoder, source_vectors, written(source))
        x = network.run(target_vectors, positions, written(source), network.source_norm(encodings))[0]
        return network.logits(x)[0, :, :4], encodings[0]

    jacobian = jax.jit(jax.jacobian(logits, (0, 1)))(table(source).astype("float32"), network.embed_at(tokens))
    (of_source, of_target), (encoded, nothing) = [[(x != 0).any((1, 2, -1)) for x in pair] for pair in jacobian]
    assert np.array_equal(of_target, np.tril(np.ones((8, 8))))
    assert of_source[:, :6].all() and not of_source[:, 6:].any()  # five tokens and their end
    assert encoded[:6, :6].all() and not encoded[:6, 6:].any() and not nothing.any()


@pytest.mark.parametrize("names", [["default"], slow("smooth", "apart"), slow("unrolled")], ids=" ".join)
def test_padding_changes_nothing(names):
    """The loss is over places, so the sum of nats is compared."""
    family = variant(*names)
    params, batch = random_params(family), batch_of(family, 5)
    longer = dataclasses.replace(family, source_length=13, length=11)
    padded = {name: np.pad(batch[name], ((0, 0), (0, more))) for name, more in (("source", 4), ("target", 3), ("bytes", 3))}
    total, other = ([x * places for x in jax.tree.leaves(loss_and_grads(f, params, b))] for f, b, places in (
        (family, batch, 8), (longer, padded, 11)))
    assert_same(total, other)
    assert_same(evaluated(family, params, batch), evaluated(family, params, padded))
    assert sum(map(len, texts(batch))) < 5 * 8 and float(total[0]) > 0


def test_a_loss_counts_each_token_once_and_evaluation_is_by_token_and_byte():
    family = SMALL
    params, batch = random_params(family), batch_of(family, 6)
    batch["bytes"] = batch["bytes"] * np.random.default_rng(1).integers(1, 5, batch["bytes"].shape, np.int32)
    logits = jax.jit(lambda *given: jax.nn.log_softmax(family.logits(*given)))(
        params, batch["source"], batch["target"][:, :-1])
    nats = hits = count = 0
    for row, target in zip(np.asarray(logits), np.asarray(batch["target"])):
        for place, token in enumerate([*target[1:][target[1:] != 0].tolist(), 0]):
            nats, hits, count = nats - row[place, token], hits + (row[place].argmax() == token), count + 1
    assert_allclose(loss_of(family, params, batch), nats / (6 * family.length), rtol=1e-5)
    found = {name: float(each.over.sum() / each.under.sum()) for name, each in evaluated(family, params, batch).items()}
    wanted = {"loss": nats / count, "accuracy": hits / count,
              "bits_per_byte": nats / math.log(2) / float(batch["bytes"].sum())}
    assert found == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("name", ["default", pytest.param("smooth", marks=pytest.mark.slow)])
def test_the_loss_of_a_batch_is_the_mean_of_those_of_its_parts(name):
    family = variant(name)
    params, batch = random_params(family), batch_of(family, 8)
    parts = [loss_and_grads(family, params, {k: v[i:i + 2] for k, v in batch.items()}) for i in range(0, 8, 2)]
    assert_same(jax.tree.map(lambda *x: sum(map(np.asarray, x)) / 4, *parts), loss_and_grads(family, params, batch))


@pytest.mark.slow
def test_ways_to_run_are_the_same_function():
    batch, params = SMALL.example_batch(4, jax.random.key(1)), random_params(SMALL)
    assert_same(loss_and_grads(variant("unrolled"), params, batch), loss_and_grads(SMALL, params, batch))


@pytest.mark.slow
def test_bfloat16_is_close_to_float32_and_keeps_float32_parameters_and_logits():
    low, batch = variant("bfloat16"), SMALL.example_batch(16, jax.random.key(1))
    params = jax.jit(low.init)(jax.random.key(0))
    logits, _ = jax.eval_shape(lambda: low.begin(params, batch["source"], jnp.full(16, 9), 12))
    assert {x.dtype for x in jax.tree.leaves((params, logits))} == {jnp.dtype("float32")}
    (loss, grads), (wanted, wanted_grads) = (loss_and_grads(family, params, batch) for family in (low, SMALL))
    assert_allclose(loss, wanted, rtol=2e-3)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(wanted_grads), strict=True):
        assert float(jnp.linalg.norm(a - b)) < 0.06 * float(jnp.linalg.norm(b)) + 1e-6


@pytest.mark.parametrize("names", [slow("default"), ["apart", "grouped", "deep encoder"]], ids=" ".join)
def test_samples_are_greedy_end_with_zeros_and_do_not_depend_on_each_other(names):
    family = dataclasses.replace(variant(*names), vocab=5)  # so that many texts end
    sharper = jax.jit(lambda key: jax.tree.map(lambda x: 3 * x, family.init(key)))  # than at first
    params = sharper(jax.random.key(7))
    batch = batch_of(family, 12)
    sample = jax.jit(family.sample)
    found = np.asarray(sample(params, batch, jax.random.key(0)))
    assert found.shape == (12, family.length) and found.dtype == np.int32 and len({row.tobytes() for row in found}) > 6
    ends = written(found)
    assert not found[~ends].any() and (~ends).sum() > 0
    rows = [row[row != 0].tolist() for row in found]
    for writer in (functools.partial(generate, temperature=0), functools.partial(beam_search, beam=1)):
        assert [row.tolist() for row in writer(family, params, texts(batch), max_tokens=family.length, stop=[0])] == rows
    alone = {name: x[3:4] for name, x in batch.items()}
    assert np.array_equal(sample(params, alone, jax.random.key(9))[0], found[3])


def test_a_source_may_be_given_with_its_end_or_without_and_longer_than_those_of_training():
    params = random_params(SMALL)
    sources = [[3, 4, 5], list(range(1, 15))]
    found, ended = (generate(SMALL, params, prompts, max_tokens=12, temperature=0) for prompts in (
        sources, [source + [0] for source in sources]))
    assert [row.tolist() for row in found] == [row.tolist() for row in ended] and len(found[1]) == 12


def test_smoothed_labels_are_best_met_by_their_own_probabilities():
    """The loss is then the entropy of what is asked for, and its gradient is zero."""
    vocab, smoothing = 7, 0.2
    wanted = np.full(vocab, smoothing / vocab)
    wanted[3] += 1 - smoothing
    value, slope = jax.jit(jax.value_and_grad(lambda logits: smoothed_cross_entropy(logits, jnp.int32(3), smoothing)))(
        np.float32(np.log(wanted) + 1.5))
    assert_allclose(value, -(wanted * np.log(wanted)).sum(), rtol=1e-5)
    assert_allclose(slope, 0, atol=1e-6)
    logits = jax.random.normal(jax.random.key(0), (5, vocab))
    assert_allclose(*jax.jit(lambda x: (smoothed_cross_entropy(x, jnp.arange(5), 0.0), nn.cross_entropy(x, jnp.arange(5))))(
        logits), rtol=1e-6)
    params, batch = random_params(SMALL), batch_of(SMALL, 4)
    assert loss_of(variant("smooth"), params, batch) != loss_of(SMALL, params, batch)
    assert_same(evaluated(variant("smooth"), params, batch), evaluated(SMALL, params, batch))


def test_dropout_depends_on_the_key_and_the_number_of_an_example_and_not_on_the_batch():
    family = dataclasses.replace(SMALL, dropout=0.4)
    params, batch = random_params(family), batch_of(family, 4) | {"example": np.arange(4, dtype=np.int32)}

    def of(rows, key):
        return float(loss_of(family, params, {name: x[rows] for name, x in batch.items()}, jax.random.key(key)))

    whole = of(slice(None), 0)
    assert whole == pytest.approx((of(slice(2), 0) + of(slice(2, 4), 0)) / 2, rel=1e-5) and whole != of(slice(None), 1)
    assert_same(evaluated(family, params, batch), evaluated(SMALL, params, batch))


@pytest.mark.parametrize("names", [["default"], slow("tied"), ["apart"]], ids=" ".join)
def test_the_first_loss_is_that_of_a_uniform_guess(names):
    family = dataclasses.replace(variant(*names), width=64, vocab=256, heads=None, kv_heads=None, head_dim=None, mlp=None)
    batch = batch_of(family, 32)
    found = jax.jit(lambda key: family.evaluate(family.init(key), batch, None)["loss"])(jax.random.key(0))
    assert abs(float(found.over.sum() / found.under.sum()) - math.log(256)) < 0.1


def test_the_ladder_ascends_and_is_near_the_wanted_size():
    wanted = np.geomspace(7e3, 1e11, 15)
    families = [Seq2Seq.ladder(size) for size in wanted]
    got = np.array([cost.param_count(family)["non_embedding"] for family in families])  # allocates nothing
    assert np.all(np.diff(got) >= 0) and len(np.unique(got)) >= 13
    assert np.all(np.abs(got / wanted - 1) <= 0.35) and np.all(np.abs(got / wanted - 1)[wanted >= 2e6] <= 0.15)
    assert all(f.heads * f.head_dim == f.width and f.encoder_layers == f.layers for f in families)
    assert {Seq2Seq.ladder(size, layers=2).layers for size in (2e4, 1e5, 1e6)} == {2}
    base = Seq2Seq(width=512, layers=6)
    assert Seq2Seq.ladder(cost.param_count(base)["non_embedding"]).layers == 6
    deep = Seq2Seq.ladder(1e6, encoder_layers=6)
    assert deep.encoder_layers == 6 > deep.layers and abs(cost.param_count(deep)["non_embedding"] / 1e6 - 1) < 0.2


@pytest.mark.parametrize("wrong,message", [
    ({"heads": 4, "kv_heads": 3}, "must divide"), ({"layers": 0}, "from 1 to"), ({"width": 18, "head_dim": 9}, "even for"),
    ({"label_smoothing": 1.0}, "below 1"), ({"base_layers": 2, "encoder_layers": 5}, "family.encoder_layers=2"),
    ({"source_length": 1}, "from 2 to")], ids=str)
def test_impossible_sizes_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Seq2Seq(**wrong)
