"""Glyphs with a planted correlation: the style of an image goes with its class as often as asked for.

Both factors are divided into halves. Values of a factor with names are numbered as in `classes`, and the even ones are one
half, so that factors of two values, such as weight and slant, have one value in each. A continuous factor is divided in
the middle of its range. An image agrees where its class and its style are both in their first half, or both in their
second. A share of one half means no correlation: all four pairs of halves are then as frequent as the halves themselves.

Only the style of an image changes, and that as little as possible: a continuous style is mirrored at the middle of its
range, and for a style with a name another glyph of the same class is drawn. Image i remains a pure function of i. Every
split has the same correlation; a split of held-out characters or fonts that lack a style is left out.
"""
import hashlib
from types import ModuleType

import numpy as np

from scaling.data import order
from scaling.data.glyphs import render
from scaling.data.glyphs.stream import CATEGORICAL, FIRST, GlyphStream
from scaling.fields import DataError, did_you_mean

AGREES, AGAIN = 28, 29                                       # numbers of factors; render.py has other ones
PARTS = 1 << 16                                              # a share is rounded to so many parts
MIRRORED = tuple(name for name in render.RANGES if name != "contrast")       # the ink would follow the contrast


class CorrelatedStream(GlyphStream):
    """A stream whose style agrees with its class in this share of images. `correlate` is such as "weight,size": a class,
    which has names, and a style. Raises DataError for other factors, and where a class lacks a style."""

    def __init__(self, stream: GlyphStream, correlate: str, share: float):
        self.__dict__.update(stream.__dict__)
        first, comma, second = (part.strip() for part in correlate.partition(","))
        for name, known in ((first, CATEGORICAL), (second, (*CATEGORICAL, *MIRRORED))):
            if name not in known or not comma or first == second:
                raise DataError(f"data.correlate={correlate!r} is not possible; write a class (one of "
                                f"{', '.join(CATEGORICAL)}), a comma and another factor, its style (one of those or of "
                                f"{', '.join(MIRRORED)}), such as weight,size" + did_you_mean(name, known))
        self.correlated, self.share, self._parts = (first, second), share, round(share * PARTS)
        named = second in CATEGORICAL
        self._others = {split: self._partners(*self._pools[split]) for split in ("train", "iid")} if named else {}
        for split in self.splits[1:] if named else ():
            try:
                self._others[split] = self._partners(*self._pools[split])
            except DataError:
                self.splits = tuple(each for each in self.splits if each != split)
        described = f"{stream.fingerprint} {first} {second} {self._parts}"
        self.fingerprint = hashlib.sha256(described.encode()).hexdigest()[:16]
        note = f"the {second} of an image goes with its {first} in {share:.1%} of images"
        evaluation = {split: stream.contents["evaluation"][split] for split in self.splits}
        self.contents = {**stream.contents, "evaluation": evaluation, "notes": [*stream.contents["notes"], note]}

    def _partners(self, start: int, count: int) -> dict[str, np.ndarray]:
        """The masters of a pool by value of the class and half of the style: `members`, and where those of value v and half
        h begin, `first[2 v + h]`, and how many they are, `many[2 v + h]`."""
        classes, styles = (self._ids[name][start:start + count] for name in self.correlated)
        cells = 2 * classes + styles % 2
        many = np.bincount(cells, minlength=2 * len(self._names[self.correlated[0]]))
        for value in np.unique(classes):
            if not many[2 * value:2 * value + 2].all():
                name, half = self._names[self.correlated[0]][value], int(many[2 * value] > 0)
                raise DataError(f"data.correlate={','.join(self.correlated)!r} is not possible: no glyph of {self.name} "
                                f"with the {self.correlated[0]} {str(name)!r} has a {self.correlated[1]} of "
                                f"{', '.join(self.classes(self.correlated[1])[half::2])}; choose other factors")
        members = start + np.argsort(cells, kind="stable")
        return {name: value.astype(np.int32) for name, value in (
            ("members", members), ("first", np.cumsum(many) - many), ("many", many))}

    def half(self, factor: str, drawn: dict, xp: ModuleType = np):
        """Which half of a factor images are in, given what `draw` returns: int32 [k], 0 or 1."""
        if factor in CATEGORICAL:
            return xp.asarray(self._ids[factor])[drawn["master"]] % 2
        low, high = render.RANGES[factor]
        return (2 * drawn[factor] > low + high).astype(xp.int32)

    def draw(self, index, split: str, xp: ModuleType = np) -> dict:
        drawn = super().draw(index, split, xp)
        first, second = self.correlated
        base = order.key(render.SEED, xp.asarray(index).astype(xp.uint32) + xp.uint32(FIRST[split]), xp=xp)
        agrees = order.key(base, AGREES, xp=xp) % xp.uint32(PARTS) < xp.uint32(self._parts)
        wanted = xp.where(agrees, self.half(first, drawn, xp), 1 - self.half(first, drawn, xp))
        moved = wanted != self.half(second, drawn, xp)
        if second in MIRRORED:
            both = sum(render.RANGES[second])                # of a value and its mirror; the middle is in the first half
            mirrored = both - drawn[second] + (2 * drawn[second] == both).astype(xp.int32)
            return drawn | {second: xp.where(moved, mirrored, drawn[second])}
        found = {name: xp.asarray(value) for name, value in self._others[split].items()}
        cell = 2 * xp.asarray(self._ids[first])[drawn["master"]] + wanted
        again = order.key(base, AGAIN, xp=xp) % found["many"][cell].astype(xp.uint32)
        other = found["members"][found["first"][cell] + again.astype(xp.int32)]
        return drawn | {"master": xp.where(moved, other, drawn["master"])}
