"""The stream of glyph images: masters drawn once, and images rendered from them without end.

`find_glyphs(config, root)` returns the `GlyphStream` of a set of characters. Its masters are drawn once, in seconds,
and found under `root` afterwards. Image i of a split is a pure function of i (`render.py`). Splits use different i:

- "train": any master of the characters and fonts that are not held out;
- "iid": the same distribution at other i;
- "character": characters that are held out (`groups.py`), in the fonts of training;
- "font": families of fonts that are held out, with the characters of training.
"""
import hashlib
import pathlib
import string
import unicodedata
from collections import Counter
from types import ModuleType
from typing import Any

import numpy as np

from scaling.data import contents
from scaling.data.glyphs import fonts, groups, masters, render
from scaling.data.source import UNLIMITED
from scaling.fields import DataError, did_you_mean
from scaling.store.files import replacing, write_json
from scaling.store.prepared import damaged_file, file_digest, find_index, locked, say_damaged

VERSION = 3                  # of every rule in this directory; raise it when the masters or images change
LEAST = 8                    # the fewest pixels of a side
PER_SPLIT = 1 << 29          # images of an evaluation split
FIRST = {"train": 0, "iid": 1 << 31, "character": (1 << 31) + PER_SPLIT, "font": (1 << 31) + 2 * PER_SPLIT}
CATEGORICAL = ("character", "block", "font", "weight", "slant")


def _named(*prefixes: str):
    return lambda code: unicodedata.name(chr(code), "").startswith(prefixes)


CONFIGS = {                  # the code points of each set
    "": lambda code: True,
    "letters": lambda code: chr(code) in string.ascii_letters,
    "digits": lambda code: chr(code) in string.digits,
    "ascii": lambda code: code < 128,
    "latin": _named("LATIN "),
    "greek": _named("GREEK "),
    "cyrillic": _named("CYRILLIC "),
    "arabic": _named("ARABIC "),
    "math": lambda code: unicodedata.category(chr(code)) == "Sm",
}


def find_glyphs(config: str, root: pathlib.Path, size: int, channels: int, progress: bool = True) -> "GlyphStream":
    """The glyphs called `config` (a key of `CONFIGS`), prepared under `root` unless they are there already.

    After a colon stand the factors that vary (of `render.FACTORS`), as in "letters:rotation,size"; else all of them do.
    """
    config, colon, names = config.partition(":")
    varied = _check_factors(config, names) if colon else render.FACTORS
    if config not in CONFIGS:
        names = [f"glyphs/{name}" if name else "glyphs" for name in CONFIGS]
        raise DataError(f"no set of glyphs is called 'glyphs/{config}'; write one of {', '.join(names)}"
                        + did_you_mean(f"glyphs/{config}", names))
    if not LEAST <= size <= masters.SIDE:
        raise DataError(f"size={size} is out of range for glyphs; write {LEAST} to {masters.SIDE}")
    paths = fonts.font_files()
    state = hashlib.sha256(f"{VERSION} {config} {fonts.files_digest(paths)}".encode()).hexdigest()[:16]
    directory = root / "masters" / f"{config or 'all'}-{state}"
    table = _find_whole(directory)
    if table is None:
        with locked(directory):
            table = _find_whole(directory) or _build(config, paths, directory, progress)
    fields = np.load(directory / "fields.npy", mmap_mode="r")
    return GlyphStream(f"glyphs/{config}".rstrip("/"), table, fields, size, channels, varied)


def _check_factors(config: str, names: str) -> tuple[str, ...]:
    """The factors that a name lists, in the order of `render.FACTORS`; raises DataError."""
    listed = names.split(",")
    for name in listed:
        if name not in render.FACTORS:
            raise DataError(f"data.name='glyphs/{config}:{names}' has {name!r}, which is no factor; write some of "
                            f"{','.join(render.FACTORS)}" + did_you_mean(name, render.FACTORS))
    return tuple(name for name in render.FACTORS if name in listed)


def _find_whole(directory: pathlib.Path) -> dict | None:
    """The table of glyphs that are prepared, or None if they are not or are damaged."""
    table = find_index(directory / "table.json", "fingerprint", "glyphs", "splits")
    if table is not None and (problem := damaged_file(directory, table.get("digests", {"fields.npy": ""}))):
        say_damaged(directory, problem)
        return None
    return table


def _build(config: str, paths: list[pathlib.Path], directory: pathlib.Path, progress: bool) -> dict:
    drawn = masters.draw_masters(CONFIGS[config], paths, progress)
    codes = [glyph.character for glyph in drawn.glyphs]
    alike = [(codes[i], codes[j]) for i, j in groups.near_twins(drawn.pictures)]
    group = groups.group_characters(sorted(set(codes)), drawn.twins + alike)
    families = [font.family for font in drawn.fonts]
    out_characters = groups.hold_out(Counter(f"U+{group[code]:04X}" for code in codes))
    out_families = groups.hold_out(Counter(families[glyph.font] for glyph in drawn.glyphs))
    splits: dict[str, list[int]] = {"train": [], "character": [], "font": []}
    for place, (code, font) in enumerate(drawn.glyphs):
        new_character, new_font = f"U+{group[code]:04X}" in out_characters, families[font] in out_families
        if not (new_character and new_font):
            splits["character" if new_character else "font" if new_font else "train"].append(place)
    places = [place for chosen in splits.values() for place in chosen]
    fields = masters.distance_fields(drawn.pictures[places])
    table: dict[str, Any] = {
        "fonts": [[font.name, font.weight, font.slant] for font in drawn.fonts],
        "glyphs": [[*drawn.glyphs[place]] for place in places],
        "groups": {str(code): root for code, root in group.items()},
        "splits": {name: len(chosen) for name, chosen in splits.items()},
        "held_out_fonts": sorted(out_families), "counts": drawn.counts,
    }
    digest = hashlib.sha256(repr([VERSION, table]).encode() + fields.tobytes())
    table["fingerprint"] = digest.hexdigest()[:16]
    directory.mkdir(parents=True, exist_ok=True)
    with replacing(directory / "fields.npy") as path, open(path, "wb") as file:
        np.save(file, fields)
    table["digests"] = {"fields.npy": file_digest(directory / "fields.npy")}
    write_json(directory / "table.json", table)        # written last: without it the glyphs count as not prepared
    return table


def unicode_block(code: int) -> str:
    """The name of a character's Unicode block, such as "Basic Latin"."""
    from fontTools import unicodedata as blocks
    return blocks.block(chr(code))


class GlyphStream:
    """Masters with their names, and the stream of images rendered from them.

    Attributes: `name`; `fingerprint` of the masters, their names and splits; `splits` for evaluation, the first i.i.d.
      with training; `count`, the number of training images; `fields` uint8 [masters, 64, 64], the masters of training
      first; `characters`, code points; `fonts`, a list of [name, weight, slant]; `groups`, for each character the
      least character of its group; `counts`, the number of glyphs that each rule left out.
    """

    count = UNLIMITED

    def __init__(self, name: str, table: dict, fields: np.ndarray, size: int, channels: int,
                 varied: tuple[str, ...] = render.FACTORS):
        self.name, self.fields, self.counts, self.fonts = name, fields, table["counts"], table["fonts"]
        self.fingerprint, self.size, self.channels = table["fingerprint"], size, channels
        self.varied, notes = varied, []
        if varied != render.FACTORS:
            self.name, held = f"{name}:{','.join(varied)}", [factor for factor in render.FACTORS if factor not in varied]
            self.fingerprint = hashlib.sha256(f"{self.fingerprint} {varied}".encode()).hexdigest()[:16]
            notes = [f"the same in all images: {', '.join(held)}; so evaluation may have images of training"]
        self.groups = {int(code): root for code, root in table["groups"].items()}
        self.characters = sorted(self.groups)
        sizes = table["splits"]
        self._pools = {"train": (0, sizes["train"]), "iid": (0, sizes["train"]),
                       "character": (sizes["train"], sizes["character"]),
                       "font": (sizes["train"] + sizes["character"], sizes["font"])}
        self.splits = tuple(s for s in ("iid", "character", "font") if self._pools[s][1])
        code, font = np.array(table["glyphs"], np.int32).reshape(-1, 2).T
        blocks = {c: unicode_block(c) for c in self.characters}
        values = {"character": [chr(c) for c in code], "block": [blocks[c] for c in code],
                  "font": [self.fonts[f][0] for f in font], "weight": [self.fonts[f][1] for f in font],
                  "slant": [self.fonts[f][2] for f in font]}
        parts = {split: {"documents": sizes.get(split, 0), "bytes": sizes.get(split, 0) * masters.SIDE ** 2}
                 for split in ("train", *self.splits)}       # "iid" has the glyphs of training, placed differently
        self.contents = contents.totals(parts.pop("train"), parts, self.counts, [
            "images are rendered from these glyphs without end; 'iid' has other images of the glyphs of training", *notes],
            things="glyphs")
        self._code, self._names, self._ids = code, {}, {}
        for factor, found in values.items():     # the names of a factor's values, and the number of each master's value
            self._names[factor], ids = np.unique(np.array(found), return_inverse=True)
            self._ids[factor] = ids.astype(np.int32)

    def classes(self, label: str) -> list[str]:
        """The names of the values 0, 1, ... of a categorical factor."""
        if label not in CATEGORICAL:
            raise DataError(f"{self.name} has no label {label!r}; write one of {', '.join(CATEGORICAL)}"
                            + did_you_mean(label, CATEGORICAL))
        return [str(name) for name in self._names[label]]

    def captions(self, length: int) -> np.ndarray:
        """uint8 [masters, length]: such as "LATIN SMALL LETTER A, DejaVu Sans Bold", cut or filled with zeros."""
        names = (f"{unicodedata.name(chr(c))}, {font}" for c, font in zip(
            self._code, self._names["font"][self._ids["font"]], strict=True))
        return np.array([list(n.encode()[:length].ljust(length, b"\0")) for n in names], np.uint8)

    def arrays(self, count: int, label: str, caption: int) -> dict[str, np.ndarray]:
        """The rows of `tables` of the training masters; `count` changes nothing, as images are rendered."""
        return {name: value[:self._pools["train"][1]] for name, value in self.tables(label, caption).items()}

    def tables(self, label: str, caption: int) -> dict[str, np.ndarray]:
        """The fields of all masters, and the label and caption asked for, with one row for each master."""
        out = {"fields": self.fields}
        if label:
            self.classes(label)
            out["label"] = self._ids[label]
        return out | ({"caption": self.captions(caption)} if caption else {})

    def available(self, split: str) -> int:
        return UNLIMITED if split == "train" else PER_SPLIT

    def draw(self, index, split: str, xp: ModuleType = np) -> dict:
        """`render.draw_factors` for images `index` (from 0 on) of a split. `master` is a row of the tables."""
        start, count = self._pools[split]
        index = xp.asarray(index).astype(xp.uint32) + xp.uint32(FIRST[split])
        drawn = render.draw_factors(index, count, self.channels, xp, self.varied)
        return drawn | {"master": drawn["master"] + start}

    def read(self, tables: dict, index, split: str, xp: ModuleType = np) -> dict:
        """Images `index` of a split, 0 to 255, with the label and caption that the tables have."""
        drawn = self.draw(index, split, xp)
        rest = {name: table[drawn["master"]] for name, table in tables.items() if name != "fields"}
        return {"image": render.render_images(tables["fields"], drawn, self.size, xp)} | rest

    def factors(self, split: str, examples: int) -> dict[str, np.ndarray]:
        """Factors of the first images of a split: categorical ones as in `classes`, `code_point`, continuous ones."""
        drawn = self.draw(np.arange(examples), split)
        which = {name: ids[drawn["master"]] for name, ids in self._ids.items()}
        return which | {"code_point": self._code[drawn["master"]]} | render.describe_factors(drawn)
