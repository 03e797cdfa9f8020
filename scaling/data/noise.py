"""Noise in training data: a share of the values of examples is replaced by random ones.

The noise of an example depends on the example alone, so that it is the same whenever the example is seen, as in a data set
that was collected badly. Evaluation sets stay clean. All of it is 32-bit integer arithmetic, equal in NumPy and in JAX.
"""
import dataclasses
from types import ModuleType

import numpy as np

from scaling.data import order
from scaling.fields import DataError

NOISE = 11           # the key of noise; source.py, images.py, known/draws.py, ... have other keys
CHUNK = 1 << 22      # values that are made noisy at once


@dataclasses.dataclass(frozen=True)
class Corruption:
    """Each value of an example that is dirty is replaced with probability `share`; an example is dirty with probability
    `dirty`. The new value is uniform, and may be the old one. Raises DataError for shares that are not from 0 to 1."""

    share: float = 0.0
    dirty: float = 1.0

    def __post_init__(self):
        for field, value in (("noise", self.share), ("dirty", self.dirty)):
            if not 0 <= value <= 1:
                raise DataError(f"data.{field}={value} is out of range; write a share from 0 to 1")

    def __bool__(self) -> bool:
        return self.share > 0 and self.dirty > 0

    @property
    def identity(self) -> str:
        """What belongs in the fingerprint of a source; empty without noise."""
        return f" noise {float(self.share)!r} {float(self.dirty)!r}" if self else ""

    def is_dirty(self, index, xp: ModuleType = np):
        """Which of the examples `index` (integers [k]) are dirty: bool [k]."""
        return _below(order.key(NOISE, 0, index, xp=xp), self.dirty, xp)

    def add(self, values, index, low: int, count: int, xp: ModuleType = np):
        """`values` [k, ...] of examples `index` [k] with noise drawn from range(low, low + count); same type and shape."""
        if not self:
            return values
        if xp is np and values.size > CHUNK and len(values) > 1:
            parts = range(0, len(values), max(1, CHUNK // (values.size // len(values))))
            stops = [*parts[1:], len(values)]
            return np.concatenate([self.add(values[at:stop], index[at:stop], low, count) for at, stop in zip(parts, stops)])
        flat = values.reshape(len(values), -1)
        count_of_each = flat.shape[1]
        places = xp.tile(xp.arange(count_of_each, dtype=xp.uint32), len(flat))
        key = order.key(xp.repeat(order.key(NOISE, 1, index, xp=xp), count_of_each), places, xp=xp)
        hit = _below(order.key(key, 0, xp=xp), self.share, xp) & xp.repeat(self.is_dirty(index, xp), count_of_each)
        drawn = (order.key(key, 1, xp=xp) % xp.uint32(count) + xp.uint32(low)).astype(values.dtype)
        return xp.where(hit, drawn, flat.reshape(-1)).reshape(values.shape)


CLEAN = Corruption()


def _below(random, share: float, xp: ModuleType):
    """True with probability `share`, for uint32 random bits."""
    limit = round(share * 2**32)
    return random < xp.uint32(limit) if limit < 2**32 else xp.ones(random.shape, bool)
