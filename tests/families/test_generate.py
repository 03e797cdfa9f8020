"""Generation: the cache or the state changes nothing, and every option does what it says."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import families
from scaling.families import _generate
from scaling.families._decoder import init_cache
from scaling.families.hmm import HMM
from scaling.families.recurrent import Recurrent
from scaling.families.seq2seq import Seq2Seq
from scaling.families.textgan import TextGAN
from scaling.families.transformer import Transformer
from scaling.study.prompts import what_generates

FAMILY = Transformer(vocab=40, length=32, width=16, layers=2, heads=2)
PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11]]


@functools.cache
def params(family):
    """Sharper than at initialisation, so that samples depend on what came before."""
    return jax.jit(lambda key: jax.tree.map(lambda x: 3 * x, family.init(key)))(jax.random.key(0))


def continuations(family=FAMILY, prompts=PROMPTS, max_tokens=12, **options):
    out = _generate.generate(family, params(family), prompts, max_tokens=max_tokens, **options)
    return [row.tolist() for row in out]


def without_cache(family, prompts, max_tokens, temperature, seed=0):
    """The same by running the whole text through the network again for every token."""
    source = families.reads(family) == ("pairs",)  # the prompts are sources, and a text begins with a 0

    @jax.jit
    def following(params, prompt, tokens, at, row, step):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), row), step)
        scores = family.logits(params, *([prompt, tokens] if source else [tokens]))[0, at - 1]
        return _generate.choose(scores, key, temperature, 1.0, greedy=temperature == 0)

    rows = []
    for row, prompt in enumerate(prompts):
        whole, start = np.zeros((1, family.length), np.int32), 1 if source else len(prompt)
        whole[0, :len(prompt)] = prompt
        tokens = np.zeros_like(whole) if source else whole
        for at in range(start, start + max_tokens):
            tokens[0, at] = following(params(family), whole, tokens, at, row, at - start)
        rows.append(tokens[0, start:start + max_tokens].tolist())
    return rows


VARIANTS = {"default": FAMILY, "learned": dataclasses.replace(FAMILY, positions="learned", kv_heads=1),
            "tied": dataclasses.replace(FAMILY, tied=True, scan=False),
            "experts": dataclasses.replace(FAMILY, experts=4, mlp=24, document_masking=True, window=20),
            "lstm": Recurrent(vocab=40, length=32, width=16),
            "gru": Recurrent(vocab=40, length=32, width=16, cell="gru", layers=1),
            "minlstm": Recurrent(vocab=40, length=32, width=16, cell="minlstm"), "hmm": HMM(vocab=40, length=32, states=8),
            "seq2seq": Seq2Seq(vocab=40, length=32, width=16), "seq2seq tied": Seq2Seq(
                vocab=40, length=32, width=32, heads=2, kv_heads=1, shared=False, tied=True, scan=False, encoder_layers=1),
            "textgan": TextGAN(vocab=40, length=32, width=16, layers=1, heads=2), "parallel": dataclasses.replace(
                FAMILY, parallel=True, rope_share=0.5, rope_scaling="llama3:8,1,4,16", attention_biases="all", layers=1)}


def test_every_family_that_continues_text_is_here():
    """Solved families have tests of their own, since their fresh parameters know nothing, and so have those of images."""
    able = {cls for cls in families.all() if what_generates(cls) == "text" and not families.is_solved(cls)}
    assert {type(family) for family in VARIANTS.values()} == able


def case(name, temperature, *fast):
    """Parameters of a test that is slow where fast variants have all parts of this one."""
    return pytest.param(name, temperature, marks=[] if name in fast else [pytest.mark.slow])


@pytest.mark.parametrize("name,temperature", [
    case(name, 0.0 if name in ("learned", "gru") else 1.0, "learned", "tied", "experts", "lstm", "minlstm", "hmm",
         "seq2seq tied") for name in VARIANTS])
def test_the_cache_or_the_state_changes_nothing(name, temperature):
    family = VARIANTS[name]
    want = without_cache(family, PROMPTS, 12, temperature)
    assert continuations(family, temperature=temperature) == want
    assert len({tuple(row) for row in want}) == 3


@pytest.mark.parametrize("name,temperature", [("default", 0.0), ("lstm", 0.5), *(
    case(name, 1.0, "learned", "hmm") for name in [*VARIANTS][:8])])
def test_windows_to_judge_are_what_is_generated_after_the_same_first_tokens(name, temperature):
    family = VARIANTS[name]
    batch = {"tokens": np.arange(3 * 33, dtype=np.uint8).reshape(3, 33) % 40, "example": jnp.arange(3)}
    draw = jax.jit(functools.partial(family.sample, temperature=temperature, length=31))
    found = np.asarray(draw(params(family), batch, jax.random.key(7)))
    assert found.dtype == np.int32 and (found[:, 0] == batch["tokens"][:, 0]).all()
    wanted = continuations(family, batch["tokens"][:, :1], 31, temperature=temperature, seed=7)
    assert found[:, 1:].tolist() == wanted
    part = {"tokens": batch["tokens"][2:], "example": jnp.array([2])}
    short = _generate.sample_windows(family, params(family), part, jax.random.key(7), temperature, 4)
    assert short.tolist() == found[2:, :5].tolist()
    assert jax.eval_shape(family.sample, params(family), batch, jax.random.key(7)).shape == (3, 33)  # the whole length


def test_cached_logits_equal_those_of_the_whole_text():
    run = jax.jit(lambda tokens, cache=None: FAMILY.module(params(FAMILY))(tokens, cache))
    tokens = np.random.default_rng(1).integers(0, FAMILY.vocab, (2, 11))
    cache, parts = init_cache(FAMILY, 2, 16), []
    for start, stop in ((0, 5), (5, 6), (6, 11)):
        logits, cache = run(tokens[:, start:stop], cache)
        parts.append(logits)
    np.testing.assert_allclose(np.concatenate(parts, 1), run(tokens)[0], rtol=1e-4, atol=1e-4)


def test_rows_do_not_depend_on_each_other_and_seeds_matter():
    together = continuations()
    assert continuations(prompts=PROMPTS[:1]) == together[:1]
    assert continuations() == together
    assert continuations(seed=1) != together


def test_a_text_longer_than_the_context_sees_the_last_tokens_only():
    """One layer, so that what slid out of the window can have left nothing behind."""
    family = dataclasses.replace(FAMILY, layers=1, length=8)
    tail = list(range(20, 28))
    long, other = [3] * 9 + tail, [7, 9] * 6 + tail
    assert continuations(family, [long], temperature=0) == continuations(family, [other], temperature=0)
    assert len(continuations(family, [long], 20)[0]) == 20


@pytest.mark.parametrize("family", [Recurrent(vocab=40, length=4, width=16), HMM(vocab=40, length=4, states=8)],
                         ids=["recurrent", "hmm"])
def test_a_state_has_no_capacity_and_remembers_what_is_longer_than_the_context(family):
    long = [[7] * 30 + [5], [9] * 30 + [5]]
    begin = jax.jit(family.begin, static_argnums=3)
    start = [state for _, state in (begin(params(family), np.array([row]), np.array([31]), n) for row, n in
                                    zip(long, (31, 10**6)))]
    assert jax.tree.map(jnp.shape, start[0]) == jax.tree.map(jnp.shape, start[1])
    assert any(bool((a != b).any()) for a, b in zip(*map(jax.tree.leaves, start)))
    assert len(continuations(family, long, 20)[0]) == 20 and _generate.find_longest(family) is None


def test_stops_end_a_row_before_them():
    full = continuations()
    for stop in (full[0][4], full[0][3:6], full[0][10:12]):
        cut = continuations(stop=[stop, [39, 39, 39]])
        for row, whole in zip(cut, full, strict=True):
            sequence = list(np.atleast_1d(stop))
            places = [i for i in range(len(whole)) if whole[i:i + len(sequence)] == sequence]
            assert row == whole[:places[0] if places else None]
        assert len(cut[0]) < 12


@pytest.mark.parametrize("k", [1, 3])
def test_top_k_samples_the_k_likeliest(k):
    logits = jax.random.normal(jax.random.key(0), (40,))
    chosen = _samples(logits, top_k=k)
    assert set(chosen) == set(np.argsort(-logits)[:k].tolist())


@pytest.mark.parametrize("p,kept", [(0.01, 1), (0.49, 1), (0.51, 2), (0.79, 2), (0.81, 3), (1.0, 4)])
def test_top_p_samples_the_fewest_that_reach_p(p, kept):
    logits = jnp.log(jnp.array([0.05, 0.5, 0.15, 0.3]))
    assert set(_samples(logits, top_p=p)) == set([1, 3, 2, 0][:kept])


def test_temperature_divides_the_logits():
    logits = jnp.log(jnp.array([0.2, 0.8]))
    share = np.mean(_samples(logits, temperature=2.0, n=4000))
    assert abs(share - 2 / 3) < 0.03  # sqrt(0.8) / (sqrt(0.2) + sqrt(0.8))


def test_bad_requests_are_refused():
    learned = dataclasses.replace(FAMILY, positions="learned")
    for family, prompts, options, message in [
        (FAMILY, [[]], {}, "prompt 0 has shape"), (FAMILY, [[1], [40]], {}, "prompt 1 holds token 40"),
        (FAMILY, [[1]], {"max_tokens": 0}, "max_tokens"),
        (FAMILY, [[1]], {"temperature": -1.0}, "temperature"),
        (FAMILY, [[1]], {"top_k": 0}, "top_k"), (FAMILY, [[1]], {"top_p": 0.0}, "top_p"),
        (learned, [[1] * 30], {}, "learned positions end at 32"),
    ]:
        with pytest.raises(ValueError, match=message):
            continuations(family, prompts, **options)
    assert _generate.generate(FAMILY, None, [], max_tokens=3) == []


def _samples(logits, temperature=1.0, top_p=None, n=300, **options):
    keys = jax.random.split(jax.random.key(7), n)
    return _draw(logits, keys, temperature, top_p or 1.0, nucleus=top_p is not None, **options).tolist()


@functools.partial(jax.jit, static_argnames=("top_k", "nucleus"))
def _draw(logits, keys, temperature, top_p, **options):
    return jax.vmap(lambda key: _generate.choose(logits, key, temperature, top_p, **options))(keys)
