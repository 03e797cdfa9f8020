"""Rotary positions (Su et al. 2021, 2104.09864): queries and keys are turned by angles that follow from their places."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

SCALINGS = {"linear": ("factor",), "llama3": ("factor", "low", "high", "length")}  # {kind: its numbers}


@dataclasses.dataclass(frozen=True)
class Rotary:
    """How vectors are turned.

    base: of the wavelengths, which are 2 pi base^(i / pairs) for pair i.
    share: of each vector, its first part, that is turned; the rest stays as it is (GPT-NeoX, Black et al. 2204.06745).
    scaling: a change of the wavelengths for texts longer than those of training, or "": see `read_scaling`.
    """

    base: float = 10_000.0
    share: float = 1.0
    scaling: str = ""

    def turned(self, size: int) -> int:
        """How many dimensions of a vector of `size` are turned."""
        return int(size * self.share)


def read_scaling(text: str) -> dict[str, float] | None:
    """The numbers in the field `scaling`, and None for "". ValueError for another text.

    "linear:4" makes every wavelength 4 times as long (Chen et al. 2306.15595). "llama3:8,1,4,8192" does so by 8 with those
    longer than 8192 / 1 tokens, leaves those shorter than 8192 / 4, and passes smoothly from one to the other between
    (Llama 3.1).
    """
    if not text:
        return None
    kind, _, numbers = text.partition(":")
    names = SCALINGS.get(kind, ())
    found = [float(number) for number in numbers.split(",")] if names else []
    if len(found) != len(names) or not found or not all(math.isfinite(x) and x > 0 for x in found):
        raise ValueError(f"{text!r} is no scaling of rotary positions")
    said = dict(zip(names, found, strict=True))
    if said.get("low", 1) >= said.get("high", 2):
        raise ValueError(f"{text!r} has a third number that is not above the second")
    return said


def rotate(x, positions, rotary: Rotary | None = None):
    """Turns the halves of x [B, S, heads, d] as pairs, by positions [B or 1, S] (Su et al., eq. 34, with halves in place of
    neighbours).

    The dot product of two turned vectors depends only on the difference of their positions.
    """
    rotary = rotary or Rotary()
    turned = rotary.turned(x.shape[-1])
    if turned == x.shape[-1]:
        return _rotated(x, positions, rotary.base, rotary.scaling)
    return jnp.concatenate([_rotated(x[..., :turned], positions, rotary.base, rotary.scaling), x[..., turned:]], axis=-1)


@functools.partial(jax.checkpoint, prevent_cse=False, static_argnums=(2, 3))
def _rotated(x, positions, base, scaling):
    half = x.shape[-1] // 2
    frequencies = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    if said := read_scaling(scaling):
        slower = frequencies / said["factor"]
        if "length" in said:
            turns = said["length"] / (2 * math.pi) * frequencies  # of a pair over the texts of training
            kept = jnp.clip((turns - said["low"]) / (said["high"] - said["low"]), 0, 1)
            slower = (1 - kept) * slower + kept * frequencies
        frequencies = slower
    angles = positions[..., None, None].astype(jnp.float32) * frequencies[None, None, None, :]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
