"""Captions that a finished run writes of images, for families that describe them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from scaling import families
from scaling.data.image_files import UnusableImage, decode_image
from scaling.data.pictures import square
from scaling.data.transforms import quantise
from scaling.study.restored import IMAGES_AT_ONCE, RestoredRun, RestoreError


def caption_images(run: RestoredRun, images, seed: int = 0, temperature: float = 1.0) -> list[str]:
    """The caption of each of uint8 images [n, H, W, C] with values below `run.family.levels`, as the data of the run are.

    Caption i depends on its image, the seed and i alone. `temperature` divides the logits; 0 takes the likeliest byte each
    time. Bytes that are no UTF-8 become question marks. Raises RestoreError for a family that describes no images, and for
    images of other data.
    """
    family, images = run.family, np.asarray(images)
    if not getattr(family, "caption", 0) or not hasattr(family, "describe"):
        able = ", ".join(families.name(cls) for cls in families.all() if hasattr(cls, "describe"))
        raise RestoreError(f"run {run.fingerprint} is of the family {families.name(family)} and describes no images; "
                           f"families that can, of data with captions: {able}")
    shape = (family.image_size, family.image_size, family.channels)
    if images.ndim != 4 or images.shape[1:] != shape or images.size and images.max() >= family.levels:
        raise RestoreError(f"images must be [n, {', '.join(map(str, shape))}] with values below {family.levels}, not "
                           f"{list(images.shape)} with values up to {images.max(initial=0)}")
    describe, found = jax.jit(family.describe), []
    for start in range(0, len(images), IMAGES_AT_ONCE):
        numbers = np.arange(start, start + IMAGES_AT_ONCE, dtype=np.int32)
        batch = {"image": images[numbers % len(images)], "example": numbers,
                 "caption": np.zeros((IMAGES_AT_ONCE, family.caption), np.int32)}
        found.append(np.asarray(describe(run.params, batch, jax.random.key(seed), jnp.float32(temperature))))
    rows = np.concatenate(found)[:len(images)] if found else ()
    return [bytes(row.astype(np.uint8)).split(b"\0")[0].decode(errors="replace").replace("�", "?") for row in rows]


def images_named(run: RestoredRun, names: Sequence[str]) -> np.ndarray:
    """Images uint8 [n, H, W, C] by their names: numbers in the first evaluation set of the run, or paths of files, which
    are brought to the size, the channels and the levels of the run's data. Raises RestoreError."""
    data, found = run.experiment.data, []
    for name in names:
        if name.isdecimal():
            if int(name) >= data.evaluated:
                raise RestoreError(f"the evaluation set has images 0 to {data.evaluated - 1}, and none of number {name}")
            found.append(run.source.evaluation(run.source.splits[0], int(name) + 1)["image"][-1])
            continue
        try:
            pixels = decode_image(epath.Path(name).expanduser().read_bytes())
        except (OSError, UnusableImage) as error:
            raise RestoreError(f"{name} is no number of an image and no image that can be read: {error}") from None
        found.append(quantise(square(pixels, data.size, data.channels, data.resize, data.crop), data.levels))
    return np.stack(found)
