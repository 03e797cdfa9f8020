"""Which characters are kept together, and which groups and fonts are held out.

Two characters belong to the same group if one of these relations, or a chain of them, connects them:

- the same base letter: the first character of the compatibility decomposition (NFKD), case-folded, so that
  a, A, á and the circled a go together;
- twins: a font shows exactly the same picture for both;
- near twins: the `similarity` of a picture of one and a picture of the other is at least `NEAR`.

Whole groups, and whole families of fonts, are held out in the order of a hash, each if the sum stays within `HELD_OUT`
of all masters. So no picture of a held-out character has a near twin in training.
"""
import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from scaling.data import components

HELD_OUT = 0.1
NEAR = 0.95
GRID = 16            # pixels of the side that pictures are compared at
BLOCK = 2048         # pictures compared at once


def base(code: int) -> str:
    """The base letter that a character is a variant of."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", chr(code)).strip()[:1].casefold())
    return plain[:1] or chr(code)


def shapes(pictures: np.ndarray) -> np.ndarray:
    """Pictures made independent of size and place: float32 [n, GRID * GRID], of length one.

    The box of the ink is scaled to `GRID` pixels along its longer side and centred. Products of rows are similarities
    (cosines).
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
    """Cosines of the `shapes` of two sets of pictures: float32 [n, m], at most 1."""
    return shapes(one) @ shapes(other).T


def near_twins(pictures: np.ndarray, threshold: float = NEAR) -> Iterable[tuple[int, int]]:
    """Pairs (i, j) of pictures, i < j, whose `similarity` is at least `threshold`."""
    shape = shapes(pictures)
    for at in range(0, len(shape), BLOCK):
        for to in range(at, len(shape), BLOCK):
            alike = shape[at:at + BLOCK] @ shape[to:to + BLOCK].T >= threshold
            for i, j in zip(*np.nonzero(alike), strict=True):
                if at + i < to + j:
                    yield int(at + i), int(to + j)


def group_characters(characters: Sequence[int], pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Character -> the least character of its group, given `pairs` of characters that look alike."""
    codes = sorted(characters)
    place = {code: i for i, code in enumerate(codes)}
    first_of_letter: dict[str, int] = {}
    edges = [(first_of_letter.setdefault(base(code), i), i) for code, i in place.items()]
    # A pair may hold a character that has no picture of its own left, because its twin came first.
    edges += [(place[one], place[other]) for one, other in pairs if one in place and other in place]
    least = components.least_members(len(codes), edges)
    return {code: codes[least[place[code]]] for code in characters}


def hold_out(sizes: Mapping[str, int]) -> set[str]:
    """Names to hold out, in the order of a hash, each if the sum of sizes stays within `HELD_OUT` of all."""
    left, chosen = HELD_OUT * sum(sizes.values()), set()
    for name in sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
        if sizes[name] <= left:
            chosen.add(name)
            left -= sizes[name]
    return chosen
