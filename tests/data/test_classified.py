"""Images whose label is to be told: labels that are few or wrong, and evaluation on classes that training shows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sources import tiny

from scaling.fields import ConfigError, DataError


@pytest.fixture
def letters_of(glyph_root):
    return lambda **changes: tiny("classifier", **{"data.data_dir": str(glyph_root), "data.name": "glyphs/letters"},
                                  **{f"data.{name}": value for name, value in changes.items()})


def test_labels_can_be_noisy_and_few_and_evaluation_keeps_its_own(letters_of):
    few = {"unique_examples": 40, "levels": 16}
    sources = [letters_of(**few, **noise).data.load() for noise in ({}, {"noise": 0.5}, {"noise": 0.5, "noises": "pixels"})]
    clean, wrong, blurred = ([source.batch(3, step) for step in range(5)] for source in sources)
    labels, other = (np.concatenate([batch["label"] for batch in run]) for run in (clean, wrong))
    assert 0.2 < np.mean(labels != other) < 0.8 and other.min() >= 0 and other.max() < 52
    for a, b, c in zip(clean, wrong, blurred):
        assert_array_equal(a["image"], b["image"])
        assert_array_equal(a["label"], c["label"])
        assert (a["image"] != c["image"]).any()
    resident = jax.jit(sources[1].slice)(jax.tree.map(jnp.asarray, sources[1].arrays()), 3, 2)
    assert_array_equal(resident["label"], wrong[2]["label"])
    again = np.concatenate([sources[1].batch(3, step)["label"] for step in range(5, 10)])
    assert sorted(again) == sorted(other)  # the label of an image is wrong in every epoch, and in the same way
    assert_array_equal(sources[0].evaluation("iid", 16)["label"], sources[1].evaluation("iid", 16)["label"])
    assert len({source.fingerprint for source in sources}) == 3


def test_a_split_of_classes_that_training_never_shows_is_left_out(letters_of, load_glyphs):
    assert load_glyphs().splits == ("iid", "character", "font") and letters_of().data.load().splits == ("iid", "font")
    weight = letters_of(label="weight", classes=2)
    assert weight.data.load().splits == ("iid", "character", "font") and weight.family.classes == 2


def test_images_without_a_label_are_refused(letters_of, load_glyphs):
    with pytest.raises(ConfigError, match="data.label='' leaves nothing to tell"):
        letters_of(label="")
    with pytest.raises(DataError, match="data.noises='label' is not possible"):
        load_glyphs(noises="label")
