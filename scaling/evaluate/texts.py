"""What is measured on pieces of text: whether code in them parses, how varied they are, how near to other text, how new.

Words are runs of letters, digits and underscores, and single other characters that are no spaces. Code is parsed and
compiled, and never executed.
"""

import ast
import collections
import functools
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import xxhash

WORD = re.compile(r"\w+|[^\w\s]")
BEGINS = re.compile(r"(?!(?:else|elif|except|finally)\b)[^\s#)\]}]")  # an unindented line that begins a statement
NOT_CODE = (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError)  # what Python's parser may raise
TOGETHER = 4096  # rows whose n-grams are made at once
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no bit of an earlier item is lost


class Score(NamedTuple):
    """A ratio of totals over samples, its standard error, and an array [n] whose mean it is: what each sample adds."""

    value: float
    error: float
    each: np.ndarray


def ratio(over, under=None) -> Score:
    """The total of `over` [n] over that of `under` [n], or the mean of `over` without it; 0 where the total is 0.

    The standard error is that of a ratio of the totals of independent samples (Cochran 1977, "Sampling Techniques",
    equation 2.46).
    """
    over = np.asarray(over, np.float64)
    under = np.ones_like(over) if under is None else np.asarray(under, np.float64)
    total = under.sum() or 1.0
    value = over.sum() / total
    each = value + (over - value * under) * len(over) / total
    return Score(float(value), float(each.std(ddof=1) / np.sqrt(len(each))), each)


# ----------------------------------------------------------------------------------------------- code


def whole_blocks(window: str) -> list[str]:
    """The whole top-level blocks of Python in a window of text, in which documents end with a null character.

    A block begins at an unindented line that begins a statement, and a decorator belongs to what it decorates. What stands
    before the first block of a cut document is dropped, since its beginning is missing. So is the last block of the
    window, unless its document ends in the window.
    """
    found, parts = [], window.split("\0")
    for number, part in enumerate(parts):
        cut = number == len(parts) - 1
        lines = part.split("\n")[number == 0:]  # of the window's first line the beginning is missing
        starts, decorated = [], False
        for at, line in enumerate(lines):
            if BEGINS.match(line):
                if not decorated:
                    starts.append(at)
                decorated = line.startswith("@")
        blocks = ["\n".join(lines[start:stop]) for start, stop in zip(starts, [*starts[1:], len(lines)])]
        found += blocks[:-1] if cut else blocks
    return found


def parses(source: str) -> bool:
    """Whether `ast.parse` takes this text as Python."""
    return _accepted(ast.parse, source)


def compiles(source: str) -> bool:
    """Whether it also compiles, which refuses, for example, a `return` outside of a function."""
    return _accepted(functools.partial(compile, filename="<sample>", mode="exec", dont_inherit=True), source)


def _accepted(take, source: str) -> bool:
    try:
        with warnings.catch_warnings(action="ignore"):  # of Python about doubtful code
            take(source + "\n")
    except NOT_CODE:
        return False
    return True


# ------------------------------------------------------------------------------------ variety and quality


def distinct(texts: Sequence[Sequence[str]], n: int) -> float:
    """Distinct-n of some texts, each a list of words: different n-grams over all n-grams (Li et al. 2016,
    arXiv:1510.03055, section 5.2). It falls as more text is counted, so compare equal amounts. 0 without an n-gram."""
    grams = collections.Counter(gram for words in texts for gram in zip(*(words[i:] for i in range(n))))
    return len(grams) / (grams.total() or 1)


def bleu(texts: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> np.ndarray:
    """BLEU, 0 to 100, of each text against all references: float64 [n]. Texts are lists of words.

    It is that of sacrebleu for sentences: 4-grams, fewer where a text has none, and exponential smoothing.
    """
    scorer = _bleu(references=[[" ".join(words)] for words in references])
    return np.array([scorer.corpus_score([" ".join(words)], None).score for words in texts])


def self_bleu(texts: Sequence[Sequence[str]]) -> np.ndarray:
    """BLEU of each text against all others: float64 [n] (Zhu et al. 2018, arXiv:1802.01886, section 2.2). 100 where all
    are alike; lower is more varied."""
    return np.array([bleu([words], [*texts[:at], *texts[at + 1:]])[0] for at, words in enumerate(texts)])


def bleu_signature(references: int) -> str:
    """What BLEU against so many references depends on, in the notation of sacrebleu (Post 2018, arXiv:1804.08771)."""
    scorer = _bleu(references=[["a"]] * references)
    scorer.corpus_score(["a"], None)
    return str(scorer.get_signature())


def _bleu(**options):
    from sacrebleu.metrics import BLEU  # here, since only judges of text need it
    return BLEU(tokenize="none", effective_order=True, force=True, **options)


# --------------------------------------------------------------------------------------------- novelty


def split_words(text: str) -> list[str]:
    return WORD.findall(text)


def word_numbers(words: Sequence[str]) -> np.ndarray:
    """A 64-bit hash of each word: uint64 [n]."""
    return np.array([_word_number(word) for word in words], np.uint64)


@functools.lru_cache(maxsize=2**18)
def _word_number(word):
    return xxhash.xxh64_intdigest(word.encode())


class GramIndex:
    """The n-grams within some rows of items, int or uint64 [any length] each, as sorted 64-bit hashes: 8 bytes each.

    Two different n-grams share a hash by chance in one of 2^64 pairs.
    """

    def __init__(self, rows: Iterable[np.ndarray], n: int):
        self.n = n
        parts = [np.unique(hashes) for hashes, _ in _hashed(rows, n)]
        self._known = np.unique(np.concatenate([np.zeros(0, np.uint64), *parts]))

    def count(self, rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """(how many n-grams of each row are in the index, how many it has), int64 [rows] both."""
        found, total = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        for hashes, numbers in _hashed(rows, self.n):
            found += np.bincount(numbers, self._there(hashes), minlength=len(rows)).astype(np.int64)
            total += np.bincount(numbers, minlength=len(rows))
        return found, total

    def overlap(self, row: np.ndarray) -> tuple[int, int, int]:
        """(n-grams of a row that are in the index, n-grams that it has, items of its longest stretch of such n-grams).

        A stretch of more than n items may be put together from several rows of the index.
        """
        [(hashes, _)] = _hashed([row], self.n)
        ends = np.flatnonzero(np.diff(np.concatenate([[0], self._there(hashes), [0]])))
        runs = ends[1::2] - ends[::2]
        return int(runs.sum()), len(hashes), int(runs.max() + self.n - 1) if len(runs) else 0

    def _there(self, hashes: np.ndarray) -> np.ndarray:
        """Whether each n-gram is in the index: bool [k]."""
        if not len(self._known):
            return np.zeros(len(hashes), bool)
        return np.take(self._known, np.searchsorted(self._known, hashes), mode="clip") == hashes


def _hashed(rows: Iterable[np.ndarray], n: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(hashes of n-grams, uint64 [k], the numbers of their rows, int64 [k]) of `TOGETHER` rows at a time."""
    held, first = [], 0
    for row in rows:
        held.append(np.asarray(row))
        if len(held) == TOGETHER:
            yield _hash_together(held, first, n)
            held, first = [], first + TOGETHER
    if held:
        yield _hash_together(held, first, n)


def _hash_together(rows, first, n):
    items = _mixed(np.concatenate(rows).astype(np.uint64))
    numbers = np.repeat(np.arange(first, first + len(rows)), [len(row) for row in rows])
    count = max(0, len(items) - n + 1)
    hashes = np.zeros(count, np.uint64)
    for offset in range(n):
        hashes = hashes * MULTIPLIER + items[offset:offset + count]
    within = numbers[:count] == numbers[n - 1:n - 1 + count]
    return _mixed(hashes[within]), numbers[:count][within]


def _mixed(x: np.ndarray) -> np.ndarray:
    """A bijection of uint64 that spreads every bit over all (the finaliser of SplitMix64, Steele et al. 2014)."""
    x = x + MULTIPLIER
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
