"""Near-duplicate documents by MinHash and locality-sensitive hashing, vectorised in NumPy.

Two documents are near duplicates when the Jaccard similarity of their sets of token 5-grams, estimated from
`PERMUTATIONS` min-hashes (Broder 1997; standard error 0.04 at 0.8), is at least `THRESHOLD`. Candidates are
pairs that agree on a whole band of `ROWS` min-hashes: at a similarity of 0.8 a pair is missed with
probability (1 - 0.8**4)**32 = 5e-8. A token is a run of letters, digits, underscores and non-ASCII bytes,
or one other printable character. White space only separates tokens, so re-indented code is still the same code.
"""
from collections.abc import Iterator

import numpy as np

from scaling.data import components

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
    return np.multiply.accumulate(out)         # wraps modulo 2**64, as it should


class _Powers:
    """Powers of the polynomial hash's base and of its inverse; longer documents make the tables grow."""
    up = down = np.zeros(0, np.uint64)

    @classmethod
    def get(cls, n: int) -> tuple[np.ndarray, np.ndarray]:
        if len(cls.up) < n:
            cls.up, cls.down = _powers(_P, 2 * n), _powers(_P_INVERSE, 2 * n)
        return cls.up[:n], cls.down[:n]


def tokens(data: bytes) -> np.ndarray:
    """One 64-bit hash for each token of `data`; equal tokens have equal hashes: uint64 [tokens]."""
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
    """The sorted set of hashed token 5-grams of `data`, or one hash of all tokens if it has fewer: uint32 [k]."""
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

    Of a cluster, the document `i` with `clusters(s)[i] == i` is the one to keep. Clusters are the connected components
    of the near-duplicate relation, so documents of different clusters are never near duplicates.
    """
    count, width = signatures.shape
    bands = signatures.reshape(count, width // ROWS, ROWS)
    alike = (pair for pair in _candidates(bands)
             if np.mean(signatures[pair[0]] == signatures[pair[1]]) >= threshold)
    return components.least_members(count, alike)


def _candidates(bands: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of documents that agree on a whole band, each once."""
    seen: set[tuple[int, int]] = set()
    for band in range(bands.shape[1]):
        rows = np.ascontiguousarray(bands[:, band]).view(np.dtype((np.void, 4 * ROWS))).ravel()
        order = np.argsort(rows, kind="stable")
        same_as_last = np.concatenate([[False], rows[order][1:] == rows[order][:-1]])
        group: list[int] = []
        for index, same in zip(order.tolist(), same_as_last, strict=True):
            if not same:
                group = []
            for other in group:
                pair = (min(other, index), max(other, index))
                if pair not in seen:
                    seen.add(pair)
                    yield pair
            group.append(index)
