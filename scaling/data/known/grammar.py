"""Documents derived by a probabilistic context-free grammar, with their exact likelihood by the inside algorithm.

The grammar is in Greibach's normal form: a rule turns a symbol into one word and zero, one or two symbols. So each step of
a leftmost derivation writes a word. The probability of a word given those before it is a ratio of prefix probabilities
(Jelinek and Lafferty 1991, "Computation of the probability of initial substring generation by stochastic context-free
grammars"). In this form they follow from the inside probabilities (Baker 1979) without the inverse of a matrix, since no
rule recurs on the left.
"""
import dataclasses
import functools
from types import ModuleType

import numpy as np

from scaling.data.known import draws
from scaling.fields import check_fields, convert_fields, static

TOGETHER = 1 << 19     # probabilities of spans of the documents that are summed together


@dataclasses.dataclass(frozen=True)
class Grammar:
    """A window begins with the separator, token 0. Documents follow, each derived from symbol 0 and ended by a separator;
    the last one is cut. Words are the tokens from 1 on.

    Each symbol has `rules` rules, of which a third each writes zero, one and two symbols behind its word. Words and symbols
    of rules are uniform, and weights are exp(sharpness z) with standard normal z, all from the seed. The chances of zero,
    one and two symbols are such that a document has `mean` words in the mean, whatever the seed.
    """

    symbols: int = static(8, least=1, most=64)
    vocab: int = static(64, least=3, most=4096)
    rules: int = static(12, least=3, most=256)
    mean: float = static(6.0, least=1, most=64)
    sharpness: float = static(1.0, least=0, most=8)
    seed: int = static(0, least=0, most=2**32 - 1)

    def __post_init__(self):
        convert_fields(self)
        check_fields(self, "data.name=grammar: ")

    def family_fields(self) -> dict:
        return {}

    @functools.cached_property
    def tables(self) -> dict[str, np.ndarray]:
        """"rule": thresholds, uint32 [symbols, rules - 1]; of each rule, int32 [symbols, rules], its "word", and its
        "first" and "second" symbol, counted from 1, where 0 is none."""
        shape, arity = (self.symbols, self.rules), np.arange(self.rules) % 3
        growth = 1 - 1 / self.mean      # symbols behind a word in the mean: a document has 1 / (1 - growth) words
        chances = np.array([1 - 0.6 * growth, 0.2 * growth, 0.4 * growth])
        weights = np.exp(self.sharpness * draws.normals(shape, self.seed, 0))
        for count, chance in enumerate(chances):
            weights[:, arity == count] *= chance / weights[:, arity == count].sum(-1, keepdims=True)
        word, first, second = ((draws.uniforms(shape, self.seed, part) * limit).astype(np.int32) + 1
                               for part, limit in ((1, self.vocab - 1), (2, self.symbols), (3, self.symbols)))
        return {"rule": draws.thresholds(weights), "word": word, "first": first * (arity > 0),
                "second": second * (arity > 1)}

    def read(self, tables: dict, index, length: int, xp: ModuleType = np):
        """Windows `index` (uint32 [k]) of `length` tokens: int32 [k, length].

        The symbols that are still to be derived lie on a stack, the next one on top. A separator puts symbol 0 on it.
        """
        random, row = draws.streams(index, self.seed, xp), xp.arange(len(index))

        def advance(state, t):
            stack, size = state
            top, empty = stack[row, xp.maximum(size - 1, 0)] - 1, size == 0
            rule = draws.pick(draws.bits(random, t, xp), tables["rule"][top], xp)
            first, second = tables["first"][top, rule], tables["second"][top, rule]
            added = (first > 0).astype(xp.int32) + (second > 0).astype(xp.int32)
            lower = xp.where(empty, 1, xp.where(second > 0, second, first))
            stack = draws.put(stack, row, xp.maximum(size - 1, 0), lower, xp)
            stack = draws.put(stack, row, xp.maximum(size, 1), first, xp)     # counts if the rule has two symbols
            return (stack, xp.where(empty, 1, size - 1 + added)), xp.where(empty, 0, tables["word"][top, rule])

        start = xp.zeros((len(index), length + 2), xp.int32), xp.zeros(len(index), xp.int32)
        return draws.repeat(advance, start, length, xp)[1].T.astype(xp.int32)

    def nats(self, tokens: np.ndarray) -> np.ndarray:
        """-log p(token | tokens before it in the window), float64 [k, length], of windows [k, length]."""
        tokens = np.asarray(tokens)
        out = np.where(tokens == 0, np.inf, 0.0)           # of empty documents, which there are none of
        out[:, 0] = np.where(tokens[:, 0] == 0, 0.0, np.inf)
        row, start = np.nonzero(tokens == 0)               # a document lies between separators, or ends with the window
        stop = np.where(np.append(row[1:], -1) == row, np.append(start[1:], 0), tokens.shape[1])
        start, size = start + 1, stop - start - 1
        by_size = np.argsort(size, kind="stable")[np.count_nonzero(size == 0):]
        while len(by_size):                                # documents of about one size are summed together
            sizes = size[by_size]
            fit = np.count_nonzero(np.arange(1, len(sizes) + 1) * sizes ** 2 * self.symbols <= TOGETHER)
            together = max(1, min(fit, np.searchsorted(sizes, 1.2 * sizes[0], side="right")))
            part, by_size = by_size[:together], by_size[together:]
            words = np.zeros((len(part), size[part[-1]]), np.int64)     # ends in separators, which no rule writes
            for each, i in zip(words, part):
                each[:size[i]] = tokens[row[i], start[i]:stop[i]]
            prefix, whole = self.log_prefixes(words)
            with np.errstate(invalid="ignore"):
                nats = np.nan_to_num(prefix[:, :-1] - prefix[:, 1:], nan=np.inf, posinf=np.inf)
            for each, i in enumerate(part):
                out[row[i], start[i]:stop[i]] = nats[each, :size[i]]
                if stop[i] < tokens.shape[1]:
                    out[row[i], stop[i]] = prefix[each, size[i]] - whole[each, size[i]]
        return out

    def log_prefixes(self, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of documents [d, n], the log probabilities float64 [d, n + 1] that a document begins with the first j words, and
        that it is these words.

        `inside` [d, start, m, symbols] is the probability that a symbol derives the m words from a start, and `both`
        [d, end, m, 2, symbols] that it derives the m words up to an end, or that what it derives begins with them. All of
        them are times scale**m, so that the probabilities of hundreds of words are no zeros.
        """
        (count, n), symbols = words.shape, self.symbols
        by_word, none, one, two, first = self._rules
        scale = np.exp(-(by_word * np.log(np.maximum(by_word, 1e-300))).sum() / symbols)      # about 1 / p of a word
        chosen = scale * by_word[words]                                              # [d, n, symbols, rules]
        inside, both = np.zeros((count, n + 1, n + 1, symbols)), np.zeros((count, n + 1, n + 1, 2, symbols))
        both[:, :, 0, 1] = 1
        for m in range(1, n + 1):
            starts, ends = slice(0, n - m + 1), slice(m, n + 1)
            rest = both[:, ends, m - 1]                                      # of the words after the first one
            derived = rest @ one.T
            derived[:, :, 1] += rest[:, :, 1] @ first.T                      # the first of two writes all the rest, or more
            if m == 1:
                derived += none
            if m > 2:                                                        # or the rest is divided between the two
                left = inside[:, 1:n - m + 2, 1:m - 1].swapaxes(-1, -2)      # [d, i, symbols, s], of s words
                right = both[:, ends, m - 2:0:-1].reshape(count, n - m + 1, m - 2, 2 * symbols)
                pairs = (left @ right).reshape(count, n - m + 1, symbols, 2, symbols).swapaxes(2, 3)
                derived += pairs.reshape(count, n - m + 1, 2, symbols ** 2) @ two.T
            split = derived.reshape(count, n - m + 1, 2, symbols, self.rules)
            both[:, ends, m] = (chosen[:, starts, None] * split).sum(-1)
            inside[:, starts, m] = both[:, ends, m, 0]
        with np.errstate(divide="ignore"):
            found = np.log(both[..., 0][:, np.arange(n + 1), np.arange(n + 1)])                # [d, n + 1, 2]
        found -= np.arange(n + 1)[:, None] * np.log(scale)
        return found[..., 1], found[..., 0]

    @functools.cached_property
    def _rules(self) -> tuple[np.ndarray, ...]:
        """The probability of each rule by its word, [vocab, symbols, rules]. Of all rules in one row, [symbols * rules]:
        whether a rule has no symbol; which one it has if one, [..., symbols]; which two, [..., symbols**2]; and the first
        one of two, [..., symbols]."""
        t, p = self.tables, draws.probabilities(self.tables["rule"])
        by_word = np.zeros((self.vocab, self.symbols, self.rules))
        s, r = np.indices(p.shape)
        by_word[t["word"], s, r] = p
        first, second = t["first"].ravel(), t["second"].ravel()
        which = np.eye(self.symbols + 1)[first][:, 1:]
        pair = np.eye(self.symbols ** 2 + 1)[np.where(second > 0, (first - 1) * self.symbols + second, 0)][:, 1:]
        return by_word, (first == 0).astype(float), which * (second == 0)[:, None], pair, which * (second > 0)[:, None]

    def entropy(self, length: int) -> None:
        """Unknown in closed form for windows; `TokenStream` estimates it."""
