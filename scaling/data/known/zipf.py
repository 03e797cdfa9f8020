"""Facts whose contexts follow Zipf's law: the data of an associative memory, and the scaling laws that follow from them.

After the tutorial of Nicolas Zucchet (github.com/NicolasZucchet/Tutorial-scaling-laws) and Cabannes et al. 2023,
"Scaling laws for associative memories" (arXiv:2310.02984); Hutter 2021, "Learning curve theory" (arXiv:2102.04074), has
the exponent in D.

A fact is a context and an answer. The context of rank i has the probability p(i) proportional to i^-a, and every context
has a conditional distribution over the answers of its own. What a model has not stored costs it some l nats more than the
entropy. A model with N parameters has room for K_N proportional to N contexts, and keeps the frequent ones. Contexts with
p(i) D >= 1 were seen in D facts, K_D proportional to D^(1/a) of them. It knows what it has both room for and seen, so the
excess loss is

    L - E = l P(rank > min(K_N, K_D)) = max(A N^-alpha, B D^-beta),    alpha = a - 1,  beta = (a - 1) / a,

since the tail beyond rank K has the mass K^-(a-1). Where the edges are soft, in a model that learns gradually, the maximum
becomes a power mean [(A N^-alpha)^q + (B D^-beta)^q]^(1/q). The optimum at compute C proportional to N D balances the two:

    N* ~ C^(beta / (alpha + beta)) = C^(1 / (1 + a)),    L* - E ~ C^-(a - 1) / (a + 1).

An additive law (q = 1) is a wrong model of these data, which makes them a test of the choice of a law.
"""
import dataclasses
import functools
import math
from types import ModuleType

import numpy as np

from scaling.data import order
from scaling.data.known import draws
from scaling.fields import ConfigError, check_fields, convert_fields, static

FINE = 8               # contexts of ranks 2**m to 2**(m+1) lie in at most 2**FINE bins of equal probability
ENDLESS = 1 << 30      # ranks of an endless law that have their own ids; those beyond share half as many
PERMUTED = 10          # the key of the permutations of the answers


@dataclasses.dataclass(frozen=True)
class Zipf:
    """A window is context, answer, context, answer, ... Token t < `answers` is an answer, token `answers` + i is the
    context of rank i + 1. With data.length=1 a window is one fact and its answer is all that is predicted.

    The answers of a context are a permutation of its own of one distribution, in which the k-th likeliest has a
    probability proportional to k^-skew. So the entropy of an answer is the same in all contexts.

    Ranks up to 2**9 have exactly the weights of the law. Those above lie in 2**8 bins for each factor of two, of equal
    probability within, which differs from the law by at most a / 512. With contexts=0 the law has no end: the ids of 2**29
    more contexts share evenly what lies beyond rank 2**30.
    """

    exponent: float = static(1.5, above=0, most=16)  # a
    contexts: int = static(4096, least=0, most=ENDLESS)  # ranks; 0 for a law without end
    answers: int = static(64, least=2, most=4096)
    skew: float = static(3.0, least=0, most=8)
    seed: int = static(0, least=0, most=2**32 - 1)

    def __post_init__(self):
        convert_fields(self)
        check_fields(self, "data.name=zipf: ")
        if not self.contexts and self.exponent <= 1:
            raise ConfigError(f"data.name=zipf: exponent={self.exponent} needs a number of contexts, since the sum of an "
                              "endless law is finite above 1 only; write contexts=4096, say")

    @property
    def vocab(self) -> int:
        return self.answers + (self.contexts or ENDLESS + ENDLESS // 2)

    def family_fields(self) -> dict:
        return {"answers": self.answers}

    @functools.cached_property
    def tables(self) -> dict[str, np.ndarray]:
        """"bins": thresholds, uint32 [b - 1]; "first" rank and log2 of the "width" of each, uint32 [b]; "answers":
        thresholds, uint32 [answers - 1]."""
        first, width = _bins(self.contexts or ENDLESS)
        low, high = first - 0.5, first + (2.0 ** width) - 0.5
        power = 1 - self.exponent
        integral = np.log(high / low) if power == 0 else (high ** power - low ** power) / power
        weights = np.where(width == 0, first ** -self.exponent, integral)
        if not self.contexts:
            beyond = (ENDLESS + 0.5) ** power / -power
            first, width = np.append(first, ENDLESS + 1.0), np.append(width, math.log2(ENDLESS // 2))
            weights = np.append(weights, beyond)
        answers = np.arange(1, self.answers + 1) ** -self.skew
        return {"bins": draws.thresholds(weights), "first": first.astype(np.uint32), "width": width.astype(np.uint32),
                "answers": draws.thresholds(answers)}

    def read(self, tables: dict, index, length: int, xp: ModuleType = np):
        """Windows `index` (uint32 [k]) of `length` tokens: int32 [k, length]."""
        state = draws.streams(index, self.seed, xp)
        columns = []
        for fact in range(-(-length // 2)):
            chosen, within, answer = (draws.bits(state, 3 * fact + i, xp) for i in range(3))
            which = xp.searchsorted(tables["bins"], chosen, side="right")
            width = tables["width"][which]
            rank = tables["first"][which] + ((within >> xp.uint32(1)) >> (xp.uint32(31) - width))
            likely = draws.pick(answer, tables["answers"], xp)
            told = order.permute(likely, self.answers, self._key(rank, xp), xp)
            columns += [rank.astype(xp.int32) + (self.answers - 1), told.astype(xp.int32)]
        return xp.stack(columns[:length], -1)

    def nats(self, tokens: np.ndarray) -> np.ndarray:
        """-log p(token | tokens before it in the window), float64 [k, length], of windows [k, length]."""
        tokens = np.asarray(tokens, np.int64)
        out = np.empty(tokens.shape)
        ranks = tokens[:, ::2] - (self.answers - 1)
        out[:, ::2] = self.context_nats(ranks)
        told = tokens[:, 1::2]
        ranks = ranks[:, :told.shape[1]]
        found, where = np.unique(np.stack([ranks.ravel(), told.ravel()]), axis=1, return_inverse=True)
        likely = order.unpermute(found[1], self.answers, self._key(found[0].astype(np.uint32)))
        nats = -np.log(draws.probabilities(self.tables["answers"]))
        out[:, 1::2] = nats[likely][where.ravel()].reshape(told.shape)
        return out

    def context_nats(self, ranks) -> np.ndarray:
        """-log p of contexts of these ranks, from 1 on: float64 of the same shape."""
        which = np.searchsorted(self.tables["first"], np.asarray(ranks), side="right") - 1
        with np.errstate(divide="ignore"):     # of bins that are too rare for 32 bits, which are never drawn
            each = -np.log(draws.probabilities(self.tables["bins"])) + self.tables["width"] * math.log(2)
        return each[which]

    def entropy(self, length: int) -> float:
        """Nats of each of the `length` tokens that follow the first one of a window, in the mean; exactly."""
        answer = _entropy(draws.probabilities(self.tables["answers"]))
        bins = draws.probabilities(self.tables["bins"])
        context = _entropy(bins) + float(bins @ self.tables["width"]) * math.log(2)
        return ((length + 1) // 2 * answer + length // 2 * context) / length

    def _key(self, rank, xp: ModuleType = np):
        return order.key(PERMUTED, self.seed, rank, xp=xp)


def _bins(contexts: int) -> tuple[np.ndarray, np.ndarray]:
    """(first rank, log2 of the width) of bins that cover the ranks 1 to `contexts`: float64 [b]."""
    first, width, at = [], [], 1
    while at <= contexts:
        wide = max(0, at.bit_length() - 1 - FINE)
        while at + (1 << wide) - 1 > contexts:
            wide -= 1
        first.append(at)
        width.append(wide)
        at += 1 << wide
    return np.array(first, np.float64), np.array(width, np.float64)


def _entropy(p: np.ndarray) -> float:
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())
