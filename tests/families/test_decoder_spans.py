"""What a token of the Transformer sees: the last tokens of a window, and its own document."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from scaling import cost
from scaling.families import _generate
from scaling.families._decoder import document_starts, init_cache
from scaling.families.transformer import Transformer
from scaling.fields import ConfigError

SMALL = Transformer(vocab=31, length=16, width=16, layers=2, heads=2)
WAYS = {"cpu": {"attention": "cpu"}, "xla": {"attention": "xla", "kv_heads": 1}, "unrolled": {"scan": False}}
DOCUMENTS = dataclasses.replace(SMALL, document_masking=True)
PACKED = np.array([[5, 6, 0, 7, 8, 9, 1, 2, 0, 0, 3, 4, 5, 6, 7, 8],
                   [0, 4, 4, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0]])


@functools.cache
def params(family):
    leaves, treedef = jax.tree.flatten(jax.jit(family.init)(jax.random.key(0)))
    noise = [np.sin(7.0 * np.arange(x.size) + i).reshape(x.shape).astype(np.float32) for i, x in enumerate(leaves)]
    return jax.tree.unflatten(treedef, [jnp.asarray(np.asarray(x) + 0.3 * n) for x, n in zip(leaves, noise)])


@functools.partial(jax.jit, static_argnums=0)
def logits_of(family, params, tokens):
    return family.logits(params, tokens)


@functools.partial(jax.jit, static_argnums=0)
def dependence(family, params, tokens):
    """bool [S, S] of one row of tokens: whether the logits of a place depend on the embedding of another."""
    module = family.module(params)
    positions = jnp.arange(tokens.size)[None]
    first = document_starts(tokens[None], positions)[:, :-1] if family.document_masking else None

    def logits(x):
        return module.logits(module.run(x, positions, first=first)[0])[0, :, :4]
    return (jax.jacobian(logits)(module.embed_at(tokens[None], positions)) != 0).any((1, 2, 4))


# --------------------------------------------------------------------------------------------- window


def slow(changes):
    """A case whose parts other cases have."""
    return pytest.param(changes, marks=pytest.mark.slow)


# Every way to compute attention has one window, and one way has those at the edges too.
@pytest.mark.parametrize("way,window,layers", [
    pytest.param(way, *case, marks=[] if case == (3, 2) or way == "cpu" and fast else [pytest.mark.slow])
    for way in WAYS for case, fast in (((1, 2), True), ((3, 1), False), ((3, 2), True), ((15, 1), True), ((16, 1), False))])
def test_a_token_sees_the_last_tokens_of_every_layer_and_no_older_one(way, window, layers):
    family = dataclasses.replace(SMALL, window=window, layers=layers, **WAYS[way])
    places = np.arange(SMALL.length)
    back = places[:, None] - places[None, :]
    wanted = (back >= 0) & (back <= layers * (window - 1))
    assert np.array_equal(dependence(family, params(family), places + 1), wanted)


@pytest.mark.parametrize("window", [129, *(pytest.param(window, marks=pytest.mark.slow) for window in (100, 300))])
def test_blocks_of_queries_on_cpu_equal_the_library_with_a_window(window):
    """512 positions are four blocks, the last of which skip the first keys."""
    family = Transformer(vocab=31, length=512, width=16, layers=1, heads=2, window=window)
    batch = family.example_batch(2, jax.random.key(0))
    ways = [dataclasses.replace(family, attention=way, document_masking=documents) for documents in (False, True)
            for way in ("cpu", "xla")]
    loss = jax.jit(lambda f, p: jax.value_and_grad(lambda p: f.loss(p, batch, None)[0])(p), static_argnums=0)
    found = [jax.tree.leaves(loss(way, params(family))) for way in ways]
    for one, other in (found[:2], found[2:]):
        for a, b in zip(one, other, strict=True):
            assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert found[0][0] != found[2][0]


@pytest.mark.parametrize("window", [slow(1), 4, slow(16), slow(40)])
def test_a_cache_gives_the_logits_of_the_whole_text(window):
    family = dataclasses.replace(SMALL, window=window, length=32)
    assert_cached(family, np.random.default_rng(1).integers(1, 31, (2, 20)))


def test_a_window_as_long_as_the_text_changes_nothing():
    tokens = np.random.default_rng(1).integers(1, 31, (2, 16))
    wide = dataclasses.replace(SMALL, window=16)
    assert jnp.array_equal(logits_of(wide, params(SMALL), tokens), logits_of(SMALL, params(SMALL), tokens))
    assert cost.train_flops(wide, 2) == cost.train_flops(SMALL, 2)


def test_flops_are_those_of_the_square_without_the_triangle_before_the_window():
    f = Transformer(width=64, layers=3, length=128, vocab=200, heads=4, kv_heads=2, head_dim=16, mlp=96)
    square = 3 * 2 * 8 * f.layers * 2 * f.heads * f.head_dim * f.length**2

    def less(window):
        return cost.train_flops(f, 8) - cost.train_flops(dataclasses.replace(f, window=window), 8)

    for window in (1, 16, 100, 127):
        assert less(window) == square * (f.length - window)**2 // (2 * f.length**2)
    assert less(128) == less(10**6) == 0
    assert cost.train_flops(dataclasses.replace(f, document_masking=True), 8) == cost.train_flops(f, 8)


# ------------------------------------------------------------------------------------------- documents


def assert_cached(family, tokens):
    """Logits from a cache equal those of the whole text, however it is cut."""
    own = params(family)
    run = jax.jit(lambda tokens, cache=None: family.module(own)(tokens, cache))
    cache, parts = init_cache(family, len(tokens), 24, family.document_masking), []
    for start, stop in ((0, 3), (3, 4), (4, 5), (5, 10), (10, tokens.shape[1])):
        logits, cache = run(tokens[:, start:stop], cache)
        parts.append(logits)
    assert_allclose(np.concatenate(parts, 1), run(tokens)[0], rtol=1e-4, atol=1e-4)


def pieces(row):
    """(start, stop) of the documents of a row of tokens."""
    ends = [*(np.flatnonzero(row == 0) + 1), len(row)]
    return [(start, stop) for start, stop in zip([0, *ends], ends) if start < stop]


@pytest.mark.parametrize("changes", [{"attention": "xla"}, {"positions": "learned", "window": 3}, slow({}), slow(
    {"positions": "learned"}), slow({"window": 3})], ids=str)
def test_a_document_inside_a_window_has_the_logits_that_it_has_alone(changes):
    family = dataclasses.replace(DOCUMENTS, **changes)
    packed = logits_of(family, params(family), PACKED)
    for row, found in zip(PACKED, packed, strict=True):
        assert len(pieces(row)) > 1
        for start, stop in pieces(row):
            alone = np.zeros((1, 16), int)
            alone[0, :stop - start] = row[start:stop]
            wanted = logits_of(family, params(family), alone)[0, :stop - start]
            assert_allclose(found[start:stop], wanted, rtol=1e-4, atol=1e-5)


def test_places_begin_anew_after_each_token_that_ends_a_document():
    begins = document_starts(jnp.array([[5, 0, 0, 6, 7], [0, 1, 2, 3, 0]]), jnp.arange(5)[None])
    assert begins.tolist() == [[0, 0, 2, 3, 3, 3], [0, 1, 1, 1, 1, 5]]
    later = document_starts(jnp.array([[5, 0, 6]]), jnp.arange(3)[None] + 10, jnp.array([4]))
    assert later.tolist() == [[4, 4, 12, 12]]


@pytest.mark.parametrize("way", ["cpu", "xla", slow("unrolled")])
def test_gradients_do_not_cross_documents(way):
    family = dataclasses.replace(DOCUMENTS, **WAYS[way])
    for row in PACKED:
        wanted = np.zeros((16, 16), bool)
        for start, stop in pieces(row):
            wanted[start:stop, start:stop] = np.tril(np.ones((stop - start,) * 2, bool))
        assert np.array_equal(dependence(family, params(family), row), wanted)


@pytest.mark.parametrize("changes", [{"positions": "learned", "window": 3}, slow({}), slow({"positions": "learned"}),
                                     slow({"window": 3})], ids=str)
def test_a_cache_with_documents_gives_the_logits_of_the_whole_text(changes):
    assert_cached(dataclasses.replace(DOCUMENTS, **changes), PACKED)


def test_generation_goes_on_from_the_last_document_of_a_prompt():
    """Prompts are padded with zeros, which end no document of theirs."""
    sharp = jax.tree.map(lambda x: 3 * x, params(DOCUMENTS))
    prompts, tails = [[5, 6, 0, 7, 8], [4], [1, 0, 2, 9, 9, 9, 0]], [[7, 8], [4], [0]]

    def continued(prompts):
        return [row.tolist() for row in _generate.generate(DOCUMENTS, sharp, prompts, max_tokens=8, temperature=0)]

    found = continued(prompts)
    assert found[:2] == continued(tails[:2])
    rows = [prompt + row for prompt, row in zip(prompts, found, strict=True)]
    for prompt, row in zip(prompts, rows, strict=True):
        whole = logits_of(DOCUMENTS, sharp, np.array([row + [0] * (16 - len(row))]))[0]
        assert row[len(prompt):] == whole[len(prompt) - 1:len(row) - 1].argmax(-1).tolist()


def test_texts_without_ends_are_one_document():
    tokens = np.random.default_rng(1).integers(1, 31, (2, 16))
    assert jnp.array_equal(logits_of(DOCUMENTS, params(SMALL), tokens), logits_of(SMALL, params(SMALL), tokens))


@pytest.mark.parametrize("changes", [{"attention": "splash", "window": 4},
                                     {"attention": "cudnn", "document_masking": True}], ids=str)
def test_kernels_that_cannot_narrow_are_refused(changes):
    with pytest.raises(ConfigError, match="does not serve family.*write family.attention=auto"):
        dataclasses.replace(SMALL, **changes)
