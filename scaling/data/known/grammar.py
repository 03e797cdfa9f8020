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
        while len(by_size):
            longest = size[by_size[min(len(by_size), TOGETHER) - 1]]
            together = max(1, TOGETHER // (longest ** 2 * self.symbols))
            part, by_size = by_size[:together], by_size[together:]
            words = np.zeros((len(part), size[part[-1]]), np.int64)     # ends in separators, which no rule writes
            for each, i in zip(words, part):
                each[:size[i]] = tokens[row[i], start[i]:stop[i]]
            with np.errstate(divide="ignore", invalid="ignore"):
                prefix, whole = map(np.log, self.prefixes(words))
                nats = np.nan_to_num(prefix[:, :-1] - prefix[:, 1:], nan=np.inf, posinf=np.inf)
            for each, i in enumerate(part):
                out[row[i], start[i]:stop[i]] = nats[each, :size[i]]
                if stop[i] < tokens.shape[1]:
                    out[row[i], stop[i]] = prefix[each, size[i]] - whole[each, size[i]]
        return out

    def prefixes(self, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of documents [d, n], the probabilities float64 [d, n + 1] that a document begins with the first j words, and that
        it is these words.

        For spans of m words from place i and each symbol, inside[m] [d, n - m + 1, symbols] is the probability that the
        symbol derives the span, and prefix[m] that what it derives begins with it.
        """
        count, n = words.shape
        rules, zero, one, two = self._weights
        chosen = rules[words]                                                    # [d, n, symbols, rules]
        inside = [np.zeros((count, n + 1, self.symbols))]
        prefix = [np.ones((count, n + 1, self.symbols))]
        for m in range(1, n + 1):
            head, spans = chosen[:, :n - m + 1], slice(1, n - m + 2)
            after_i, after_p = inside[m - 1][:, spans], prefix[m - 1][:, spans]      # of the words after the first one
            single = np.concatenate([after_i @ one.T, after_p @ one.T], -1)
            first = np.stack([inside[s][:, 1:n - m + 2] for s in range(1, m - 1)], -1) if m > 2 else None
            pairs = np.zeros((*head.shape[:2], 2, self.symbols ** 2))
            if first is not None:                  # a rule of two symbols divides the rest behind s words
                both = [np.concatenate([x[m - 1 - s][:, 1 + s:n - m + 2 + s] for x in (inside, prefix)], -1)
                        for s in range(1, m - 1)]
                second = np.stack(both, -2)
                found = (first @ second).reshape(*head.shape[:2], self.symbols, 2, self.symbols)
                pairs = np.moveaxis(found, 3, 2).reshape(*head.shape[:2], 2, self.symbols ** 2)
            derived = single.reshape(*head.shape[:2], 2, -1) + pairs @ two.T
            derived[:, :, 1] += (after_p @ self._first_of_two.T)      # the first of two writes all the rest, or more
            if m == 1:
                derived = np.broadcast_to(np.stack([zero, np.ones_like(zero)]), (*head.shape[:2], 2, len(zero)))
            split = derived.reshape(*head.shape[:2], 2, self.symbols, self.rules)
            summed = (head[:, :, None] * split).sum(-1)
            inside.append(summed[:, :, 0])
            prefix.append(summed[:, :, 1])
        return (np.stack([each[:, 0, 0] for each in prefix], -1), np.stack([each[:, 0, 0] for each in inside], -1))

    @functools.cached_property
    def _weights(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The probability of each rule for its word, [vocab, symbols, rules]. Of all rules in one row, [symbols * rules],
        whether a rule has no symbol, which one if it has one, [..., symbols], and which two, [..., symbols**2]."""
        t, p = self.tables, draws.probabilities(self.tables["rule"])
        by_word = np.zeros((self.vocab, self.symbols, self.rules))
        s, r = np.indices(p.shape)
        by_word[t["word"], s, r] = p
        first, second = t["first"].ravel(), t["second"].ravel()
        one = np.eye(self.symbols + 1)[first][:, 1:] * (second == 0)[:, None]
        two = np.eye(self.symbols ** 2 + 1)[np.where(second > 0, (first - 1) * self.symbols + second, 0)][:, 1:]
        return by_word, (first == 0).astype(float), one, two

    @functools.cached_property
    def _first_of_two(self) -> np.ndarray:
        """Which symbol is the first of two, [rules of all symbols, symbols]."""
        first, second = self.tables["first"].ravel(), self.tables["second"].ravel()
        return np.eye(self.symbols + 1)[first][:, 1:] * (second > 0)[:, None]

    def entropy(self, length: int) -> None:
        """Unknown in closed form for windows; `TokenStream` estimates it."""
