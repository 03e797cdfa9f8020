"""Induction is 1 for a head that looks where copying takes, and chance for one that looks at all alike."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import nn
from scaling.families.transformer import Transformer
from scaling.insight import activations, induction


@dataclasses.dataclass(frozen=True)
class Copier:
    """A model with two heads: one looks alike at all tokens, the other at what followed its token, which it says."""

    reads: ClassVar[str] = "text"
    length: int = 24
    vocab: int = 40

    def module(self, params):
        return params

    def logits(self, params, tokens):
        size = tokens.shape[1]
        seen = jnp.tril(jnp.ones((size, size), bool))[None]
        before = jnp.pad(tokens, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
        follows = (before[:, None, :] == tokens[:, :, None]) & seen
        copy = jax.nn.softmax(jnp.where(seen, 100.0 * follows, -1e30), axis=-1)
        alike = seen / seen.sum(-1, keepdims=True) * jnp.ones_like(copy)
        weights = nn.tap("attention", jnp.stack([alike, copy], axis=1))
        return 20 * weights[:, 1] @ jax.nn.one_hot(tokens, self.vocab) * follows.any(-1, keepdims=True)


class Run(NamedTuple):
    family: Any
    params: Any
    fingerprint: str = "planted"


def test_a_model_that_copies_scores_one_and_gains_all_that_there_is():
    found = induction.score_induction(Run(Copier(), {}), np.arange(1, 40))
    assert found.heads.shape == (1, 2) and found.strongest == pytest.approx(1, abs=1e-5)
    assert found.heads[0, 0] == pytest.approx(found.chance, rel=1e-5) and found.chance < 0.1
    assert found.low <= found.gain <= found.high and found.gain == pytest.approx(np.log(40), rel=0.01)


def test_a_run_without_two_tokens_to_repeat_is_refused():
    with pytest.raises(activations.InsightError, match="has 1 frequent tokens and windows of 24"):
        induction.score_induction(Run(Copier(), {}), np.array([3]))


def test_a_fresh_transformer_neither_copies_nor_looks_back():
    family = Transformer(vocab=40, length=24, width=16, layers=2, heads=2)
    run = Run(family, jax.jit(family.init)(jax.random.key(0)))
    found = induction.score_induction(run, np.arange(1, 40))
    assert found.heads.shape == (2, 2) and found.strongest < 0.2 and abs(found.gain) < 0.1


def test_the_text_says_random_tokens_twice_after_an_end_of_document():
    tokens = induction.repeated_tokens(np.arange(3, 12), 8, 4, seed=1)
    assert tokens.shape == (4, 17) and (tokens[:, 0] == 0).all() and {*tokens[:, 1:].ravel()} <= {*range(3, 12)}
    assert (tokens[:, 1:9] == tokens[:, 9:]).all() and all(len({*row}) == 8 for row in tokens[:, 1:9])
    assert len({tuple(row) for row in tokens}) == 4


def test_rare_tokens_and_ends_of_documents_are_not_drawn():
    tokens = np.concatenate([np.zeros(500), np.full(5000, 7), np.full(5000, 2), [4]])
    assert list(induction.common_tokens(tokens)) == [2, 7]


def test_a_family_without_a_function_of_its_data_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Silent:
        reads: ClassVar[str] = "images"

    with pytest.raises(activations.InsightError, match="name a run of .*transformer"):
        activations.forward_of(Silent())
