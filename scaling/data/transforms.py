"""What is done to images, by name: once when they are prepared, and to each one as it is fed.

Prepared, in this order: `CROPS`, `RESIZES`, `channels`. Fed, in this order: `move` (mirroring and shifting,
for training alone), `levels`. What is fed is computed in integers, with the same result in NumPy and in JAX.
"""
from types import ModuleType

import numpy as np

from scaling.data import order
from scaling.fields import DataError, did_you_mean

RESIZES = {"area": "BOX", "nearest": "NEAREST", "bilinear": "BILINEAR", "bicubic": "BICUBIC",
           "lanczos": "LANCZOS"}           # to Pillow's filters, all but nearest with antialiasing
LUMA = (299, 587, 114)                     # thousandths of R, G and B in grey (ITU-R BT.601)


def center(image: np.ndarray) -> np.ndarray:
    """The largest square in the middle of [H, W, C]."""
    side = min(image.shape[:2])
    y, x = ((length - side) // 2 for length in image.shape[:2])
    return image[y:y + side, x:x + side]


CROPS = {"center": center, "none": lambda image: image}


def check(field: str, value: str, known) -> None:
    """Refuses a name that is not `known`."""
    if value not in known:
        raise DataError(f"{field}={value!r} is not known; write one of {', '.join(known)}"
                        + did_you_mean(value, known))


def resize(image: np.ndarray, size: int, rule: str) -> np.ndarray:
    """uint8 [H, W, C] -> [size, size, C]; sides are scaled apart where it is not square."""
    from PIL import Image
    if image.shape[:2] == (size, size):
        return image
    sampling = Image.Resampling[RESIZES[rule]]
    planes = [Image.fromarray(np.ascontiguousarray(image[..., c])).resize((size, size), sampling)
              for c in range(image.shape[-1])]
    return np.stack([np.asarray(plane) for plane in planes], -1)


def grey(image: np.ndarray) -> np.ndarray:
    """uint8 [..., 3] -> [..., 1]: the luma, rounded."""
    return ((image.astype(np.int32) @ np.array(LUMA, np.int32) + 500) // 1000).astype(np.uint8)[..., None]


def channels(image: np.ndarray, count: int) -> np.ndarray:
    """uint8 [..., 1 to 4 channels] -> [..., count]: grey (1) or RGB (3); what is transparent is black."""
    if image.shape[-1] in (2, 4):
        alpha = image[..., -1:].astype(np.int32)
        image = ((image[..., :-1] * alpha + 127) // 255).astype(np.uint8)
    if image.shape[-1] == count:
        return image
    return grey(image) if count == 1 else np.repeat(image, count, -1)


def levels(image, count: int, xp: ModuleType = np):
    """Values 0 to 255 -> 0 to count - 1, each level as many of them as another."""
    return image if count == 256 else ((image.astype(xp.int32) * count) >> 8).astype(xp.uint8)


def move(image, key, flip: bool, shift: int, xp: ModuleType = np):
    """Mirrors half of the images, and moves each by up to `shift` pixels both ways, edges repeated.

    image [k, H, W, C]; key uint32 [k], what decides for each image.
    """
    if not flip and not shift:
        return image
    height, width = image.shape[1:3]

    def draw(number: int, span: int):
        return (order.key(key, number, xp=xp) % xp.uint32(span)).astype(xp.int32).reshape(-1, 1)

    along = lambda length: xp.arange(length, dtype=xp.int32).reshape(1, -1)
    y = xp.clip(along(height) + draw(0, 2 * shift + 1) - shift, 0, height - 1)
    x = xp.clip(along(width) + draw(1, 2 * shift + 1) - shift, 0, width - 1)
    x = xp.where(draw(2, 2) == 1, width - 1 - x, x) if flip else x
    moved = xp.take_along_axis(image, y.reshape(*y.shape, 1, 1), 1)
    return xp.take_along_axis(moved, x.reshape(len(x), 1, -1, 1), 2)
