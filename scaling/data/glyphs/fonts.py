"""The font files inside matplotlib: their styles, their names for glyphs, and whether they show what they say.

Whole fonts that are left out:

- Last Resort fonts, whose pictures stand for whole blocks and not for characters;
- `misencoded` fonts: their own name for the glyph of some ASCII letter or digit is not that letter or digit (cmex10,
  cmmi10 and cmsy10 have brackets, old-style figures and arrows there).
"""
import functools
import hashlib
import pathlib
import string
import unicodedata
from typing import NamedTuple

FIGURES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ALPHANUMERIC = {c: c for c in string.ascii_letters} | dict(zip(string.digits, FIGURES, strict=True))
REFERENCE = "DejaVuSans.ttf"
# family, weight and slant of TeX's fonts whose metadata do not say them
STYLES = {"cmb10": ("cmr10", "bold", "upright"), "cmti10": ("cmr10", "regular", "slanted")}


class Font(NamedTuple):
    name: str            # "DejaVu Sans Bold"
    family: str          # "DejaVu Sans"
    weight: str          # "regular" or "bold"
    slant: str           # "upright" or "slanted"
    path: pathlib.Path


def font_files() -> list[pathlib.Path]:
    """The TrueType files inside matplotlib."""
    return sorted(p for p in _directory().glob("*.ttf") if not p.name.startswith("LastResort"))


def _directory() -> pathlib.Path:
    import matplotlib
    return pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def files_digest(paths) -> str:
    """SHA-256 of the names and contents of files."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def describe_font(path: pathlib.Path) -> Font:
    from matplotlib.ft2font import FT2Font
    face = FT2Font(str(path))
    style = face.style_name
    weight = "bold" if "Bold" in style else "regular"
    slant = "slanted" if "Italic" in style or "Oblique" in style else "upright"
    family, weight, slant = STYLES.get(path.stem, (face.family_name, weight, slant))
    plain = style in ("Book", "Regular", "Display")
    return Font(face.family_name if plain else f"{face.family_name} {style}", family, weight, slant, path)


def labels(path: pathlib.Path) -> dict[int, str]:
    """Code point -> the font's own name for the glyph that it shows."""
    from matplotlib.ft2font import FT2Font
    face = FT2Font(str(path))
    return {code: face.get_glyph_name(glyph) for code, glyph in sorted(face.get_charmap().items())}


@functools.cache
def _reference() -> tuple[dict[int, str], dict[str, set[int]]]:
    names = labels(_directory() / REFERENCE)
    codes: dict[str, set[int]] = {}
    for code, name in names.items():
        codes.setdefault(name, set()).add(code)
    return names, codes


def misencoded(names: dict[int, str]) -> bool:
    """True if a font, by its own names, shows something else for an ASCII letter or digit."""
    return any(names.get(ord(c), name) != name for c, name in ALPHANUMERIC.items())


def unprintable(code: int) -> bool:
    """True for control, format, private-use, surrogate and unassigned code points, white space, combining marks, and
    characters without a Unicode name."""
    return unicodedata.category(chr(code))[0] in "CZM" or not unicodedata.name(chr(code), "")


def mislabelled(code: int, name: str) -> bool:
    """True if a font's `name` for a glyph contradicts the name that DejaVu Sans has for this character.

    That is so if the code point is below U+0100 and the names differ, or if DejaVu Sans gives the name to another
    character (cmr10 shows an inverted exclamation mark for "<").
    """
    names, codes = _reference()
    other = code < 0x100 and name not in (names.get(code, name), f"uni{code:04X}")
    return other or code not in codes.get(name, {code})
