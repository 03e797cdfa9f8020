"""The masked language model: what sees what, padding, which tokens are masked, its metrics, and its ladder."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from scaling import cost
from scaling.experiment import Labelled, Start, Text, config, from_config, taken
from scaling.families._masked import bert_words, chosen_places, real_tokens
from scaling.families.masked import EVALUATED, EXAMINED, Masked
from scaling.fields import ConfigError
from scaling.study.baselines import compares_with_ngrams
from scaling.study.checks import _check_family_fields, _evaluated
from scaling.training.evaluation import means

SMALL = Masked(vocab=31, length=12, width=16, layers=2, heads=2)
CLASSES = dataclasses.replace(SMALL, classes=5)
VARIANTS = {
    "default": {}, "layernorm": {"norm": "layernorm", "biases": True}, "learned": {"positions": "learned"},
    "gelu": {"activation": "gelu", "mlp": 64}, "no_qk_norm": {"qk_norm": False}, "tied": {"tied": True},
    "remat": {"remat": "full"}, "unrolled": {"scan": False}, "bfloat16": {"dtype": "bfloat16"}, "all": {"replace": "all"},
    "blocks": {"cross_entropy": "blocks"}, "first": {"pooling": "first"},
}


def variant(names, family=SMALL):
    return dataclasses.replace(family, **{k: v for name in names.split() for k, v in VARIANTS[name].items()})


@functools.partial(jax.jit, static_argnums=0)
def random_params(family):
    """Parameters without special values: scales are not one and biases are not zero."""
    leaves, treedef = jax.tree.flatten(family.init(jax.random.key(0)))
    noise = [jnp.sin(7.0 * jnp.arange(x.size) + i).reshape(x.shape) for i, x in enumerate(leaves)]
    return jax.tree.unflatten(treedef, [x + 0.4 * n for x, n in zip(leaves, noise)])


def batch_of(family, size, first=0):
    return {**family.example_batch(size, jax.random.key(1)), "example": first + jnp.arange(size, dtype=jnp.int32)}


@functools.partial(jax.jit, static_argnums=0)
def loss_and_grads(family, params, batch, key):
    return jax.value_and_grad(lambda p: family.loss(p, batch, key)[0])(params)


@functools.partial(jax.jit, static_argnums=0)
def loss_of(family, params, batch, key):
    return family.loss(params, batch, key)[0]


@functools.partial(jax.jit, static_argnums=0)
def log_chances(family, params, tokens, masked):
    """Of every token at every position, where those marked in `masked` are hidden."""
    module = family.module(params)
    return jax.nn.log_softmax(module.logits(module.read(tokens, masked)))


@functools.partial(jax.jit, static_argnums=0)
def evaluate(family, params, batch, key):
    return family.evaluate(params, batch, key)


def assert_same(a, b, rtol=1e-4, atol=1e-5):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert_allclose(x, y, rtol=rtol, atol=atol)


@pytest.mark.parametrize("names", ["default", "no_qk_norm tied remat unrolled", *(
    pytest.param(names, marks=pytest.mark.slow) for names in ("layernorm learned gelu", "bfloat16"))])
def test_every_position_sees_every_token_that_is_not_masked_and_no_masked_one(names):
    """By the gradient of logits by the table, of which each token here has a row of its own."""
    family = variant(names)
    tokens, params = jnp.arange(1, 13)[None], random_params(family)
    places = jnp.array([[3, 7, 8]])

    def at_places(table):
        module = family.module(params)
        module.embed.weight = type(module.embed.weight)(table, **module.embed.weight.get_metadata())
        readout = family.module(params)  # a tied table would see every token as a word
        return readout.logits(module.read_at(tokens, places))[0, :, :4]

    table = family.module(params).embed.weight[...]
    depends = np.asarray((jax.jit(jax.jacobian(at_places))(table) != 0).any((1, 3)))  # [masked positions, tokens]
    want = np.ones(12, bool)
    want[np.asarray(places)] = False
    assert (depends[:, 1:13] == want[None]).all() and not depends[:, [0, *range(13, 31)]].any()


@pytest.mark.parametrize("names", ["tied learned", *(
    pytest.param(names, marks=pytest.mark.slow) for names in ("default", "bfloat16"))])
def test_a_masked_token_changes_no_prediction_at_all(names):
    family = variant(names)
    module, places = family.module(random_params(family)), jnp.array([[3, 7]])
    logits = jax.jit(lambda tokens: module.logits(module.read_at(tokens, places)))
    tokens = batch_of(family, 1)["tokens"][:, 1:]
    plain = logits(tokens)
    assert jnp.array_equal(logits(tokens.at[:, jnp.array([3, 7])].add(1)), plain)
    for other in (0, 4, 11):
        assert bool((logits(tokens.at[:, other].set((tokens[:, other] + 1) % 31)) != plain).any(-1).all())


@pytest.mark.parametrize("mask, replace, words, masked", [(0.15, "bert", 0.1, 0.8), (0.3, "bert", 0.1, 0.8),
                                                         (0.4, "all", 0.0, 1.0)])
def test_the_shares_of_masks_are_those_of_the_recipe(mask, replace, words, masked):
    key, examples, vocab = jax.random.key(3), jnp.arange(600, dtype=jnp.int32), 1000
    places = np.asarray(chosen_places(key, examples, 100, mask))
    assert places.shape == (600, round(100 * mask)) and all(len(set(row)) == len(row) for row in places)
    counts = np.bincount(places.ravel(), minlength=100) / 600  # every position is as likely
    assert abs(counts - mask).max() < 5 * math.sqrt(mask * (1 - mask) / 600)
    if replace == "bert":
        own = jnp.full(places.shape, vocab - 1)
        seen, hidden = map(np.asarray, bert_words(key, examples, own, vocab))
        error = 5 * math.sqrt(0.25 / places.size)
        assert abs(hidden.mean() - masked) < error and abs((~hidden & (seen != vocab - 1)).mean() - words) < error
        drawn = seen[~hidden & (seen != vocab - 1)]
        assert drawn.min() >= 0 and abs(drawn.mean() / vocab - 0.5) < 0.05
    same = chosen_places(key, examples[7:9], 100, mask)  # of the number of the example alone
    assert (np.asarray(same) == places[7:9]).all() and (places[7] != places[8]).any()
    assert chosen_places(key, examples, 2, 0.15).shape == (600, 1)


def test_training_draws_other_masks_for_every_key_and_bert_differs_from_all():
    half = dataclasses.replace(SMALL, mask=0.5)
    params, batch = random_params(SMALL), batch_of(SMALL, 4)
    losses = {float(loss_of(family, params, batch, jax.random.key(seed)))
              for family in (half, dataclasses.replace(half, replace="all")) for seed in (0, 1)}
    assert len(losses) == 4


@pytest.mark.parametrize("family,names", [
    pytest.param(family, names, id=f"{kind}-{names}", marks=[] if quick else [pytest.mark.slow])
    for kind, family, names, quick in (
        ("text", SMALL, "unrolled blocks", True), ("labelled", CLASSES, "remat", True), ("text", SMALL, "unrolled", False),
        ("text", SMALL, "remat", False), ("text", SMALL, "blocks", False), ("labelled", CLASSES, "unrolled", False))])
def test_ways_to_run_are_the_same_function(family, names):
    params, batch, key = random_params(family), batch_of(family, 4), jax.random.key(2)
    assert_same(loss_and_grads(variant(names, family), params, batch, key), loss_and_grads(family, params, batch, key))


@pytest.mark.parametrize("names", ["default", *(pytest.param(name, marks=pytest.mark.slow) for name in (
    "first", "layernorm tied", "bfloat16 remat"))])
def test_padding_changes_nothing(names):
    """Neither the metrics nor any gradient depend on how far a text is padded, and no gradient reaches the padding."""
    long = dataclasses.replace(variant(names, CLASSES), length=20)
    params, key = random_params(long), jax.random.key(0)
    text = jnp.array([[5, 6, 7, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 7, 0], [9] * 8, [0] * 8])
    batch = {"text": text, "label": jnp.array([0, 4, 2, 3]), "example": jnp.arange(4)}
    batch["text"] = jnp.where(jnp.arange(8)[None] < jnp.array([[8], [8], [7], [8]]), text, 0)
    padded = {**batch, "text": jnp.pad(batch["text"], [(0, 0), (0, 12)])}
    rough = dict(rtol=0.1, atol=0.02) if "bfloat16" in names else {}
    assert_same(evaluate(long, params, padded, key), evaluate(long, params, batch, key), **rough)
    assert_same(loss_and_grads(long, params, padded, key), loss_and_grads(long, params, batch, key), **rough)
    module, real = long.module(params), real_tokens(padded["text"])
    assert np.asarray(real.sum(-1)).tolist() == [4, 8, 8, 1]

    def pooled(x):  # embeddings in place of tokens
        from scaling.families._encoder import encode
        return jnp.where(real[..., None], encode(long, module.layers, x, real), 0).sum((0, 1))

    x = jax.random.normal(jax.random.key(1), (4, 20, 16))
    depends = np.asarray((jax.jit(jax.jacobian(pooled))(x) != 0).any((0, 3)))
    assert (depends == np.asarray(real)).all()


def test_evaluation_is_deterministic_paired_and_independent_of_batches_and_of_how_a_run_masks():
    params, batch, key = random_params(SMALL), batch_of(SMALL, 6), jax.random.key(0)
    batch["bytes"] = jax.random.randint(jax.random.key(4), batch["bytes"].shape, 0, 5)
    whole = evaluate(SMALL, params, batch, key)
    halves = [evaluate(SMALL, params, {k: v[s] for k, v in batch.items()}, key) for s in (slice(3), slice(3, 6))]
    assert_same(jax.tree.map(lambda *x: jnp.concatenate(x), *halves), whole)
    for other in (variant("all"), dataclasses.replace(SMALL, mask=0.5, dropout=0.5)):
        assert_same(evaluate(other, params, batch, key), whole, rtol=0, atol=0)
    places = chosen_places(key, batch["example"], SMALL.length, EVALUATED)
    targets = np.take_along_axis(np.asarray(batch["tokens"][:, 1:]), np.asarray(places), 1)

    @jax.jit
    def chances_at(params):
        module = SMALL.module(params)
        return jax.nn.log_softmax(module.logits(module.read_at(batch["tokens"][:, 1:], places)))

    nats = -np.take_along_axis(np.asarray(chances_at(params)), targets[..., None], -1)[..., 0].sum(-1)
    assert_allclose(whole["loss"].over, nats / places.shape[1], rtol=1e-4)
    assert_allclose(whole["bits_per_byte"].over, nats / math.log(2), rtol=1e-4)
    assert_allclose(whole["bits_per_byte"].under,
                    np.take_along_axis(np.asarray(batch["bytes"]), np.asarray(places), 1).sum(-1))
    assert set(means(whole)) == {f"{name}{end}" for name in ("loss", "accuracy", "bits_per_byte") for end in ("", "_se")}
    assert "bits_per_byte" not in evaluate(SMALL, params, {k: batch[k] for k in ("tokens", "example")}, key)


def test_the_exact_pseudo_likelihood_masks_each_token_alone():
    family, params = SMALL, random_params(SMALL)
    batch = batch_of(family, 4)
    found = jax.jit(family.examine)(params, batch, jax.random.key(0))
    tokens = np.asarray(batch["tokens"][:EXAMINED, 1:])
    wanted = []
    for place in range(family.length):
        masked = np.zeros(tokens.shape, bool)
        masked[:, place] = True
        chances = np.asarray(log_chances(family, params, tokens, masked))[:, place]
        wanted.append(-np.take_along_axis(chances, tokens[:, place, None], 1)[:, 0])
    nats = np.stack(wanted).sum(0)
    assert_allclose(found["pseudo_bits_per_byte"].over, nats / math.log(2), rtol=1e-4)
    assert_allclose(found["pseudo_bits_per_byte"].under, [family.length] * EXAMINED)
    assert_allclose(found["pseudo_loss"].over, nats / family.length, rtol=1e-4)
    assert CLASSES.examine(random_params(CLASSES), batch_of(CLASSES, 4), None) == {}


def test_dropout_depends_on_the_key_and_the_example_and_is_off_in_evaluation():
    family = dataclasses.replace(CLASSES, dropout=0.3)
    params, batch, key = random_params(family), batch_of(family, 2), jax.random.key(0)
    losses = [float(loss_of(family, params, b, k)) for b, k in (
        (batch, key), (batch, key), (batch, jax.random.key(1)), ({**batch, "example": jnp.array([5, 6])}, key))]
    assert losses[0] == losses[1] and len(set(losses)) == 3
    assert_same(evaluate(family, params, batch, key), evaluate(CLASSES, params, batch, key), rtol=0, atol=0)


@pytest.mark.parametrize("family", [SMALL, CLASSES, variant("tied"), *(
    pytest.param(variant(name, CLASSES), marks=pytest.mark.slow) for name in ("tied", "first"))])
def test_the_first_loss_is_that_of_a_uniform_guess(family):
    family = dataclasses.replace(family, width=128, heads=None, head_dim=None, mlp=None)
    loss, _ = jax.jit(lambda key: family.loss(family.init(key), batch_of(family, 32), key))(jax.random.key(0))
    assert abs(float(loss) - math.log(family.classes or family.vocab)) < 0.2


def test_the_mode_follows_the_data():
    e = from_config(config("masked", **{"family.size": 1e4}))
    assert isinstance(e.data, Text) and e.family.classes == 0
    tuned = from_config(config("masked", "labelled", **{"family.size": 1e4, "data.classes": 7}))
    assert isinstance(tuned.data, Labelled) and tuned.family.classes == 7
    assert e.replace({"data": Labelled(classes=4)}).family.classes == 4
    assert tuned.replace({"data": Text()}).family.classes == 0
    with pytest.raises(ConfigError, match="family.classes=3 is not the 0 of the data"):
        _check_family_fields(e.replace({"family.classes": 3}))
    assert not compares_with_ngrams(e)
    found = set(_evaluated(tuned.family, False, False))
    assert {"macro_f1", "macro_f1_se", "calibration_error", "loss", "accuracy_se"} <= found
    assert not any(name.startswith("_") for name in found)
    takes = {f"model/{name}": f"model/{name}" for name in ("layers", "embed", "norm")}
    found = taken(tuned.replace({"start": Start(e, takes)}))
    assert "model/embed/weight" in found and not any("head" in path for path in found)


@pytest.mark.parametrize("wrong, says", [({"mask": 0.0}, "mask"), ({"mask": 1.0}, "mask"), ({"replace": "none"}, "bert"),
                                         ({"heads": 64}, "heads"), ({"pooling": "max"}, "mean"),
                                         ({"width": 18, "heads": 2}, "even for rotary")])
def test_wrong_fields_are_refused_by_name(wrong, says):
    with pytest.raises(ConfigError, match=says):
        Masked(**{"width": 16, **wrong})


def test_the_ladder_is_smooth_and_close_to_the_sizes_asked_for():
    counted = [cost.param_count(Masked.ladder(size))["non_embedding"] for size in Masked.sizes()]
    for size, count in zip(Masked.sizes(), counted, strict=True):
        assert abs(count / size - 1) < (0.35 if size < 1e6 else 0.15)
    assert counted == sorted(counted) and counted[0] < 7e3 and counted[-1] > 1e8
    assert Masked.ladder(1e6, layers=4).layers == 4
