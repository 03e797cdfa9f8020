"""Masters: one 64 x 64 distance field for every (character, font) whose picture shows the character.

Glyphs that are left out, by the first rule that matches; `Drawn.counts` says how many each rule left out:

- `encoding`: the glyph is in a font that is `fonts.misencoded`;
- `unprintable`: the code point has no visible character of its own (the fonts STIXNonUni hold little else);
- `mislabelled`: the font's name for the glyph is that of another character;
- `missing`: the picture is the one that the font shows for missing glyphs;
- `tiny`: the longer side of the ink is less than `LEAST` of 64 pixels (dots, commas, most accents);
- `duplicate`: the picture equals another one; the least code point is kept, and of its fonts the first.
"""
import functools
import math
import pathlib
from collections.abc import Callable
from concurrent import futures
from typing import NamedTuple

import numpy as np

from scaling.data.glyphs import fonts

SIDE, EM, BASELINE, MARGIN = 64, 52, 46, 4       # pixels: of a master, of the font size, the row of the base line
LEAST = 16
REACH = 7                                        # pixels that fields reach: enough to draw 8 x 8 without a halo
UNSEEN = 142                                     # more than 16 * REACH, and their sum fits 8 bits


class Glyph(NamedTuple):
    character: int       # code point
    font: int            # index


class Rasteriser:
    """Draws the characters of one font, all at `EM` pixels and on one base line.

    A glyph that does not fit within the margins is moved down or up, and drawn smaller if it is too large.
    """

    def __init__(self, path: pathlib.Path):
        from PIL import ImageFont
        self._at = functools.lru_cache(64)(lambda size: ImageFont.truetype(
            str(path), size, layout_engine=ImageFont.Layout.BASIC))
        self.missing = self("\U0010ffff")        # no character ever has this code point

    def __call__(self, character: str) -> np.ndarray | None:
        """Coverage uint8 [SIDE, SIDE], with the ink centred horizontally; None if there is no ink."""
        size, room = EM, SIDE - 2 * MARGIN
        while True:
            mask, (_, top) = self._at(size).getmask2(character, mode="L", anchor="ls")
            ink = np.frombuffer(bytes(mask), np.uint8).reshape(mask.size[::-1])
            rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
            if not len(rows):
                return None
            ink = ink[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
            if max(ink.shape) <= room:
                break
            size = min(size - 1, size * room // max(ink.shape))
        height, width = ink.shape
        y = min(max(BASELINE + top + int(rows[0]), MARGIN), SIDE - MARGIN - height)
        x = (SIDE - width) // 2
        out = np.zeros((SIDE, SIDE), np.uint8)
        out[y:y + height, x:x + width] = ink
        return out


class Drawn(NamedTuple):
    fonts: list[fonts.Font]                      # the fonts of `glyphs`
    glyphs: list[Glyph]                          # sorted
    pictures: np.ndarray                         # coverage uint8 [n, SIDE, SIDE], all different
    twins: list[tuple[int, int]]                 # pairs of code points with a picture in common
    counts: dict[str, int]                       # glyphs that each rule left out


def draw_masters(wanted: Callable[[int], bool], paths, progress: bool = True) -> Drawn:
    """Every glyph of the fonts at `paths` whose code point is `wanted` and that no rule leaves out."""
    from tqdm import tqdm
    counts = dict.fromkeys(("encoding", "unprintable", "mislabelled", "missing", "tiny", "duplicate"), 0)
    kept: list[tuple[int, str, bytes]] = []
    described = {path.name: fonts.describe_font(path) for path in paths}
    for path in tqdm(sorted(paths), desc="glyphs: drawing", unit=" fonts", disable=not progress):
        every = fonts.labels(path)
        names = {code: name for code, name in every.items() if wanted(code)}
        if fonts.misencoded(every):
            counts["encoding"] += len(names)
            continue
        rasterise = Rasteriser(path)
        for code, name in names.items():
            if fonts.unprintable(code):
                counts["unprintable"] += 1
            elif fonts.mislabelled(code, name):
                counts["mislabelled"] += 1
            else:
                picture = rasterise(chr(code))
                rule = flaw(picture, rasterise.missing)
                if picture is None or rule:
                    counts[rule] += 1
                else:
                    kept.append((code, path.name, picture.tobytes()))
    kept.sort(key=lambda item: item[:2])
    first: dict[bytes, int] = {}
    distinct, twins = [], set()
    for code, font, picture in kept:
        if picture not in first:
            first[picture] = code
            distinct.append((code, font))
        elif first[picture] != code:
            twins.add((first[picture], code))
    counts["duplicate"] = len(kept) - len(distinct)
    used = sorted({font for _, font in distinct})
    places = {name: place for place, name in enumerate(used)}
    pictures = np.frombuffer(b"".join(first), np.uint8).reshape(-1, SIDE, SIDE)
    return Drawn([described[name] for name in used], [Glyph(code, places[font]) for code, font in distinct],
                 pictures, sorted(twins), counts)


def flaw(picture: np.ndarray | None, missing: np.ndarray | None) -> str:
    """The rule that leaves this picture out, "tiny" or "missing", or ""; `missing` is the font's missing glyph."""
    if picture is None:
        return "tiny"
    if missing is not None and np.array_equal(picture, missing):
        return "missing"
    extent = [np.ptp(np.flatnonzero(picture.any(axis))) + 1 for axis in (0, 1)]
    return "tiny" if max(extent) < LEAST else ""


def distance_fields(pictures: np.ndarray) -> np.ndarray:
    """Signed distances to the edge of the ink: uint8 like `pictures`, 128 + 16 per pixel inwards, up to `REACH`.

    The edge lies as deep inside a partly covered pixel as its coverage says. Images drawn from distances are sharp at
    every size, and adding a constant to the distances makes strokes bolder or lighter. SciPy's distance transforms take
    binary pictures and would place edges on whole pixels.
    """
    out = np.empty(pictures.shape, np.uint8)

    def fill(at: int) -> None:
        ink = np.ascontiguousarray(np.moveaxis(pictures[at:at + 64], 0, -1))
        signed = np.where(ink > 127, _distance(255 - ink), -_distance(ink))
        out[at:at + 64] = np.moveaxis(signed + 128, -1, 0)

    with futures.ThreadPoolExecutor() as pool:               # 64 masters at a time stay in a core's cache
        list(pool.map(fill, range(0, len(pictures), 64)))
    return out


def _distance(ink: np.ndarray) -> np.ndarray:
    """From each pixel's centre to the nearest ink, in 1/16 pixels: int16 [SIDE, SIDE, n]."""
    depth = np.where(ink > 0, (16 * (255 - ink.astype(np.int32)) + 127) // 255, UNSEEN).astype(np.uint8)
    out = depth.copy()
    for dy in range(-REACH, REACH + 1):
        for dx in range(-REACH, REACH + 1):
            cost = round(16 * math.hypot(dx, dy))
            if 0 < cost <= 16 * REACH:
                (rows, other_rows), (columns, other_columns) = _overlap(dy), _overlap(dx)
                here = out[rows, columns]
                np.minimum(here, depth[other_rows, other_columns] + np.uint8(cost), out=here)
    return np.minimum(out, 16 * REACH).astype(np.int16) - 8


def _overlap(step: int) -> tuple[slice, slice]:
    """The pixels of a side that have a neighbour `step` away, and those neighbours."""
    return slice(max(0, -step), SIDE - max(0, step)), slice(max(0, step), SIDE - max(0, -step))
