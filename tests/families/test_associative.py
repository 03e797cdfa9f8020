"""The associative memory: random fixed embeddings, a convex loss, and a ladder of widths."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import cost, experiment, families
from scaling.families.associative import Associative, Memory
from scaling.fields import ConfigError


def test_embeddings_are_fixed_unit_vectors_that_are_almost_orthogonal():
    family = Associative(vocab=2**31 - 1, answers=8, width=200)
    tokens = jnp.concatenate([jnp.arange(500), 2**31 - 1 - jnp.arange(1, 501)])
    embedded = np.asarray(Memory(family, jnp.zeros).embed(tokens[:, None])[:, 0])
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=-1), 1, rtol=1e-6)
    overlap = (embedded @ embedded.T)[np.triu_indices(1000, 1)]
    assert abs(overlap.mean()) < 5e-4 and abs(overlap.std() * 200**0.5 - 1) < 0.01
    assert abs(embedded.mean()) < 0.001
    again = Memory(Associative(vocab=10, width=200), jnp.zeros).embed(tokens[:10, None])[:, 0]
    np.testing.assert_array_equal(again, embedded[:10])


def test_the_first_loss_is_that_of_a_uniform_guess_and_the_loss_is_convex():
    family = Associative(vocab=50, answers=8, width=16)
    batch = {"tokens": jnp.stack([jnp.arange(40) + 8, jnp.arange(40) % 8], -1)}
    start = jax.jit(family.init)(jax.random.key(0))
    loss = jax.jit(lambda params: family.loss(params, batch, None)[0])
    assert abs(float(loss(start)) - np.log(8)) < 0.02
    ends = [jax.tree.map(lambda x, i=i: x + jax.random.normal(jax.random.key(i), x.shape), start) for i in (1, 2)]
    middle = jax.tree.map(lambda a, b: (a + b) / 2, *ends)
    assert float(loss(middle)) < (float(loss(ends[0])) + float(loss(ends[1]))) / 2


def test_parameters_are_width_times_answers_and_none_is_an_embedding():
    family = Associative(vocab=10**6, answers=32, width=48)
    assert cost.param_count(family)["non_embedding"] == cost.param_count(family)["total"] == 48 * 32
    assert cost.train_flops(family, 16) == 4 * 48 * 32 * 16     # forward, and the gradient of the matrix alone


def test_the_ladder_is_near_the_wanted_size():
    for size in np.geomspace(1e3, 1e8, 9):
        family = Associative.ladder(size, vocab=10**6, answers=32)
        assert abs(family.width * 32 / size - 1) < 0.02 and family.answers == 32


def test_it_reads_facts_of_zipf_and_any_text():
    config = experiment.config("associative", **{"data.name": "zipf:1.2,contexts=0,answers=16", "data.length": 1})
    family = experiment.family_at(config, 1e4)
    assert (family.answers, family.length, family.width) == (16, 1, 625) and family.vocab > 2**30
    assert families.find("associative").reads == "text"
    text = experiment.family_at(experiment.config("associative"), 1e4)
    assert (text.predicted, text.vocab, text.answers) == (256, 256, 0)
    with pytest.raises(ConfigError, match="write data.length=1"):
        experiment.family_at(experiment.config("associative", **{"data.name": "zipf"}), 1e4)
    with pytest.raises(ConfigError, match="too many tokens to predict"):
        Associative(vocab=2**30)
