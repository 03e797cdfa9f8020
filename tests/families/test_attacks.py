"""Attacks on classifiers: bounds, closed forms, that more effort is never weaker, and masked gradients that are found."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lively import once
from numpy.testing import assert_allclose, assert_array_equal

from scaling.families import _attacks as attacks

KEY, COUNT, SHAPE, CLASSES = jax.random.key(3), 32, (6, 6, 2), 4
EXAMPLES = jnp.arange(COUNT)
RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.uniform(-0.6, 0.6, (COUNT, *SHAPE)), jnp.float32)
WEIGHTS = jnp.asarray(RNG.normal(size=(np.prod(SHAPE), CLASSES)), jnp.float32)
LABELS = jnp.asarray(RNG.integers(0, CLASSES, COUNT), jnp.int32)


def linear(images):
    return images.reshape(len(images), -1) @ WEIGHTS


def curved(images):
    """A classifier whose loss has many local maxima."""
    return 2 * jnp.sin(3 * linear(images)) + linear(images)


def stepped(images):
    """The linear classifier of images that are rounded to a grid, so that no gradient says anything."""
    return linear(jnp.round(images * 10) / 10)


LIKELY = linear(IMAGES).argmax(-1).astype(jnp.int32)


@functools.partial(once, static_argnames=("logits", "steps", "restarts"))
def suite(logits, labels, reach, steps=8, restarts=2):
    return attacks.strongest(logits, IMAGES, labels, EXAMPLES, KEY, reach, steps, restarts)


@functools.partial(once, static_argnames=("logits", "objective", "steps", "adapts"))
def climbed(logits, labels, reach, objective="loss", steps=5, adapts=False):
    """(the attack from a random start, what it makes of clean images)."""
    look = attacks.looked_at(logits, labels, objective)
    start = attacks.random_start(KEY, IMAGES, EXAMPLES, reach)
    return attacks.ascend(look, IMAGES, start, reach, steps, reach / 2, adapts), look(IMAGES)


@once
def searched(labels, reach):
    return attacks.search(curved, IMAGES, labels, EXAMPLES, KEY, reach, 40)


def two_classes(images):
    return linear(images)[:, :2]


def worst_margins(logits, labels, reach):
    """The largest margin of the linear classifier within the reach: that of each other class plus reach times the l1 norm
    of the difference of weights (Goodfellow et al. 1412.6572, section 5), where no pixel is at the end of its range."""
    weights, found = np.asarray(WEIGHTS)[:, :logits.shape[1]], []
    for row, label in zip(np.asarray(logits), np.asarray(labels), strict=True):
        gaps = row - row[label] + reach * np.abs(weights - weights[:, [label]]).sum(0)
        found.append(np.delete(gaps, label).max())
    return np.array(found)


@pytest.mark.parametrize("objective,adapts", [("loss", False), ("margin", True), *(
    pytest.param(*case, marks=pytest.mark.slow) for case in (("loss", True), ("margin", False)))])
def test_no_attack_leaves_the_radius_or_the_range_of_pixels_or_lowers_the_loss(objective, adapts):
    for reach in (0.02, 0.9):
        found, clean = climbed(curved, LABELS, reach, objective, adapts=adapts)
        moved = np.abs(np.asarray(found.images) - np.asarray(IMAGES))
        assert moved.max() <= reach + 1e-6 and np.abs(found.images).max() <= 1
        assert (found.value >= clean.value).all() and (found.loss >= clean.loss).all()
        assert (found.wrong | ~clean.wrong).all() and float(found.value.mean()) > float(clean.value.mean())


def test_the_kept_image_is_where_the_objective_was_found():
    for objective in attacks.OBJECTIVES:
        found, _ = climbed(curved, LABELS, 0.3, objective)
        again = attacks.looked_at(curved, LABELS, objective)(found.images)
        assert_allclose(again.value, found.value, rtol=1e-5, atol=1e-5)
    searching = searched(LABELS, 0.3)
    moved = np.abs(np.asarray(searching.images) - np.asarray(IMAGES))
    assert moved.max() <= 0.3 + 1e-6
    assert_allclose(attacks.margin(curved(searching.images), LABELS), searching.value, rtol=1e-5, atol=1e-5)


def test_without_a_radius_nothing_is_found_beside_the_clean_images():
    found = suite(curved, LABELS, 0.0)
    assert_array_equal(found.images, IMAGES)
    assert_allclose(found.value, attacks.margin(curved(IMAGES), LABELS), rtol=1e-5, atol=1e-5)
    assert_array_equal(found.wrong, curved(IMAGES).argmax(-1) != LABELS)


def test_more_steps_and_more_restarts_are_never_weaker():
    found = [suite(curved, LABELS, 0.05, steps, restarts) for steps, restarts in ((2, 1), (8, 1), (8, 2))]
    for less, more in zip(found, found[1:]):
        assert (more.loss >= less.loss - 1e-5).all() and (more.wrong | ~less.wrong).all()
        assert (more.margin >= less.margin - 1e-5).all()
    assert float(found[-1].loss.mean()) > float(found[0].loss.mean()) + 0.1


def test_the_worst_perturbation_of_a_linear_classifier_is_that_of_the_closed_form():
    for reach in (0.01, 0.1, 0.3):
        labels = two_classes(IMAGES).argmax(-1).astype(jnp.int32)
        for objective in attacks.OBJECTIVES:  # each attack alone finds it
            found, _ = climbed(two_classes, labels, reach, objective)
            assert_allclose(found.margin, worst_margins(two_classes(IMAGES), labels, reach), rtol=1e-3, atol=1e-3)
        wanted = worst_margins(linear(IMAGES), LIKELY, reach)
        found = suite(linear, LIKELY, reach)
        assert (np.asarray(found.margin) <= wanted + 1e-4).all()
        assert_array_equal(found.wrong, wanted > 0)  # among four classes an attack may end in another one than the worst


def test_the_loss_grows_with_the_radius_until_every_image_is_fooled():
    found = [suite(linear, LIKELY, reach) for reach in (0.0, 0.02, 0.1, 0.5, 2.0)]
    losses, errors = ([float(x.mean()) for x in which] for which in ([f.loss for f in found], [f.wrong for f in found]))
    assert losses == sorted(losses) and errors == sorted(errors)
    assert errors[0] == 0 and errors[-1] == 1 and losses[-1] > 10 * losses[0]


@pytest.mark.slow
def test_an_attack_on_an_example_does_not_depend_on_the_others():
    some = slice(5, 9)
    alone = once(lambda: attacks.strongest(curved, IMAGES[some], LABELS[some], EXAMPLES[some], KEY, 0.1, 4, 2))()
    together = suite(curved, LABELS, 0.1, 4)
    assert_allclose(alone.loss, together.loss[some], rtol=1e-4, atol=1e-4)
    assert_array_equal(alone.wrong, together.wrong[some])


def test_masked_gradients_are_flagged_and_honest_ones_are_not():
    @functools.partial(once, static_argnums=0)
    def signs(logits):
        return attacks.masking_signs(logits, IMAGES, LIKELY, EXAMPLES, KEY, 0.1, steps=8, restarts=2, queries=60)

    honest, planted = ({name: float(x.mean()) for name, x in signs(logits).items()} for logits in (linear, stepped))
    assert honest["masked_gradients"] == 0 and honest["boundless_error"] == 1
    assert planted["search_error"] > 0.2 and planted["masked_gradients"] > 0.1
    flagged = [attacks.gradients_are_masked(x["masked_gradients"], x["boundless_error"], COUNT) for x in (honest, planted)]
    assert flagged == [False, True]
    assert attacks.gradients_are_masked(0.0, 0.5, 1000) and not attacks.gradients_are_masked(0.01, 0.99, 1000)
