"""The lens ends with the model's own output, and attributions add up to what they attribute."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from scaling.families.gan import GAN
from scaling.families.transformer import Transformer
from scaling.insight import activations, attribution, lens

SMALL = Transformer(vocab=31, length=12, width=16, layers=2, heads=2)


class Run(NamedTuple):
    family: Any
    params: Any
    fingerprint: str = "planted"


@pytest.fixture(scope="module")
def run():
    """A Transformer whose readout is ten times that of a fresh one, so that it has something to say."""
    params = jax.jit(SMALL.init)(jax.random.key(0))
    return Run(SMALL, jax.tree_util.tree_map_with_path(
        lambda path, x: 10 * x if "readout" in jax.tree_util.keystr(path) else x, params))


def test_the_last_row_of_the_lens_is_what_the_model_says(run):
    tokens = np.asarray(SMALL.example_batch(3, jax.random.key(1))["tokens"])
    found = lens.read_lens(run, tokens)
    assert found.logits.shape == (3, 3, 12, 31)
    assert_allclose(found.logits[-1], SMALL.logits(run.params, tokens[:, :-1]), rtol=1e-4, atol=1e-4)
    assert (found.kl[-1] == 0).all() and (found.kl > -1e-9).all() and found.kl[0].mean() > 0.01
    assert found.agrees[-1].all() and not found.agrees[0].all()
    last = -jax.nn.log_softmax(found.logits[-1])
    assert_allclose(found.nats(tokens[:, 1:])[-1], np.take_along_axis(last, tokens[:, 1:, None], -1)[..., 0], rtol=1e-4)


def test_the_lens_refuses_what_has_no_readout_of_tokens():
    with pytest.raises(activations.InsightError, match="has no readout of next tokens"):
        lens.read_lens(Run(GAN(image_size=8, width=16, layers=2), {}), np.zeros((1, 3)))


def test_attributions_of_a_quadratic_form_are_the_closed_ones():
    rng = np.random.default_rng(0)
    matrix, x, baseline = rng.normal(size=(6, 6)), rng.normal(size=(3, 2)), rng.normal(size=(3, 2))

    def score(points):
        flat = points.reshape(len(points), -1)
        return jnp.einsum("ni,ij,nj->n", flat, matrix, flat)

    found = attribution.integrate_gradients(score, x, baseline)
    middle = ((x + baseline) / 2).ravel()
    expected = ((x - baseline).ravel() * ((matrix + matrix.T) @ middle)).reshape(3, 2).sum(1)
    assert_allclose(found.values, expected, rtol=1e-4)
    assert found.complete and found.steps == attribution.STEPS[0]


def test_what_an_output_does_not_read_gets_nothing_and_equal_inputs_get_the_same():
    found = attribution.integrate_gradients(lambda p: jnp.tanh(p[:, 0, 0] + p[:, 1, 0]), np.ones((3, 2)), np.zeros((3, 2)))
    assert found.values[2] == 0 and found.values[0] == pytest.approx(found.values[1]) and found.complete


def test_an_integral_that_is_too_coarse_fails_the_completeness_test():
    def score(points):
        return jnp.sin(200 * points[:, 0, 0])

    rough = attribution.integrate_gradients(score, np.ones((1, 1)), np.zeros((1, 1)), steps=(4,))
    fine = attribution.integrate_gradients(score, np.ones((1, 1)), np.zeros((1, 1)))
    assert not rough.complete and fine.complete and fine.steps > attribution.STEPS[0]


def test_attributions_of_a_next_token_are_complete_and_the_future_has_none(run):
    tokens = np.array([0, 3, 5, 7, 11, 3])
    found, target = attribution.attribute_next_token(run, tokens)
    logits = np.asarray(SMALL.logits(run.params, tokens[None]))[0, -1]
    assert target == logits.argmax()
    odds = logits[target] - np.log(np.exp(np.delete(logits, target)).sum())
    assert found.output == pytest.approx(odds, rel=1e-3) and found.complete and len(found.values) == 6
    assert found.values[0] == 0  # where the text and the baseline are the same
