"""Transforms of images: some apply once when images are prepared, others to each image as it is fed.

Prepared images pass, in this order, `CROPS`, `RESIZES` and `to_channels`. Fed images pass `move` (mirroring and
shifting, in training only) and `quantise`. These two compute in integers, so NumPy and JAX give the same result.
"""
from types import ModuleType

import numpy as np

from scaling.data import order
from scaling.fields import DataError, did_you_mean

RESIZES = {"area": "BOX", "nearest": "NEAREST", "bilinear": "BILINEAR", "bicubic": "BICUBIC",
           "lanczos": "LANCZOS"}           # Pillow's filters; all but nearest antialias
LUMA = (299, 587, 114)                     # thousandths of R, G and B in grey (ITU-R BT.601)


def center(image: np.ndarray) -> np.ndarray:
    """The largest square in the middle of [H, W, C]."""
    side = min(image.shape[:2])
    y, x = ((length - side) // 2 for length in image.shape[:2])
    return image[y:y + side, x:x + side]


CROPS = {"center": center, "none": lambda image: image}


def check_name(field: str, value: str, known) -> None:
    """Raises DataError unless `value` is among the names `known`."""
    if value not in known:
        raise DataError(f"data.{field}={value!r} is not known; write one of {', '.join(known)}"
                        + did_you_mean(value, known))


def resize_image(image: np.ndarray, size: int, rule: str) -> np.ndarray:
    """uint8 [H, W, C] -> [size, size, C]. The sides of an image that is not square are scaled by different factors."""
    from PIL import Image
    if image.shape[:2] == (size, size):
        return image
    sampling = Image.Resampling[RESIZES[rule]]
    planes = [Image.fromarray(np.ascontiguousarray(image[..., c])).resize((size, size), sampling)
              for c in range(image.shape[-1])]
    return np.stack([np.asarray(plane) for plane in planes], -1)


def grey(image: np.ndarray) -> np.ndarray:
    """uint8 RGB [..., 3] -> its rounded luma [..., 1]."""
    return ((image.astype(np.int32) @ np.array(LUMA, np.int32) + 500) // 1000).astype(np.uint8)[..., None]


def to_channels(image: np.ndarray, count: int) -> np.ndarray:
    """uint8 [..., 1 to 4 channels] -> [..., count]: grey (1) or RGB (3). Transparent pixels become black."""
    if image.shape[-1] in (2, 4):
        alpha = image[..., -1:].astype(np.int32)
        image = ((image[..., :-1] * alpha + 127) // 255).astype(np.uint8)
    if image.shape[-1] == count:
        return image
    return grey(image) if count == 1 else np.repeat(image, count, -1)


def quantise(image, count: int, xp: ModuleType = np):
    """Values 0 to 255 -> levels 0 to count - 1. Each level takes an equal part of the values."""
    return image if count == 256 else ((image.astype(xp.int32) * count) >> 8).astype(xp.uint8)


def move(image, key, flip: bool, shift: int, xp: ModuleType = np):
    """Mirrors half of the images, and moves each by up to `shift` pixels in both directions, repeating the edges.

    image [k, H, W, C]; key uint32 [k]: the random key of each image.
    """
    if not flip and not shift:
        return image
    height, width = image.shape[1:3]

    def draw(number: int, span: int):
        return (order.key(key, number, xp=xp) % xp.uint32(span)).astype(xp.int32).reshape(-1, 1)

    def places(number: int, length: int):
        moved = xp.arange(length, dtype=xp.int32).reshape(1, -1) + draw(number, 2 * shift + 1) - shift
        return xp.clip(moved, 0, length - 1)

    y, x = places(0, height), places(1, width)
    x = xp.where(draw(2, 2) == 1, width - 1 - x, x) if flip else x
    if xp is np:  # one gather of whole pixels, in a seventh of the time
        rows = np.arange(len(image)).reshape(-1, 1, 1) * height + y.reshape(*y.shape, 1)
        return image.reshape(-1, image.shape[3]).take(rows * width + x.reshape(len(x), 1, -1), 0)
    moved = xp.take_along_axis(image, y.reshape(*y.shape, 1, 1), 1)
    return xp.take_along_axis(moved, x.reshape(len(x), 1, -1, 1), 2)
