"""Teachers of tokens: their likelihoods are exact, and their windows are pure functions of their numbers."""
import hashlib
import itertools
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from frequencies import agree

from scaling import data
from scaling.data.known import draws
from scaling.data.known.names import token_teacher
from scaling.fields import ConfigError, DataError

NAMES = ["zipf:1.5", "zipf:1.2,contexts=0,answers=16", "hmm:5,vocab=9", "grammar:4,vocab=12",
         "repeats:5,most=7,vocab=40"]
SMALL = ["zipf:1.3,contexts=4,answers=3", "hmm:3,vocab=4,seed=2", "grammar:3,vocab=3,rules=6,mean=3",
         "repeats:1,most=3,vocab=3"]
LENGTH = 8


def load(name, **more):
    return data.load_text(name, **{"length": LENGTH, "batch": 8, **more})


def windows(name, count=4000, length=LENGTH):
    teacher = token_teacher(name)
    return teacher.read(teacher.tables, np.arange(count, dtype=np.uint32), length)


@pytest.mark.parametrize("name", SMALL)
def test_the_probabilities_of_all_windows_add_up_to_one(name):
    teacher = token_teacher(name)
    found = np.array(list(itertools.product(range(teacher.vocab), repeat=5)))
    if name.startswith("zipf"):          # contexts and answers take turns
        found = found[((found >= teacher.answers) == (np.arange(5) % 2 == 0)).all(-1)]
    if name.startswith("grammar"):
        found = found[found[:, 0] == 0]
    with np.errstate(invalid="ignore"):
        assert abs(np.exp(-teacher.nats(found).sum(-1)).sum() - 1) < 1e-9


@pytest.mark.parametrize("name", SMALL)
def test_windows_come_as_often_as_their_probability_says(name):
    found, counts = np.unique(windows(name, 50_000, 4), axis=0, return_counts=True)
    expected = 50_000 * np.exp(-token_teacher(name).nats(found).sum(-1))
    assert agree(counts, expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_of_the_true_nats_is_the_entropy(name):
    source = load(name)
    bits = source.evaluation("iid", 40_000)["nats"].mean(-1) / np.log(2)
    error = np.hypot(bits.std() / np.sqrt(len(bits)), source.entropy.error)
    assert abs(bits.mean() - source.entropy.bits) < 4 * error
    assert (source.entropy.error == 0) == name.startswith("zipf")
    said = re.search(r"the entropy is ([0-9.]+)", " ".join(source.summary()))
    assert abs(float(said.group(1)) - source.entropy.bits) < 1e-4


def test_a_string_that_repeats_costs_nothing_once_its_length_is_known():
    teacher, length = token_teacher("repeats:4,most=7,vocab=64"), 30
    tokens = windows("repeats:4,most=7,vocab=64", 500, length)
    nats = teacher.nats(tokens)
    period = np.array([next(p for p in range(4, 8) if (row[p:] == row[:-p]).all()) for row in tokens])
    assert {*period} == {4, 5, 6, 7}
    np.testing.assert_allclose(nats[:, :4], np.log(64), atol=1e-6)
    np.testing.assert_allclose(nats[:, 14:], 0, atol=1e-6)


def test_the_forward_algorithm_sums_over_all_paths():
    teacher = token_teacher("hmm:3,vocab=4,seed=2")
    p, tokens = teacher.probabilities, windows("hmm:3,vocab=4,seed=2", 20, 5)
    total = np.zeros(len(tokens))
    for path in itertools.product(range(3), repeat=5):
        moves = p["start"][path[0]] * np.prod([p["move"][a, b] for a, b in itertools.pairwise(path)])
        total += moves * np.prod([p["emit"][state, tokens[:, t]] for t, state in enumerate(path)], axis=0)
    np.testing.assert_allclose(teacher.nats(tokens).sum(-1), -np.log(total), rtol=1e-12)


def test_a_markov_chain_begins_as_it_goes_on():
    p = token_teacher("hmm:7").probabilities
    np.testing.assert_allclose(p["start"] @ p["move"], p["start"], atol=1e-8)


def derivations(teacher, stack, words):
    """The probability that the symbols of a stack derive exactly these words, by trying every rule in turn."""
    if not stack or not words:
        return float(not stack and not words)
    t, p, top = teacher.tables, draws.probabilities(teacher.tables["rule"]), stack[0]
    return sum(p[top, r] * derivations(teacher, [x - 1 for x in (t["first"][top, r], t["second"][top, r]) if x] + stack[1:],
                                       words[1:]) for r in range(teacher.rules) if t["word"][top, r] == words[0])


def test_the_inside_algorithm_sums_over_all_derivations():
    teacher = token_teacher("grammar:3,vocab=4,rules=6,mean=4,seed=1")
    words = np.array(list(itertools.product(range(1, 4), repeat=5)))
    prefix, whole = map(np.exp, teacher.log_prefixes(words))
    tried = np.array([[derivations(teacher, [0], list(row[:n])) for n in range(6)] for row in words])
    np.testing.assert_allclose(whole, tried, atol=1e-15, rtol=1e-10)
    longer = prefix[:, :-1].reshape(-1, 3, 5)[:, :, 4]          # a document that begins with 4 words ends there or goes on
    on = prefix[:, 5].reshape(-1, 3).sum(1)
    np.testing.assert_allclose(longer[:, 0], whole[:, 4].reshape(-1, 3)[:, 0] + on, rtol=1e-10)


def test_documents_of_hundreds_of_words_have_a_probability():
    teacher = token_teacher("grammar:2,vocab=8,mean=64")
    tokens = windows("grammar:2,vocab=8,mean=64", 400, 600)
    longest = tokens[[(row == 0).sum() for row in tokens].index(min((row == 0).sum() for row in tokens))][None]
    nats = teacher.nats(longest)
    assert (longest == 0).sum() < 8 and np.isfinite(nats).all() and nats.sum() > 745         # exp(-745) is zero


def test_documents_of_a_grammar_have_the_mean_length_that_was_asked_for():
    for mean in (2.0, 6.0):
        tokens = windows(f"grammar:5,mean={mean}", 2000, 400)
        assert abs((tokens != 0).sum() / (tokens == 0).sum() / mean - 1) < 0.05


def test_contexts_follow_the_law_and_their_answers_are_permutations_of_one_distribution():
    teacher = token_teacher("zipf:1.2,contexts=0,answers=16")
    p = np.exp(-teacher.context_nats(np.arange(1, 1 << 16)))
    np.testing.assert_allclose(p / p[0] * np.arange(1, 1 << 16) ** 1.2, 1, atol=4e-3)
    tail = 1 - p.sum()
    assert abs(tail / (p[0] * (1 << 16) ** -0.2 / 0.2) - 1) < 1e-3              # the integral of the law beyond
    told = np.array(list(itertools.product(range(16, 36), range(16))))
    each = np.exp(-teacher.nats(told)[:, 1]).reshape(20, 16)
    np.testing.assert_allclose(np.sort(each, -1), np.sort(each[:1], -1).repeat(20, 0))
    assert len({tuple(row) for row in np.argsort(each, -1).tolist()}) == 20
    tokens = windows("zipf:1.2,contexts=0,answers=16", 100_000, 2)
    assert tokens.max() > 1 << 30 and tokens.min() >= 0                          # the end of the law is drawn too


@pytest.mark.parametrize("name", NAMES)
def test_resident_drawn_streamed_and_single_batches_are_equal(name):
    limited, endless = load(name, unique_tokens=LENGTH * 50), load(name)
    assert set(limited.arrays()) == {"tokens"} and "tokens" not in endless.arrays()
    for source, seed in itertools.product((limited, endless), (0, 5)):
        arrays = jax.tree.map(jnp.asarray, source.arrays())
        resident = jax.jit(lambda step, source=source, arrays=arrays, seed=seed: source.slice(arrays, seed, step))
        together = source.batches(seed, 3, 9)["tokens"]
        for step, streamed in zip(range(3, 9), source.stream(seed, 3, 9), strict=True):
            alone = source.batch(seed, step)["tokens"]
            assert alone.shape == (8, LENGTH + 1) and alone.dtype == np.int32
            for other in (streamed["tokens"], together[step - 3], resident(step)["tokens"]):
                np.testing.assert_array_equal(other, alone)
            np.testing.assert_array_equal(source.batch(seed, step, range(2, 5))["tokens"], alone[2:5])


@pytest.mark.parametrize("name", NAMES)
def test_smaller_data_sets_are_nested_and_evaluation_has_other_windows(name):
    small, large, endless = load(name, unique_tokens=LENGTH * 40), load(name, unique_tokens=LENGTH * 80), load(name)
    np.testing.assert_array_equal(small.arrays()["tokens"], large.arrays()["tokens"][:40])
    np.testing.assert_array_equal(endless.batches(0, 0, 5)["tokens"].reshape(40, -1), small.arrays()["tokens"])
    some, more = small.evaluation("iid", 80), endless.evaluation("iid", 800)
    for key, values in some.items():
        np.testing.assert_array_equal(values, more[key][:10])
    longer = load(name, length=2 * LENGTH, unique_tokens=2 * LENGTH * 40).arrays()["tokens"]
    np.testing.assert_array_equal(longer[:, :LENGTH + 1], small.arrays()["tokens"])      # whatever the length
    if not name.startswith("zipf"):
        rows = {tuple(row) for row in more["tokens"].tolist()}
        assert len(rows & {tuple(row) for row in large.arrays()["tokens"].tolist()}) < 3


def digest(name):
    return hashlib.sha256(load(name).batches(1, 0, 4)["tokens"].tobytes()).hexdigest()


def test_another_process_draws_the_same_windows():
    code = ("import hashlib; from scaling import data\n"
            f"for name in {NAMES}: print(hashlib.sha256(data.load_text(name, length={LENGTH}, batch=8)"
            ".batches(1, 0, 4)['tokens'].tobytes()).hexdigest())")
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert printed == [digest(name) for name in NAMES]


def test_the_fingerprint_tells_teachers_apart_and_the_spelling_does_not():
    prints = {load(name).fingerprint for name in [*NAMES, "hmm:5,vocab=9,seed=1", "hmm:5,vocab=9,sharpness=2"]}
    assert len(prints) == 7
    assert load("zipf:1.5").fingerprint == load("zipf:exponent=1.5,contexts=4096").fingerprint == load("zipf").fingerprint


@pytest.mark.parametrize("name,said", [
    ("repeats:9,most=8", "most=9 or more"), ("zipf:1.5,kontexts=3", "contexts"),
    ("zipf:1.5,3", "has no name"), ("zipf:many", "is not a number"),
    ("zipf:-1", "out of range"), ("hmm:2.5", "not whole"), ("zipf:1,contexts=0", "endless"), ("zipf:1,exponent=2", "twice"),
])
def test_wrong_names_are_refused_in_one_sentence(name, said):
    with pytest.raises(ConfigError, match=said) as refused:
        load(name)
    assert "data.name" in str(refused.value) and "\n" not in str(refused.value)


def test_what_a_stream_cannot_give_is_refused():
    with pytest.raises(DataError, match="has no end"):
        load("hmm").evaluation("iid", 0)
    with pytest.raises(DataError, match="less than one window"):
        load("hmm", unique_tokens=3)
    with pytest.raises(DataError, match="leave them empty"):
        load("hmm", encoding="utf-8")
    with pytest.raises(DataError, match="numbers from 0 to 63"):
        load("hmm").encode("3 64")


def test_tokens_are_written_as_numbers():
    source = load("hmm")
    assert source.encode("3 17 0").tolist() == [3, 17, 0] and source.decode([3, 17, 0]) == "3 17 0 "
    assert source.tokenizer.to_bytes([5]) == b"5 " and source.tokenizer.vocab == source.vocab == 64


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zipf:1.2,contexts=0", "hmm", "grammar", "repeats"])
def test_a_million_tokens_are_drawn_in_a_second(name):
    import time
    source = data.load_text(name, length=1 if name[0] == "z" else 128, batch=64)
    source.batches(0, 0, 10)
    began = time.perf_counter()
    drawn = source.batches(0, 10, 10 + 2**20 // (64 * source.length))["tokens"]
    assert drawn.size / (time.perf_counter() - began) > 1e6
