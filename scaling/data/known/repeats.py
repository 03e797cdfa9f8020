"""Random strings that repeat, with their exact likelihood: the data of in-context copying.

Olsson et al. 2022, "In-context learning and induction heads" (arXiv:2209.11895), score models on repeated random tokens.
What follows a token can only be known by finding where it came before, because the string is a new one in each window.
"""
import dataclasses
import functools
import math
from types import ModuleType

import numpy as np

from scaling.data.known import draws
from scaling.fields import ConfigError, check_fields, convert_fields, static


@dataclasses.dataclass(frozen=True)
class Repeats:
    """A window is a string of `least` to `most` tokens, again and again. Its length and all of its tokens are uniform."""

    least: int = static(8, least=1, most=4096)
    most: int = static(24, least=1, most=4096)
    vocab: int = static(32, least=2, most=4096)
    seed: int = static(0, least=0, most=2**32 - 1)

    def __post_init__(self):
        convert_fields(self)
        check_fields(self, "data.name=repeats: ")
        if self.most < self.least:
            raise ConfigError(f"data.name=repeats: most={self.most} is less than least={self.least}; write "
                              f"most={self.least} or more")

    def family_fields(self) -> dict:
        return {}

    @functools.cached_property
    def tables(self) -> dict[str, np.ndarray]:
        """Thresholds: "period", uint32 [most - least]; "token", uint32 [vocab - 1]."""
        return {"period": draws.thresholds(np.ones(self.most - self.least + 1)),
                "token": draws.thresholds(np.ones(self.vocab))}

    def read(self, tables: dict, index, length: int, xp: ModuleType = np):
        """Windows `index` (uint32 [k]) of `length` tokens: int32 [k, length]."""
        random = draws.streams(index, self.seed, xp)
        period = self.least + draws.pick(draws.bits(random, 0, xp), tables["period"], xp)
        text = xp.stack([draws.pick(draws.bits(random, 1 + t, xp), tables["token"], xp)
                         for t in range(min(self.most, length))], -1)
        return xp.take_along_axis(text, xp.arange(length)[None] % period[:, None], axis=1).astype(xp.int32)

    def nats(self, tokens: np.ndarray) -> np.ndarray:
        """-log p(token | tokens before it in the window), float64 [k, length], of windows [k, length].

        It sums over the periods, each of which repeats a window or does not.
        """
        tokens = np.asarray(tokens)
        count = tokens.shape[1]
        weights, p = (draws.probabilities(self.tables[name]) for name in ("period", "token"))
        drawn = np.concatenate([np.zeros((len(tokens), 1)), np.cumsum(np.log(p)[tokens], 1)], 1)
        total = np.full(drawn.shape, -np.inf)  # log p of the first t tokens
        for period, weight in zip(range(self.least, self.most + 1), weights):
            again = np.ones(tokens.shape, bool)
            again[:, period:] = tokens[:, period:] == tokens[:, :-period] if period < count else True
            repeats = np.concatenate([np.ones((len(tokens), 1), bool), np.logical_and.accumulate(again, 1)], 1)
            text = drawn[:, np.minimum(np.arange(count + 1), period)]
            total = np.logaddexp(total, np.where(repeats, math.log(weight) + text, -np.inf))
        with np.errstate(invalid="ignore"):
            return np.where(np.isneginf(total[:, 1:]), np.inf, total[:, :-1] - total[:, 1:])

    def entropy(self, length: int) -> None:
        """Unknown in closed form, since strings may repeat by chance; `TokenStream` estimates it."""
