"""Transforms of images, by name."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.data import transforms


def picture(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


@pytest.mark.parametrize("rule", transforms.RESIZES)
def test_resizing_keeps_constants_and_reaches_the_size(rule):
    flat = np.full((9, 14, 3), 77, np.uint8)
    np.testing.assert_array_equal(transforms.resize_image(flat, 5, rule), np.full((5, 5, 3), 77))
    up = transforms.resize_image(picture(4, 4), 12, rule)
    assert up.shape == (12, 12, 3) and up.dtype == np.uint8
    same = picture(8, 8)
    np.testing.assert_array_equal(transforms.resize_image(same, 8, rule), same)


def test_resizing_rules_do_what_their_names_say():
    image = picture(12, 8, 1)
    area = image.reshape(4, 3, 4, 2, 1).mean((1, 3))
    np.testing.assert_allclose(transforms.resize_image(image, 4, "area"), area, atol=1)
    nearest = transforms.resize_image(image, 4, "nearest")
    np.testing.assert_array_equal(nearest, image[1::3, 1::2])
    step = np.repeat(np.array([[0, 255]], np.uint8), 2, 0)[..., None]
    ramp = transforms.resize_image(step, 8, "bilinear")[0, :, 0].astype(int)
    assert (np.diff(ramp) >= 0).all() and ramp[0] == 0 and ramp[-1] == 255 and 0 < ramp[3] < ramp[4] < 255
    edge = np.where(np.arange(8) < 4, 50, 200).astype(np.uint8).reshape(1, 8, 1).repeat(8, 0)
    for rule, overshoots in (("bilinear", False), ("bicubic", True), ("lanczos", True)):
        found = transforms.resize_image(edge, 32, rule)
        assert (found.min() < 50 and found.max() > 200) == overshoots


def test_crops():
    tall = picture(10, 5)
    np.testing.assert_array_equal(transforms.CROPS["center"](tall), tall[2:7])
    wide = picture(4, 9)
    np.testing.assert_array_equal(transforms.CROPS["center"](wide), wide[:, 2:6])
    assert transforms.CROPS["none"](tall) is tall


def test_channels():
    image = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [90, 90, 90]]], np.uint8)
    np.testing.assert_array_equal(transforms.to_channels(image, 1)[0, :, 0], [76, 150, 29, 90])
    np.testing.assert_array_equal(transforms.to_channels(image, 3), image)
    one = picture(2, 2, 1)
    np.testing.assert_array_equal(transforms.to_channels(one, 3), np.repeat(one, 3, -1))
    clear = np.concatenate([image, np.array([[[255], [0], [255], [128]]], np.uint8)], -1)
    np.testing.assert_array_equal(transforms.to_channels(clear, 3)[0],
                                  [[255, 0, 0], [0, 0, 0], [0, 0, 255], [45, 45, 45]])


@pytest.mark.parametrize("count", [2, 3, 16, 256])
def test_quantised_levels_are_ordered_and_take_equal_parts(count):
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    found = transforms.quantise(every, count)
    assert found.dtype == np.uint8 and (np.diff(found.ravel().astype(int)) >= 0).all()
    sizes = np.bincount(found.ravel())
    assert len(sizes) == count and np.ptp(sizes) <= 1
    np.testing.assert_array_equal(jax.jit(lambda x: transforms.quantise(x, count, jnp))(every), found)


def test_the_key_decides_flips_and_shifts_alike_in_numpy_and_jax():
    images = np.stack([picture(6, 6, 2, seed) for seed in range(64)])
    keys = np.arange(64, dtype=np.uint32)
    flipped = transforms.move(images, keys, True, 0)
    kinds = [np.array_equal(a, b) for a, b in zip(flipped, images, strict=True)]
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, images, strict=True)]
    assert all(a != b for a, b in zip(kinds, mirrored, strict=True)) and 16 < sum(kinds) < 48
    moved, seen = transforms.move(images, keys, False, 2), set()
    for image, found in zip(images, moved, strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="edge")
        cuts = {(y, x): padded[y:y + 6, x:x + 6] for y in range(5) for x in range(5)}
        places = {place for place, cut in cuts.items() if np.array_equal(cut, found)}
        assert places
        seen |= places
    assert len(seen) > 15
    assert transforms.move(images, keys, False, 0) is images
    both = jax.jit(lambda x, k: transforms.move(x, k, True, 2, jnp))(images, keys)
    np.testing.assert_array_equal(both, transforms.move(images, keys, True, 2))
