"""Which characters are kept together, and which groups and fonts are held out.

Two characters belong to the same group where one of these holds, or a chain of them:

- the same base letter: the first character of the compatibility decomposition (NFKD), case-folded, so that
  a, A, á and the circled a go together;
- twins: a font shows exactly the same picture for both;
- near twins: the `similarity` of a picture of the one and a picture of the other is at least `NEAR`.

Whole groups, and whole families of fonts, are held out in the order of a hash, each where it keeps the sum
within `HELD_OUT` of all masters. So no picture of a held-out character has a near twin that is trained on.
"""
import hashlib
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

HELD_OUT = 0.1
NEAR = 0.95
GRID = 16            # pixels of the side that pictures are compared at
BLOCK = 2048         # pictures compared at once


def base(code: int) -> str:
    """The letter that a character is a variant of."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", chr(code)).strip()[:1].casefold())
    return plain[:1] or chr(code)


def shapes(pictures: np.ndarray) -> np.ndarray:
    """Pictures without size and place: the box of the ink, brought to `GRID` pixels along its longer side, in
    the middle; float32 [n, GRID * GRID] of length one, whose products are similarities (cosines).
    """
    from PIL import Image
    out = np.zeros((len(pictures), GRID, GRID), np.float32)
    for picture, shape in zip(pictures, out, strict=True):
        rows, columns = np.flatnonzero(picture.any(1)), np.flatnonzero(picture.any(0))
        ink = picture[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
        height, width = (max(1, round(GRID * side / max(ink.shape))) for side in ink.shape)
        small = Image.fromarray(ink).resize((width, height), Image.Resampling.BOX)
        y, x = (GRID - height) // 2, (GRID - width) // 2
        shape[y:y + height, x:x + width] = small
    flat = out.reshape(len(out), -1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def similarity(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosines of two sets of pictures once their size and place are taken away: float32 [n, m], at most 1."""
    return shapes(one) @ shapes(other).T


def near(pictures: np.ndarray, threshold: float = NEAR) -> Iterable[tuple[int, int]]:
    """Pairs of pictures, the first before the second, whose `similarity` is at least `threshold`."""
    shape = shapes(pictures)
    for at in range(0, len(shape), BLOCK):
        for to in range(at, len(shape), BLOCK):
            alike = shape[at:at + BLOCK] @ shape[to:to + BLOCK].T >= threshold
            for i, j in zip(*np.nonzero(alike), strict=True):
                if at + i < to + j:
                    yield int(at + i), int(to + j)


def groups(characters: Sequence[int], pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Character -> the least character of its group, given `pairs` of characters that look alike."""
    root = {code: code for code in characters}

    def find(code: int) -> int:
        while root[code] != code:
            root[code] = root[root[code]]
            code = root[code]
        return code

    def join(one: int, other: int) -> None:
        low, high = sorted((find(one), find(other)))
        root[high] = low

    letters: dict[str, int] = {}
    for code in sorted(root):
        join(letters.setdefault(base(code), code), code)
    for one, other in pairs:
        if one in root and other in root:    # of twins, one may have no picture of its own left
            join(one, other)
    return {code: find(code) for code in root}


def hold_out(sizes: dict[str, int]) -> set[str]:
    """Names to hold out, in the order of a hash, each where the sizes stay within `HELD_OUT` of all."""
    left, chosen = HELD_OUT * sum(sizes.values()), set()
    for name in sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
        if sizes[name] <= left:
            chosen.add(name)
            left -= sizes[name]
    return chosen
