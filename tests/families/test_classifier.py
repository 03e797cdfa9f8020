"""The classifier of images: its losses and metrics, training on attacked images, what attacks cost, and sizes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lively import call, lively, once
from numpy.testing import assert_allclose, assert_array_equal
from sources import ExampleSource, tiny

from scaling import cost, nn
from scaling.families._sums import Each
from scaling.families.classifier import Classifier
from scaling.fields import ConfigError
from scaling.training.counts import step_flops
from scaling.training.evaluation import metrics_of
from scaling.training.program import Program
from scaling.training.step import TRUNK

KEY = jax.random.key(5)
PLAIN = Classifier(image_size=8, levels=16, width=8, layers=1, classes=5)
ROBUST = dataclasses.replace(PLAIN, radius=0.1, steps=3, test_steps=3)
BATCH = PLAIN.example_batch(16, KEY)


def nats_of(family, params, images):
    return nn.cross_entropy(family.logits(params, images), BATCH["label"])


def test_the_network_tells_patches_apart_and_is_sure_of_nothing_at_first():
    images = nn.levels_to_signed(BATCH["image"], 16)
    logits = call(PLAIN, "logits", lively(PLAIN), images)
    swapped = call(PLAIN, "logits", lively(PLAIN), images[:, ::-1])
    assert logits.shape == (16, 5) and np.abs(logits - swapped).max() > 0.1
    fresh = once(PLAIN.init)(KEY)
    assert abs(float(call(PLAIN, "loss", fresh, BATCH, KEY)[0]) - np.log(5)) < 0.2


def test_training_without_a_radius_is_training_on_clean_images_bit_for_bit():
    """Whatever the other fields of the attack say."""
    params, images = lively(PLAIN), nn.levels_to_signed(BATCH["image"], 16)

    def clean(params):
        return nats_of(PLAIN, params, images).mean()

    value, gradient = once(jax.value_and_grad(clean))(params)
    for family in (PLAIN, dataclasses.replace(PLAIN, steps=7, step_size=0.3, test_radius=0.2)):
        found, ours = once(jax.value_and_grad(lambda params, family=family: family.loss(params, BATCH, KEY)[0]))(params)
        assert found == value
        jax.tree.map(assert_array_equal, ours, gradient)


def test_training_with_a_radius_has_the_gradient_of_the_loss_on_the_attacked_images():
    params = lively(ROBUST)
    found = once(ROBUST.attacked)(params, BATCH, KEY)
    images = nn.levels_to_signed(BATCH["image"], 16)
    assert 0.1 < float(jnp.abs(found.images - images).max()) <= 0.2 + 1e-6  # a tenth of a range of 2

    def attacked(params):
        return nats_of(ROBUST, params, found.images).mean()

    value, gradient = once(jax.value_and_grad(attacked))(params)
    loss, ours = once(jax.value_and_grad(lambda params: ROBUST.loss(params, BATCH, KEY)[0]))(params)
    assert_allclose(loss, value, rtol=1e-5)
    jax.tree.map(functools.partial(assert_allclose, rtol=1e-3, atol=1e-5), ours, gradient)
    assert (found.value >= nats_of(ROBUST, params, images) - 1e-5).all()


def test_metrics_are_those_of_the_definitions_and_no_attack_improves_them():
    params, images = lively(ROBUST), nn.levels_to_signed(BATCH["image"], 16)
    found = metrics_of(ROBUST, call(ROBUST, "evaluate", params, BATCH, KEY))
    right = np.asarray(ROBUST.logits(params, images)).argmax(-1) == np.asarray(BATCH["label"])
    assert_allclose([found["accuracy"], found["error"]], [right.mean(), 1 - right.mean()], rtol=1e-6)
    assert_allclose(found["loss"], nats_of(ROBUST, params, images).mean(), rtol=1e-5)
    assert found["robust_loss"] > found["loss"] and found["robust_error"] >= found["error"]
    assert {"macro_f1", "calibration_error", "robust_error_se", "robust_loss_se"} <= set(found)
    none = metrics_of(PLAIN, call(PLAIN, "evaluate", params, BATCH, KEY))
    assert none["robust_error"] == none["error"] and none["robust_loss"] == none["loss"]
    assert_allclose([none[name] for name in ("loss", "calibration_error")],
                    [found[name] for name in ("loss", "calibration_error")], rtol=1e-6)


@pytest.mark.slow
def test_the_check_of_the_attacks_and_pictures_of_attacked_images():
    params = lively(ROBUST)
    batch = BATCH | {"example": jnp.arange(16)}
    found = metrics_of(ROBUST, call(ROBUST, "examine", params, batch, KEY))
    robust = metrics_of(ROBUST, call(ROBUST, "evaluate", params, batch, KEY))["robust_error"]
    assert found["patient_error"] >= robust and found["boundless_error"] >= robust
    assert found["search_error"] <= robust + found["masked_gradients"] + 1e-6
    assert found["gradients_mislead"] == 0 and PLAIN.examine(params, batch, KEY) == {}
    fooled, not_fooled = np.ones((2, 400)), np.zeros((2, 400))
    for masked, boundless, misled in ((not_fooled, fooled, 0), (fooled, fooled, 1), (not_fooled, not_fooled, 1)):
        signs = {"masked_gradients": Each(masked, fooled), "boundless_error": Each(boundless, fooled)}
        assert_array_equal(ROBUST.conclude(signs)["gradients_mislead"].value, [misled, misled])
    drawn = call(ROBUST, "pictures", params, batch, KEY)
    apart = np.abs(drawn["attacked"].astype(int) - drawn["images"].astype(int))
    assert drawn["images"].shape == (4, 8, 8, 8, 1) and 0 < apart.max() <= 2  # 0.1 of 15 levels, rounded


def test_costs_count_the_attack():
    plain, robust = (cost.train_flops(family, 8) for family in (PLAIN, ROBUST))
    # three passes and, of gradients of images alone, two in each step, and the clean and the last image
    assert abs(robust / plain - (3 + 2 * 3 + 2) / 3) < 0.35
    e = tiny("classifier")
    assert step_flops(e) > 2 * step_flops(e.replace({"family.radius": 0.0}))


class Planted(ExampleSource):
    """Images of two classes (Tsipras et al. 1805.12152, section 2.1): the first patch is bright or dark, and says the class
    in 85% of the images. All other pixels say it for certain, by less than the radius."""

    def slice(self, arrays, seed, step):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(7), step), 3)
        label = jax.random.bernoulli(keys[0], 0.5, (self.batch_size,)).astype(jnp.int32)
        right = jnp.where(jax.random.bernoulli(keys[1], 0.85, label.shape), 1, -1)
        sign = nn.along(2 * label - 1, jnp.zeros((1, 8, 8, 1)), 0)
        first = (jnp.arange(8) < 4)[None, :, None, None] & (jnp.arange(8) < 4)[None, None, :, None]
        pixels = jnp.where(first, 60 * nn.along(right, sign, 0), 10) * sign
        noise = 4 * jax.random.normal(keys[2], (self.batch_size, 8, 8, 1))
        return {"image": jnp.round(128 + pixels + noise).astype(jnp.uint8), "label": label}


@pytest.mark.slow
def test_training_on_attacked_images_lowers_the_robust_error_and_costs_clean_error():
    found = {}
    for radius in (0.0, 0.1):
        e = tiny("classifier", **{"data.batch": 32, "data.size": 8, "data.classes": 2, "optim.name": "muon",
                                  "optim.learning_rate": 0.01, "family.width": 16, "family.radius": radius,
                                  "family.test_radius": 0.1})
        program = Program(e, Planted(e.family, 32), 1, steps_per_call=25, devices=jax.devices()[:1])
        state, _ = program.advance(program.init([e]), [e], [TRUNK], 150)
        metrics = program.evaluate(state, Planted(e.family, 1024).batch(0, 10**6))
        found[radius] = {name: float(np.asarray(x)[0]) for name, x in metrics.items()}
    assert found[0.0]["error"] < 0.03 and found[0.0]["robust_error"] > 0.5  # worse than guessing
    assert 0.1 < found[0.1]["error"] <= found[0.1]["robust_error"] < 0.25  # the first patch alone is wrong in 15%


def test_rungs_have_about_the_sizes_that_were_asked_for():
    rungs = [Classifier.ladder(size) for size in Classifier.sizes()]
    assert Classifier.sizes()[0] == 5e3 and Classifier.sizes()[-1] == 1e8
    for size, family in zip(Classifier.sizes(), rungs, strict=True):
        assert abs(cost.param_count(family)["non_embedding"] / size - 1) < 0.25
    widths = [family.width for family in rungs]
    assert widths == sorted(set(widths)) and Classifier.ladder(1e5, layers=2).layers == 2


@pytest.mark.parametrize("fields,said", [
    ({"radius": -0.1}, "family.radius"), ({"radius": 1.5}, "family.radius"), ({"steps": 0}, "family.steps"),
    ({"patch": 3}, "family.patch=3 must divide"), ({"classes": 1}, "family.classes"),
    ({"test_restarts": 0}, "family.test_restarts")])
def test_values_that_cannot_be_are_refused(fields, said):
    with pytest.raises(ConfigError, match=said):
        Classifier(**fields)
