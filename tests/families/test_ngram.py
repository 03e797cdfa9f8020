"""The n-gram model: what its definition says of a small corpus, probabilities that sum to one, causality, generation."""

import collections
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import cost
from scaling.families import _generate
from scaling.families._beam import beam_search
from scaling.families.ngram import NGram

VOCAB, LENGTH = 5, 24
FULL = NGram(vocab=VOCAB, length=LENGTH, order=4, counts=3000)  # room for all n-grams of the corpus
PRUNED = dataclasses.replace(FULL, counts=90)
VARIANTS = {f"{smoothing}-{order}": dataclasses.replace(FULL, smoothing=smoothing, order=order)
            for smoothing, order in [("modified", 4), ("modified", 1), ("kneser_ney", 3), ("absolute", 3), ("absolute", 2)]}


def corpus(windows, seed=0):
    """Windows of a Markov chain in which each token is likely followed by one of two."""
    rng = np.random.default_rng(seed)
    out = np.zeros((windows, LENGTH + 1), np.int32)
    for t in range(1, LENGTH + 1):
        out[:, t] = np.where(rng.random(windows) < 0.8, (2 * out[:, t - 1] + rng.integers(0, 2, windows)) % VOCAB,
                             rng.integers(0, VOCAB, windows))
    return out


TRAIN, OTHER = corpus(40), corpus(3, seed=1)


@functools.cache
def solved(family):
    return jax.tree.map(jnp.asarray, family.solve([{"tokens": TRAIN}]))


@functools.partial(jax.jit, static_argnums=0)
def nats_of(family, params, tokens):
    return family.nats(params, tokens)


begin, decode = _generate._begin, _generate._decode  # compiled


class Reference:
    """Chen & Goodman 1999, section 3, word for word, with dictionaries. `None` is what stands before a window."""

    def __init__(self, windows, order, smoothing):
        self.order, self.smoothing = order, smoothing
        self.seen, self.before = collections.Counter(), collections.defaultdict(set)
        for window in windows.tolist():
            for end in range(2, len(window) + 1):
                for n in range(1, min(order, end) + 1):
                    gram = tuple(window[end - n:end])
                    self.seen[gram] += 1
                    self.before[gram].add(window[end - n - 1] if end > n else None)

    def count(self, gram):
        plain = self.smoothing == "absolute" or len(gram) == self.order
        return self.seen[gram] if plain else len(self.before.get(gram, ()))

    def discount(self, n, count):
        found = collections.Counter(self.count(gram) for gram in self.seen if len(gram) == n)
        c = min(count, 3)
        if not (found[1] and found[2] and found[c]):
            return c / 2
        y = found[1] / (found[1] + 2 * found[2])
        d = c - (c + 1) * y * found[c + 1] / found[c] if self.smoothing == "modified" else y
        return d if 0 < d < c else c / 2

    def probability(self, token, context):
        lower = self.probability(token, context[1:]) if context else 1 / VOCAB
        after = {t: self.count((*context, t)) for t in range(VOCAB) if (*context, t) in self.seen}
        total = sum(after.values())
        if not total:
            return lower
        n = len(context) + 1
        left = sum(self.discount(n, c) for c in after.values()) / total
        own = after[token] - self.discount(n, after[token]) if token in after else 0
        return own / total + left * lower


@pytest.mark.parametrize("name", VARIANTS)
def test_probabilities_are_those_of_the_definition(name):
    family = VARIANTS[name]
    reference = Reference(TRAIN, family.order, family.smoothing)
    reference.discount = functools.cache(reference.discount)
    reach = family.order - 1
    wanted = [[-np.log(reference.probability(row[t], tuple(row[max(0, t - reach):t]))) for t in range(1, LENGTH + 1)]
              for row in OTHER.tolist()]
    np.testing.assert_allclose(nats_of(family, solved(family), OTHER), wanted, rtol=2e-5)


@pytest.mark.parametrize("family", [*VARIANTS.values(), PRUNED], ids=[*VARIANTS, "pruned"])
def test_probabilities_sum_to_one_after_every_context_and_are_above_zero(family):
    logits, state = begin(family, solved(family), OTHER, np.full(3, LENGTH + 1), capacity=32)
    for token in range(VOCAB):
        np.testing.assert_allclose(np.exp(logits).sum(-1), 1, rtol=1e-5)
        assert np.isfinite(logits).all()
        logits, state = decode(family, solved(family), state, jnp.full(3, token))


def test_a_model_of_no_data_holds_all_tokens_for_equally_likely():
    found = nats_of(FULL, FULL.init(None), OTHER)
    np.testing.assert_allclose(found, np.log(VOCAB), rtol=1e-6)


def test_evaluation_is_the_mean_over_tokens_and_counts_what_is_stored():
    found = jax.jit(FULL.evaluate)(solved(FULL), {"tokens": OTHER, "bytes": np.ones((3, LENGTH), np.int32)}, None)
    nats = nats_of(FULL, solved(FULL), OTHER)
    np.testing.assert_allclose(found["loss"].over, nats.mean(-1), rtol=1e-5)
    np.testing.assert_allclose(found["bits_per_byte"].over, nats.sum(-1) / np.log(2), rtol=1e-5)
    grams = {tuple(row[i:i + n]) for row in TRAIN.tolist() for n in range(2, 5) for i in range(LENGTH + 2 - n)}
    assert found["stored"][0] == VOCAB + len(grams) < FULL.counts


def test_a_changed_token_changes_no_probability_before_it_and_the_next_ones_within_the_order():
    changed = OTHER.copy()
    changed[:, 9] = (changed[:, 9] + 1) % VOCAB
    a, b = (np.asarray(nats_of(FULL, solved(FULL), x)) for x in (OTHER, changed))
    differs = (a != b).any(0)  # at index t is the token t + 1
    assert not differs[:8].any() and differs[8:8 + FULL.order].all() and not differs[8 + FULL.order:].any()


def test_the_most_frequent_n_grams_stay_with_their_probabilities_where_there_is_no_room_for_all():
    (full,), (pruned,) = ([x["model"]] for x in (solved(FULL), solved(PRUNED)))
    assert pruned["first"][...][-1] == PRUNED.counts < full["first"][...][-1]
    kept = grams_of(PRUNED, pruned)
    every = grams_of(FULL, full)
    assert all(np.isclose(every[gram], value) for gram, value in kept.items())
    counted = Reference(TRAIN, 4, "absolute").seen
    least = min(counted[gram] for gram in kept if len(gram) > 1)
    assert all(counted[gram] <= least for gram in every.keys() - kept.keys())


def grams_of(family, table):
    """{n-gram: its stored probability} of a table."""
    token, first, values = (np.asarray(table[name][...]) for name in ("token", "first", "discounted"))
    grams = [(int(t),) for t in token[:family.vocab]]
    for place in range(len(token)):
        grams += [(*grams[place], int(token[i])) for i in range(first[place], first[place + 1])]
    return dict(zip(grams, values))


def test_more_room_than_n_grams_and_other_batches_change_nothing():
    roomy = dataclasses.replace(FULL, counts=4000)
    parts = FULL.solve([{"tokens": TRAIN[:13]}, {"tokens": TRAIN[13:]}])
    jax.tree.map(np.testing.assert_array_equal, parts, solved(FULL))
    np.testing.assert_array_equal(nats_of(roomy, solved(roomy), OTHER), nats_of(FULL, solved(FULL), OTHER))


@pytest.mark.parametrize("family", [FULL, PRUNED, VARIANTS["modified-1"]], ids=["full", "pruned", "order 1"])
def test_decoding_gives_what_a_whole_text_gives(family):
    params, lengths = solved(family), np.array([4, 1, 9])
    prompts = np.where(np.arange(9) < lengths[:, None], OTHER[:, :9], 0)
    logits, state = begin(family, params, prompts, lengths, capacity=32)
    nats, rows = nats_of(family, params, OTHER), np.arange(3)
    for step in range(8):
        token = OTHER[rows, lengths + step]
        np.testing.assert_allclose(-logits[rows, token], nats[rows, lengths + step - 1], rtol=1e-5)
        logits, state = decode(family, params, state, jnp.asarray(token))


def test_rows_of_generated_text_do_not_depend_on_each_other():
    prompts = [[1, 2, 3], [4], [0, 1]]
    together = _generate.generate(FULL, solved(FULL), prompts, max_tokens=9)
    alone = _generate.generate(FULL, solved(FULL), prompts[:1], max_tokens=9)
    assert together[0].tolist() == alone[0].tolist() and len({tuple(x) for x in together}) == 3


@pytest.mark.parametrize("family", [FULL, PRUNED], ids=["full", "pruned"])
def test_a_beam_of_one_is_greedy(family):
    prompts = [[1, 2, 3], [4], [0, 1]]
    greedy = _generate.generate(family, solved(family), prompts, max_tokens=9, temperature=0)
    found = beam_search(family, solved(family), prompts, max_tokens=9, beam=1)
    assert [row.tolist() for row in found] == [row.tolist() for row in greedy]


def test_a_ladder_stores_as_many_counts_as_its_size_says():
    assert NGram.ladder(1e6, order=2).order == 2
    for size in NGram.sizes():
        family = NGram.ladder(size)
        assert family.counts == round(size) and abs(family.order - min(8, np.log10(size) + 0.5)) <= 0.5
        assert cost.param_count(family)["total"] == cost.param_count(family)["non_embedding"] == family.counts


def test_too_little_room_for_the_tokens_is_refused():
    with pytest.raises(ValueError, match="family.counts=300 .* family.vocab=400 .* at least 400"):
        NGram(vocab=400, counts=300)
