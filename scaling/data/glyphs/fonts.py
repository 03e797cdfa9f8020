"""From font files to masters: one 64 x 64 distance field for every (character, font) that is what it says.

What is left out, and why; `Masters.counts` says how many of each. Of whole fonts:

- Last Resort fonts, whose pictures stand for whole blocks and not for characters;
- `encoding`: a font that names the glyph it shows for an ASCII letter or digit anything else than that
  letter or digit (cmex10, cmmi10 and cmsy10 put brackets, old-style figures and arrows there).

Of single glyphs, in this order:

- `unprintable`: code points that are control, format, private use, surrogate or unassigned (the fonts
  STIXNonUni hold little else), white space, combining marks, and those without a Unicode name;
- `mislabelled`: the font's name for the glyph is not the one that DejaVu Sans has for this character, where
  the code point is below U+0100 or the name is what DejaVu Sans calls another one (cmr10 shows an inverted
  exclamation mark for "<" and a capital gamma for an inverted exclamation mark);
- `missing`: the picture is the font's own for a missing glyph;
- `tiny`: the longer side of the ink is less than `LEAST` of 64 pixels (dots, commas, most accents);
- `duplicate`: the picture is exactly another one's; the least code point is kept, and of its fonts the first.
"""
import functools
import hashlib
import math
import pathlib
import string
import unicodedata
from collections.abc import Callable
from concurrent import futures
from typing import NamedTuple

import numpy as np

SIDE, EM, BASELINE, MARGIN = 64, 52, 46, 4       # pixels: of a master, of the font, the row it stands on
LEAST = 16
FIGURES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ALPHANUMERIC = {c: c for c in string.ascii_letters} | dict(zip(string.digits, FIGURES, strict=True))
REFERENCE = "DejaVuSans.ttf"
# family, weight and slant, where the metadata of TeX's fonts does not say them
STYLES = {"cmb10": ("cmr10", "bold", "upright"), "cmti10": ("cmr10", "regular", "slanted")}
REACH = 7                                        # pixels: of the fields; enough to draw 8 x 8 without a halo
UNSEEN = 142                                     # more than 16 * REACH, and their sum fits 8 bits


class Font(NamedTuple):
    name: str            # "DejaVu Sans Bold"
    family: str          # "DejaVu Sans"
    weight: str          # "regular" or "bold"
    slant: str           # "upright" or "slanted"
    path: pathlib.Path


class Glyph(NamedTuple):
    character: int       # code point
    font: int            # index


def files() -> list[pathlib.Path]:
    """The TrueType files inside matplotlib."""
    import matplotlib
    found = (pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("*.ttf")
    return sorted(p for p in found if not p.name.startswith("LastResort"))


def fingerprint(paths) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def describe(path: pathlib.Path) -> Font:
    from matplotlib.ft2font import FT2Font
    face = FT2Font(str(path))
    style = face.style_name
    weight = "bold" if "Bold" in style else "regular"
    slant = "slanted" if "Italic" in style or "Oblique" in style else "upright"
    told = STYLES.get(path.stem, (face.family_name, weight, slant))
    plain = style in ("Book", "Regular", "Display")
    return Font(face.family_name if plain else f"{face.family_name} {style}", *told, path)


def labels(path: pathlib.Path) -> dict[int, str]:
    """Code point -> the font's own name for the glyph it shows."""
    from matplotlib.ft2font import FT2Font
    face = FT2Font(str(path))
    return {code: face.get_glyph_name(glyph) for code, glyph in sorted(face.get_charmap().items())}


@functools.cache
def _reference() -> tuple[dict[int, str], dict[str, set[int]]]:
    import matplotlib
    names = labels(pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf" / REFERENCE)
    codes: dict[str, set[int]] = {}
    for code, name in names.items():
        codes.setdefault(name, set()).add(code)
    return names, codes


def misencoded(names: dict[int, str]) -> bool:
    """Whether a font shows something else for an ASCII letter or digit, by its own names."""
    return any(names.get(ord(c), name) != name for c, name in ALPHANUMERIC.items())


def unprintable(code: int) -> bool:
    return unicodedata.category(chr(code))[0] in "CZM" or not unicodedata.name(chr(code), "")


def mislabelled(code: int, name: str) -> bool:
    names, codes = _reference()
    other = code < 0x100 and name not in (names.get(code, name), f"uni{code:04X}")
    return other or code not in codes.get(name, {code})


class Rasteriser:
    """Draws the characters of one font into masters, all at `EM` pixels and on one base line.

    A glyph that does not fit within the margins is moved down or up, and drawn smaller if it must be.
    """

    def __init__(self, path: pathlib.Path):
        from PIL import ImageFont
        self._at = functools.lru_cache(64)(lambda size: ImageFont.truetype(
            str(path), size, layout_engine=ImageFont.Layout.BASIC))
        self.missing = self("\U0010ffff")        # a code point that never has a character

    def __call__(self, character: str) -> np.ndarray | None:
        """Coverage uint8 [SIDE, SIDE], the ink in the middle of the width; None where there is no ink."""
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
    fonts: list[Font]                            # that have a glyph
    glyphs: list[Glyph]                          # sorted
    pictures: np.ndarray                         # coverage uint8 [n, SIDE, SIDE], all different
    twins: list[tuple[int, int]]                 # pairs of code points with a picture in common
    counts: dict[str, int]                       # what was left out, by rule


def draw(wanted: Callable[[int], bool], paths, progress: bool = True) -> Drawn:
    """Every glyph of the fonts at `paths` whose code point is `wanted`, by the rules above."""
    from tqdm import tqdm
    counts = dict.fromkeys(("encoding", "unprintable", "mislabelled", "missing", "tiny", "duplicate"), 0)
    kept: list[tuple[int, str, np.ndarray]] = []
    described = {path.name: describe(path) for path in paths}
    for path in tqdm(sorted(paths), desc="glyphs: drawing", unit=" fonts", disable=not progress):
        names = labels(path)
        if misencoded(names):
            counts["encoding"] += sum(map(bool, map(wanted, names)))
            continue
        rasterise = None
        for code, name in names.items():
            if not wanted(code):
                continue
            rule = "unprintable" if unprintable(code) else "mislabelled" if mislabelled(code, name) else ""
            if not rule:
                rasterise = rasterise or Rasteriser(path)
                picture = rasterise(chr(code))
                rule = _flaw(picture, rasterise.missing)
            if rule:
                counts[rule] += 1
            else:
                kept.append((code, path.name, picture))
    kept.sort(key=lambda item: item[:2])
    first: dict[bytes, int] = {}
    distinct, twins = [], set()
    for code, font, picture in kept:
        picture = picture.tobytes()
        if picture not in first:
            first[picture] = code
            distinct.append((code, font))
        elif first[picture] != code:
            twins.add((first[picture], code))
    counts["duplicate"] = len(kept) - len(distinct)
    names = sorted({font for _, font in distinct})
    places = {name: place for place, name in enumerate(names)}
    pictures = np.frombuffer(b"".join(first), np.uint8).reshape(-1, SIDE, SIDE)
    return Drawn([described[name] for name in names], [Glyph(code, places[font]) for code, font in distinct],
                 pictures, sorted(twins), counts)


def _flaw(picture: np.ndarray | None, missing: np.ndarray | None) -> str:
    if picture is None:
        return "tiny"
    if missing is not None and np.array_equal(picture, missing):
        return "missing"
    extent = [np.ptp(np.flatnonzero(picture.any(axis))) + 1 for axis in (0, 1)]
    return "tiny" if max(extent) < LEAST else ""


def fields(pictures: np.ndarray) -> np.ndarray:
    """Signed distances to the edge of the ink: uint8 like `pictures`, 128 + 16 per pixel inwards, to `REACH`.

    A pixel that is partly covered has the edge as deep in it as its coverage says. What is drawn from
    distances is sharp at every size, and bolder or lighter by a constant.
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
                here, there = zip(*(_overlap(step) for step in (dy, dx)), strict=True)
                np.minimum(out[here], depth[there] + np.uint8(cost), out=out[here])
    return np.minimum(out, 16 * REACH).astype(np.int16) - 8


def _overlap(step: int) -> tuple[slice, slice]:
    """The pixels of a side that have another one `step` away, and those other ones."""
    return slice(max(0, -step), SIDE - max(0, step)), slice(max(0, step), SIDE - max(0, -step))
