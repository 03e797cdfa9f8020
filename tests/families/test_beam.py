"""Beam search: a beam of one is greedy, and one that holds every text finds the best of all, for every family."""

import itertools

import jax
import numpy as np
import pytest

from scaling.families._beam import beam_search
from scaling.families._generate import generate
from scaling.families.hmm import HMM
from scaling.families.recurrent import Recurrent
from scaling.families.seq2seq import Seq2Seq
from scaling.families.textgan import TextGAN
from scaling.families.transformer import Transformer

VOCAB, STOP, MOST = 4, 2, 3
FAMILIES = {"transformer": Transformer(vocab=VOCAB, length=12, width=16, layers=2, heads=2),
            "recurrent": Recurrent(vocab=VOCAB, length=12, width=12), "hmm": HMM(vocab=VOCAB, length=12, states=6),
            "seq2seq": Seq2Seq(vocab=VOCAB, length=12, width=32),
            "textgan": TextGAN(vocab=VOCAB, length=12, width=16, layers=1, heads=2)}
PROMPTS = [[1, 2, 3], [3], [0, 1]]


# Two are fast: test_seq2seq.py also compares a beam of one with greedy texts, and test_ngram.py those of counts.
@pytest.fixture(params=["transformer", "recurrent", *(pytest.param(name, marks=pytest.mark.slow) for name in
                                                      ("hmm", "seq2seq", "textgan"))], scope="module")
def writer(request):
    family = FAMILIES[request.param]
    return family, jax.tree.map(lambda x: 3 * x, jax.jit(family.init)(jax.random.key(4)))  # sharper than at first


def texts(found):
    return [row.tolist() for row in found]


def best_of_all(family, params, prompt, penalty):
    """The text of the highest score among all, by the logits of whole texts."""
    every = np.array(list(itertools.product(range(VOCAB), repeat=MOST)))
    prompts = np.broadcast_to(prompt, (len(every), len(prompt)))
    if isinstance(family, Seq2Seq):  # whose prompts are sources, and whose texts begin with a 0
        logits = family.logits(params, np.pad(prompts, ((0, 0), (0, 1))), np.pad(every, ((0, 0), (1, 0))))[:, :-1]
    else:
        logits = family.logits(params, np.concatenate([prompts, every], 1))[:, len(prompt) - 1:-1]
    log_p = jax.nn.log_softmax(logits)
    log_p = np.take_along_axis(np.asarray(log_p), every[..., None], 2)[..., 0]
    scores = {}
    for text, each in zip(every.tolist(), log_p):
        n = text.index(STOP) + 1 if STOP in text else MOST
        scores[tuple(text[:n])] = each[:n].sum() / ((5 + n) / 6) ** penalty
    return [token for token in max(scores, key=scores.get) if token != STOP]


def test_a_beam_of_one_is_greedy(writer):
    for options in ({}, {"stop": [STOP]}, {"stop": [[3, 3], 0]}):
        greedy = texts(generate(*writer, PROMPTS, max_tokens=8, temperature=0, **options))
        for penalty in (0.0, 2.0):
            found = beam_search(*writer, PROMPTS, max_tokens=8, beam=1, length_penalty=penalty, **options)
            assert texts(found) == greedy


def test_a_beam_that_holds_every_text_finds_the_best_and_a_penalty_favours_long_ones(writer):
    lengths = []
    for penalty in (0.0, 1.0, 8.0):
        found = texts(beam_search(*writer, PROMPTS, max_tokens=MOST, beam=VOCAB**MOST, length_penalty=penalty, stop=[STOP]))
        assert found == [best_of_all(*writer, prompt, penalty) for prompt in PROMPTS]
        lengths.append(sum(map(len, found)))
    assert lengths == sorted(lengths) and lengths[0] < lengths[2]


def test_rows_do_not_depend_on_each_other(writer):
    together = texts(beam_search(*writer, PROMPTS, max_tokens=6, beam=3))
    assert texts(beam_search(*writer, PROMPTS[:1], max_tokens=6, beam=3)) == together[:1]


def test_bad_requests_are_refused():
    for options, message in [({"beam": 0}, "beam must be"), ({"length_penalty": -1.0}, "length_penalty"),
                             ({"max_tokens": 0}, "max_tokens")]:
        with pytest.raises(ValueError, match=message):
            beam_search(FAMILIES["hmm"], None, PROMPTS, **{"max_tokens": 3} | options)
    assert beam_search(FAMILIES["hmm"], None, [], max_tokens=3) == []
