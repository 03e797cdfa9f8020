"""Near-duplicate documents by MinHash and locality-sensitive hashing, vectorised in NumPy.

No library fits: `datasketch` keeps its signatures as Python objects, and its estimates are not the ones that name corpora.

Two documents are near duplicates when the Jaccard similarity of their sets of token 5-grams, estimated from
`PERMUTATIONS` min-hashes (Broder 1997; standard error 0.04 at 0.8), is at least `THRESHOLD`. Candidates are
pairs that agree on a whole band of `ROWS` min-hashes: at a similarity of 0.8 a pair is missed with
probability (1 - 0.8**4)**32 = 5e-8. A token is a run of letters, digits, underscores and non-ASCII bytes,
or one other printable character. White space only separates tokens, so re-indented code is still the same code.
"""
import numpy as np
from tqdm import tqdm

PERMUTATIONS, ROWS, SHINGLE, THRESHOLD = 128, 4, 5, 0.8

LEADERS = 512                                  # members of a group of candidates of which all pairs are compared

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


def clusters(signatures: np.ndarray, threshold: float = THRESHOLD, progress: bool = False,
             desc: str = "comparing") -> np.ndarray:
    """The least index of each document's cluster of near duplicates: int64 [n].

    Of a cluster, the document `i` with `clusters(s)[i] == i` is the one to keep. Clusters are the connected components
    of the near-duplicate relation, so documents of different clusters are never near duplicates. A candidate is compared
    only with candidates of other clusters, so many copies of one page take time and memory in proportion to their number.
    """
    _, first, same = np.unique(_rows(signatures), return_index=True, return_inverse=True)
    found = _Clusters(signatures[first], threshold)
    for band in tqdm(range(signatures.shape[1] // ROWS), desc=desc, unit=" bands", disable=not progress):
        rows = _rows(found.signatures[:, band * ROWS:(band + 1) * ROWS])
        order = np.argsort(rows, kind="stable")
        starts = np.flatnonzero(np.r_[True, rows[order][1:] != rows[order][:-1]])
        sizes = np.diff(np.r_[starts, len(order)])
        for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
            found.join(order[start:start + size], band)
    return _first_of_each(found.roots(np.arange(len(first)))[same.ravel()])


def _first_of_each(groups: np.ndarray) -> np.ndarray:
    """The least index with the same value as each element: int64 [n]."""
    _, first, number = np.unique(groups, return_index=True, return_inverse=True)
    return first[number].astype(np.int64)


def _rows(table: np.ndarray) -> np.ndarray:
    """The rows of a table as values that can be sorted and compared: [n]."""
    table = np.ascontiguousarray(table)
    return table.view(np.dtype((np.void, table.itemsize * table.shape[1]))).ravel()


class _Clusters:
    """A union of near duplicates that grows: each document points to another one of its cluster, or is its root."""

    def __init__(self, signatures: np.ndarray, threshold: float):
        self.signatures, self._least = signatures, int(np.ceil(threshold * signatures.shape[1] - 1e-9))
        self._short = signatures.astype(np.uint8)              # agree wherever the signatures do, at a quarter of the size
        self._parent = np.arange(len(signatures))

    def roots(self, members: np.ndarray) -> np.ndarray:
        found = self._parent[members]
        while not np.array_equal(further := self._parent[found], found):
            found = further
        self._parent[members] = found
        return found

    def join(self, members: np.ndarray, band: int) -> None:
        """Joins those of `members`, which agree on a band, that are alike: all pairs of different clusters are compared.

        Of a cluster that all others are compared with, the members need not be compared from their own side. Beyond
        `LEADERS` members, one is compared only with the `LEADERS` that follow it in the order of the bands after this one,
        so that the time stays linear; alike documents agree on many bands, so they meet in many orders.
        """
        if len(members) > LEADERS:
            rolled = np.roll(self.signatures[members], -(band + 1) * ROWS, axis=1)
            members = members[np.argsort(_rows(rolled), kind="stable")]
        root, short = self.roots(members), self._short[members]
        names, count = np.unique(root, return_counts=True)
        if len(names) == 1:
            return
        leaders = np.flatnonzero(root != names[count.argmax()]) if count.max() > 1 else np.arange(len(members) - 1)
        for turn, place in enumerate(leaders.tolist()):
            start, stop = (0, len(members)) if turn < LEADERS else (place + 1, place + 1 + LEADERS)
            others = np.flatnonzero((_agreeing(short[start:stop], short[place]) >= self._least)
                                    & (root[start:stop] != root[place])) + start
            same = self.signatures[members[others]] == self.signatures[members[place]]
            alike = members[others[np.count_nonzero(same, axis=1) >= self._least]]
            if len(alike):
                joined = np.r_[self.roots(alike), root[place]]
                self._parent[joined] = joined.min()
                root = self.roots(members)
                if (root == root[0]).all():
                    return


def _agreeing(signatures: np.ndarray, signature: np.ndarray) -> np.ndarray:
    """In how many columns each of `signatures` agrees with one: uint64 [n], for a number of columns that 8 divides."""
    equal = (signatures == signature).view(np.uint64)        # eight columns in a word; a sum of bytes stays below 256
    return np.add.reduce(equal, axis=1) * np.uint64(0x0101010101010101) >> np.uint64(56)
