"""Images from factors in 32-bit integers, with the same bits in NumPy and JAX and on every device.

A factor is drawn by a hash of (`SEED`, i, the number of the factor), so image i depends on no other image and no state.
`draw_factors` returns the factors as fixed-point integers, `render_images` the pixels, `describe_factors` the factors in
their units.

Pixels of an image are mapped into the master by the inverse of size, then shear, then rotation, then shift. The
distance field is interpolated there (bilinear), moved by the stroke, and scaled by the image pixels per master pixel.
That gives the coverage of a pixel, a ramp one pixel wide. One sample of the field for each pixel is enough: it cannot
alias, and no stroke is lost at 16 x 16.
"""
from collections.abc import Collection
from types import ModuleType

import numpy as np

from scaling.data import order
from scaling.data.glyphs.masters import SIDE

SEED = 5                    # the key of the stream; windows.py, source.py and corpus.py have other keys
ONE = 1 << 12               # 1.0 of size, shear, rotation and contrast
RANGES = {                  # each factor is uniform between these limits, both included; see `describe_factors` for units
    "size": (int(0.75 * ONE), int(1.2 * ONE)),
    "shift_x": (-16 << 6, 16 << 6),             # 1/256 of a master's pixel: up to 1/16 of the side
    "shift_y": (-16 << 6, 16 << 6),
    "shear": (int(-0.25 * ONE), int(0.25 * ONE)),
    "rotation": (int(-0.25 * ONE), int(0.25 * ONE)),
    "stroke": (-160, 320),                      # 1/256 of a master's pixel, on either side of a stroke
    "contrast": (ONE // 2, ONE),
}
FACTORS = (*RANGES, "ground", "master")       # by name
MASTER, GROUND, INK, SIGN = len(RANGES), 16, 20, 24       # numbers of the other factors


def draw_factors(index, masters: int, channels: int, xp: ModuleType = np, varied: Collection[str] = FACTORS) -> dict:
    """The factors of images `index` (uint32 [k]): int32 [k], `ground` and `ink` [k, channels].

    `master` is uniform over range(masters). In every channel the ink differs from the ground by the contrast. In grey
    the ink is lighter than the ground; in colour either may be lighter. Factors that are not `varied` lie in the middle of
    their ranges, in every image: `master` at 0, and the ink is lighter.
    """
    base = order.key(SEED, index, xp=xp)

    def uniform(number: int, low, high, name: str):
        if name not in varied:
            return xp.zeros(base.shape, xp.int32) + (low if name == "master" else (low + high) // 2)
        span = xp.asarray(high - low + 1).astype(xp.uint32)
        span = xp.reshape(span, (1,)) if span.ndim == 0 else span
        return (order.key(base, number, xp=xp) % span).astype(xp.int32) + low

    out = {name: uniform(number, *RANGES[name], name) for number, name in enumerate(RANGES)}
    out["master"] = uniform(MASTER, 0, masters - 1, "master")
    contrast = (out["contrast"] * 255) >> 12
    ground, ink = [], []
    for channel in range(channels):
        dark = uniform(GROUND + channel, 0, 255 - contrast, "ground")
        signed = channels > 1 and "ground" in varied
        lighter = uniform(SIGN + channel, 0, 1, "ground") if signed else xp.ones_like(dark)
        light = dark + contrast
        ground.append(xp.where(lighter == 1, dark, light))
        ink.append(xp.where(lighter == 1, light, dark))
    return out | {"ground": xp.stack(ground, -1), "ink": xp.stack(ink, -1)}


def render_images(fields, factors: dict, size: int, xp: ModuleType = np):
    """uint8 [k, size, size, channels] from `fields` [masters, SIDE, SIDE] and the factors of `draw_factors`."""
    def along(x):
        return xp.reshape(x, (-1, 1, 1))

    def scaled(x):
        return along((x * inverse) >> 12)

    angle, shear = factors["rotation"], factors["shear"]
    square = (angle * angle) >> 12
    sine = angle - ((((square * angle) >> 12) * 683) >> 12)                      # x - x**3 / 6
    cosine = ONE - (square >> 1) + ((((square * square) >> 12) * 171) >> 12)     # 1 - x**2 / 2 + x**4 / 24
    inverse = (1 << 24) // factors["size"]
    to_x = scaled(cosine + ((shear * sine) >> 12)), scaled(((shear * cosine) >> 12) - sine)
    to_y = scaled(sine), scaled(cosine)

    # centres of the image's pixels from its middle, in 1/256 of a master's pixel
    centres = np.array([((2 * i + 1 - size) * SIDE * 128) // size for i in range(size)], np.int32)
    across, down = xp.asarray(centres).reshape(1, 1, -1), xp.asarray(centres).reshape(1, -1, 1)
    at_x = across - along(factors["shift_x"])
    at_y = down - along(factors["shift_y"])
    middle = (SIDE // 2 << 8) - 128                          # from the centre of the master's first pixel
    x = ((to_x[0] * at_x + to_x[1] * at_y) >> 12) + middle
    y = ((to_y[0] * at_x + to_y[1] * at_y) >> 12) + middle

    distance = _look_up(fields, factors["master"], x, y, xp)
    gain = along((factors["size"] * size) // SIDE)           # pixels of the image in one of the master
    coverage = xp.clip((((distance + along(factors["stroke"])) * gain) >> 12) + 128, 0, 256)[..., None]
    ground = xp.reshape(factors["ground"], (len(factors["ground"]), 1, 1, -1))
    ink = xp.reshape(factors["ink"], (len(factors["ink"]), 1, 1, -1))
    return (ground + (((ink - ground) * coverage + 128) >> 8)).astype(xp.uint8)


def _look_up(fields, master, x, y, xp):
    """Signed distances at (x, y), all in 1/256 pixels: int32 like x. Outside of a master they fall off."""
    inside_x, inside_y = (xp.clip(v, 0, ((SIDE - 1) << 8) - 1) for v in (x, y))
    outside = xp.abs(x - inside_x) + xp.abs(y - inside_y)
    column, row, right, down = inside_x >> 8, inside_y >> 8, inside_x & 255, inside_y & 255
    place = xp.reshape(master * (SIDE * SIDE), (-1, 1, 1)) + row * SIDE + column
    flat = xp.reshape(fields, (-1,))

    def take(offset):
        found = flat[place + offset] if xp is np else flat.at[place + offset].get(mode="promise_in_bounds")
        return found.astype(xp.int32)

    upper = take(0) * (256 - right) + take(1) * right
    lower = take(SIDE) * (256 - right) + take(SIDE + 1) * right
    found = (upper * (256 - down) + lower * down) >> 12      # 1/16 pixels * 2**16 -> 1/256 pixels
    return found - (128 << 4) - outside


def describe_factors(factors: dict) -> dict[str, np.ndarray]:
    """The continuous factors: float32 [k], and `ground` and `ink` int32 [k, channels] (0 to 255).

    `size` and `contrast` are ratios; `shift_x` and `shift_y` are fractions of the side (to the right and down); `shear`
    is the tangent of the lean to the right; `rotation` is in radians, anticlockwise; `stroke` is the width added on each
    side of a stroke, as a fraction of the side.
    """
    units = {"size": ONE, "contrast": ONE, "shear": ONE, "rotation": ONE,
             "shift_x": SIDE << 8, "shift_y": SIDE << 8, "stroke": SIDE << 8}
    out = {name: np.asarray(factors[name], np.float32) / np.float32(unit) for name, unit in units.items()}
    return out | {name: np.asarray(factors[name]) for name in ("ground", "ink")}
