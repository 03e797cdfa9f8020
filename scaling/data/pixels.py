"""Images as tokens: the pixels of an image in raster order, for models of sequences (Chen et al. 2020, "Image GPT").

A token is a level of a pixel and counts as one byte, so bits per byte are bits per dimension, as for a VAE or a diffusion
model of the same images at the same levels.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from types import ModuleType

import numpy as np

from scaling.data.images import load_images
from scaling.data.known.numbers import Numbers
from scaling.data.source import Feed
from scaling.fields import ConfigError

LEVELS = 16  # of a pixel, where the name says nothing


@dataclasses.dataclass(frozen=True)
class Pixels:
    """What a name such as "pixels/16:glyphs/letters" says: the name of grey images, and the levels of their pixels."""

    images: str
    vocab: int = LEVELS

    def family_fields(self) -> dict:
        return {}


def pixels_of(name: str) -> Pixels | None:
    """What "pixels[/<levels>]:<images>" says; None for another name. Raises ConfigError for levels that cannot be."""
    kind, colon, images = name.partition(":")
    first, slash, levels = kind.partition("/")
    if first != "pixels" or not colon or not images:
        return None
    if slash and not (levels.isdigit() and 2 <= int(levels) <= 256):
        raise ConfigError(f"data.name={name!r} has {levels!r} levels; write 2 to 256, such as pixels/{LEVELS}:{images}")
    return Pixels(images, int(levels) if slash else LEVELS)


def side_of(length: int) -> int:
    """The side of square images of `length` pixels. Raises ConfigError where there is none."""
    side = math.isqrt(length)
    if side**2 != length:
        raise ConfigError(f"data.length={length} is not the number of pixels of a square; write {side**2} for images of "
                          f"{side}x{side}, or {(side + 1)**2}")
    return side


class PixelSource(Feed):
    """Windows of 1 + length tokens: a 0, and the pixels of one image of `length` pixels; made by `scaling.data.load_text`.

    A batch is {"tokens": int32 [batch, 1 + length]}. The images, their order and their splits are those of
    `scaling.data.load_images`, which is `images`.

    Attributes: those of `scaling.data.Source`; `entropy` of the images in bits per dimension, None where it is not known;
    `tokenizer`, which writes tokens as numbers; `vocab`, `length`, `unique_tokens`.
    """

    def __init__(self, name: str, pixels: Pixels, length: int, batch: int, unique_tokens: int, data_dir=None,
                 progress: bool = True):
        self.images = load_images(pixels.images, side_of(length), 1, pixels.vocab, batch, unique_tokens // length,
                                  data_dir=data_dir, progress=progress)
        super().__init__(self.images._count, batch, max(1, (1 << 16) // length))
        self.name, self.length, self.vocab, self.splits = name, length, pixels.vocab, self.images.splits
        self.tokenizer, self.entropy = Numbers(pixels.vocab), self.images.entropy
        self.unique_tokens = self.images.unique_examples * length
        self.fingerprint = hashlib.sha256(f"pixels {self.images.fingerprint}".encode()).hexdigest()[:16]
        self.contents = {**self.images.contents, "units": self.unique_tokens, "unit": "tokens"}

    def __repr__(self) -> str:
        return f"PixelSource({self.name!r}, length={self.length}, batch={self.batch_size}, fingerprint={self.fingerprint})"

    def summary(self) -> list[str]:
        """Sentences about what was found in the data and what was left out."""
        return self.images.summary()

    def _read(self, seed, step, rows):
        return {"tokens": as_tokens(self.images._read(seed, step, rows)["image"])}

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays to put on the device for `slice`: those of the images."""
        return self.images.arrays()

    def slice(self, arrays, seed, step) -> dict:
        """`batch(seed, step)` from `arrays()` in JAX; `seed` and `step` may be traced."""
        import jax.numpy as jnp
        return {"tokens": as_tokens(self.images.slice(arrays, seed, step)["image"], jnp)}

    def evaluation(self, split: str, tokens: int = 65536) -> dict[str, np.ndarray]:
        """The first images of an evaluation split, of about so many tokens together: {"tokens": int32 [n, 1 + length],
        "bytes": int32 [n, length] of ones}. Smaller sets are nested in larger ones."""
        images = self.images.evaluation(split, max(1, tokens // self.length))["image"]
        return {"tokens": as_tokens(images), "bytes": np.ones((len(images), self.length), np.int32)}

    def encode(self, text: str) -> np.ndarray:
        return self.tokenizer.encode(text)

    def decode(self, tokens) -> str:
        return self.tokenizer.decode(tokens)


def as_tokens(images, xp: ModuleType = np):
    """uint8 images [n, H, W, 1] as int32 windows [n, 1 + H W], which begin with a 0."""
    flat = images.reshape(len(images), -1).astype(xp.int32)
    return xp.concatenate([xp.zeros((len(flat), 1), xp.int32), flat], 1)


def as_images(tokens) -> np.ndarray:
    """The images of windows without their first token, integer [n, H W]: uint8 [n, H, H, 1]."""
    tokens = np.asarray(tokens)
    side = side_of(tokens.shape[1])
    return tokens.astype(np.uint8).reshape(-1, side, side, 1)
