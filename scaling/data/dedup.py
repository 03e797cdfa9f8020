"""Near-duplicate documents by MinHash and locality-sensitive hashing, vectorised in NumPy.

Two documents are near duplicates when the Jaccard similarity of their sets of token 5-grams, estimated from
`PERMUTATIONS` min-hashes (Broder 1997; standard error 0.04 at 0.8), is at least `THRESHOLD`. Candidates are
pairs that agree on a whole band of `ROWS` min-hashes: at a similarity of 0.8 a pair is missed with
probability (1 - 0.8**4)**32 = 5e-8. A token is a run of letters, digits, underscores and non-ASCII bytes,
or one other printable character; white space only separates, so re-indented code is still the same code.
"""
from collections.abc import Iterable

import numpy as np

PERMUTATIONS, ROWS, SHINGLE, THRESHOLD = 128, 4, 5, 0.8

_P = 0x9E3779B97F4A7C15 | 1                    # odd, so it has an inverse modulo 2**64
_P_INVERSE = pow(_P, -1, 1 << 64)
_CHUNK = 4096                                  # shingles hashed at once: 4096 x 128 x 4 bytes stay in cache
_KIND = np.full(256, 1, np.uint8)              # 0: space, 1: a token by itself, 2: part of a word
_KIND[[9, 10, 11, 12, 13, 32]] = 0
_KIND[[i for i in range(256) if i >= 128 or chr(i).isalnum() or chr(i) == "_"]] = 2


def _powers(base: int, n: int) -> np.ndarray:
    out = np.full(n, base, np.uint64)
    out[0] = 1
    return np.multiply.accumulate(out)         # wraps modulo 2**64, as wanted


class _Powers:
    """Powers of the polynomial hash's base and of its inverse, grown as longer documents come."""
    up = down = np.zeros(0, np.uint64)

    @classmethod
    def get(cls, n: int) -> tuple[np.ndarray, np.ndarray]:
        if len(cls.up) < n:
            cls.up, cls.down = _powers(_P, 2 * n), _powers(_P_INVERSE, 2 * n)
        return cls.up[:n], cls.down[:n]


def tokens(data: bytes) -> np.ndarray:
    """One 64-bit hash per token of `data`, equal where the tokens are equal: uint64 [tokens]."""
    text = np.frombuffer(data, np.uint8)
    if not len(text):
        return np.zeros(0, np.uint64)
    kind = _KIND[text]
    starts = np.ones(len(text), bool)
    starts[1:] = (kind[1:] != kind[:-1]) | (kind[1:] == 1)
    starts &= kind != 0
    ends = np.ones(len(text), bool)
    ends[:-1] = (kind[1:] != kind[:-1]) | (kind[:-1] == 1)
    ends &= kind != 0
    start, end = np.flatnonzero(starts), np.flatnonzero(ends) + 1
    up, down = _Powers.get(len(text))
    prefix = np.zeros(len(text) + 1, np.uint64)
    np.cumsum((text + np.uint64(1)) * up, out=prefix[1:])
    return (prefix[end] - prefix[start]) * down[start]


def shingles(data: bytes) -> np.ndarray:
    """The set of hashed token 5-grams of `data` (all its tokens, if they are fewer): uint32 [k], sorted."""
    token = tokens(data)
    width = max(1, min(SHINGLE, len(token)))
    count = len(token) - width + 1
    if count <= 0:
        return np.zeros(0, np.uint32)
    mixed = np.zeros(count, np.uint64)
    for i in range(width):
        mixed = (mixed ^ token[i:i + count]) * np.uint64(0xFF51AFD7ED558CCD)
        mixed ^= mixed >> np.uint64(32)
    return np.unique((mixed >> np.uint64(16)).astype(np.uint32))


def signature(data: bytes) -> np.ndarray:
    """The min-hashes of the shingles of `data`: uint32 [PERMUTATIONS]."""
    rng = np.random.RandomState(0)             # RandomState's stream is frozen for ever (NEP 19)
    a = rng.randint(0, 1 << 31, PERMUTATIONS).astype(np.uint32) * np.uint32(2) + np.uint32(1)
    b = rng.randint(0, 1 << 31, PERMUTATIONS).astype(np.uint32)
    found = shingles(data)
    least = np.full(PERMUTATIONS, np.iinfo(np.uint32).max, np.uint32)
    for at in range(0, len(found), _CHUNK):
        hashed = found[at:at + _CHUNK, None] * a[None] + b[None]
        np.minimum(least, hashed.min(axis=0), out=least)
    return least


def clusters(signatures: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """The least index of each document's cluster of near duplicates: int64 [n].

    A document is the one to keep of its cluster exactly where `clusters(s)[i] == i`. Clusters are the
    connected components of the near-duplicate relation, so no two of them hold a near-duplicate pair.
    """
    n, width = signatures.shape
    root = np.arange(n)

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for pair in _candidates(signatures.reshape(n, width // ROWS, ROWS)):
        i, j = find(pair[0]), find(pair[1])
        if i != j and np.mean(signatures[pair[0]] == signatures[pair[1]]) >= threshold:
            root[max(i, j)] = min(i, j)
    return np.array([find(i) for i in range(n)], np.int64)


def _candidates(bands: np.ndarray) -> Iterable[tuple[int, int]]:
    """Pairs of documents that agree on a whole band, each once."""
    seen: set[tuple[int, int]] = set()
    for band in range(bands.shape[1]):
        rows = np.ascontiguousarray(bands[:, band]).view(np.dtype((np.void, 4 * ROWS))).ravel()
        order = np.argsort(rows, kind="stable")
        same = rows[order][1:] == rows[order][:-1]
        group: list[int] = []
        for at, index in enumerate(order):
            group = group + [int(index)] if at and same[at - 1] else [int(index)]
            for other in group[:-1]:
                pair = (min(other, int(index)), max(other, int(index)))
                if pair not in seen:
                    seen.add(pair)
                    yield pair
