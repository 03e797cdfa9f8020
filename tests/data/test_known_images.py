"""The teacher of images: exact likelihoods, and images that are pure functions of their numbers."""
import itertools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from frequencies import agree

from scaling import data
from scaling.data.known.names import image_teacher
from scaling.fields import ConfigError, DataError

NAMES = ["teacher", "teacher:4,coupling=2", "teacher:1,seed=3"]


def load(name="teacher", **more):
    return data.load_images(name, **{"size": 6, "levels": 3, "batch": 8, **more})


def all_images(size, channels, levels):
    shape = (size, size, channels)
    return np.array(list(itertools.product(range(levels), repeat=size * size * channels)), np.uint8).reshape(-1, *shape)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size,channels,levels", [(2, 1, 4), (3, 1, 2), (2, 3, 2), (1, 3, 5)])
def test_the_probabilities_of_all_images_add_up_to_one(name, size, channels, levels):
    pictures = image_teacher(name).pictures(name, size, channels, levels)
    assert abs(np.exp(-pictures.nats(all_images(size, channels, levels))).sum() - 1) < 1e-9


@pytest.mark.parametrize("channels", [1, 3])
def test_images_come_as_often_as_their_probability_says(channels):
    source = load("teacher:3", size=2, levels=2, channels=channels)
    images = source.evaluation("iid", 60_000)["image"]
    found, counts = np.unique(images.reshape(len(images), -1), axis=0, return_counts=True)
    expected = 60_000 * np.exp(-source.pictures.nats(found.reshape(-1, 2, 2, channels)))
    assert agree(counts, expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_of_the_true_nats_is_the_entropy(name):
    source = load(name)
    found = source.evaluation("iid", 4000)
    np.testing.assert_allclose(found["nats"], source.pictures.nats(found["image"]), rtol=1e-6)
    bits = found["nats"] / (36 * np.log(2))
    error = np.hypot(bits.std() / np.sqrt(len(bits)), source.entropy.error)
    assert abs(bits.mean() - source.entropy.bits) < 4 * error
    assert 0.3 < source.entropy.bits < np.log2(3)
    assert "bits per dimension" in " ".join(source.summary())


@pytest.mark.parametrize("more", [{}, {"channels": 3, "levels": 5}, {"unique_examples": 20}])
def test_resident_streamed_and_single_batches_are_equal(more):
    source = load(**more)
    arrays = jax.tree.map(jnp.asarray, source.arrays())
    resident = jax.jit(lambda step: source.slice(arrays, 5, step))
    together = source.batches(5, 2, 5)["image"]
    for step, streamed in zip(range(2, 5), source.stream(5, 2, 5), strict=True):
        alone = source.batch(5, step)["image"]
        assert alone.dtype == np.uint8 and alone.max() < source.levels
        for other in (streamed["image"], together[step - 2], resident(step)["image"]):
            np.testing.assert_array_equal(other, alone)


def test_smaller_data_sets_are_nested_and_evaluation_has_other_images():
    few, endless = load(unique_examples=16), load()
    np.testing.assert_array_equal(few.batches(0, 0, 2)["image"], endless.batches(0, 0, 2)["image"])
    some, more = few.evaluation("iid", 10), endless.evaluation("iid", 50)
    np.testing.assert_array_equal(some["image"], more["image"][:10])
    np.testing.assert_array_equal(some["nats"], more["nats"][:10])
    trained = {x.tobytes() for x in endless.batches(0, 0, 8)["image"].reshape(-1, 6, 6, 1)}
    assert not {x.tobytes() for x in more["image"]} & trained


def test_another_process_draws_the_same_images():
    code = ("from scaling import data; import sys\n"
            "source = data.load_images('teacher', size=6, levels=3, batch=8)\n"
            "sys.stdout.buffer.write(source.batch(1, 4)['image'].tobytes())")
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert printed == load().batch(1, 4)["image"].tobytes()


def test_what_the_teacher_cannot_draw_is_refused():
    with pytest.raises(DataError, match="write data.levels=32 or fewer"):
        load(levels=256)
    with pytest.raises(DataError, match="no labels"):
        load(label="character", classes=3)
    with pytest.raises(ConfigError, match="neighbours"):
        load("teacher:9")
