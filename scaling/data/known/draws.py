"""Random bits of example i, and exact choices by them.

All of it is 32-bit integer arithmetic, which gives the same answer in NumPy and in JAX, on every machine. A choice with
given probabilities compares 32 random bits with integer thresholds, so its probabilities are known exactly: they are the
differences of the thresholds, over 2**32. Functions take `xp`, numpy or jax.numpy.
"""
import hashlib
import math
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from scaling.data import order

STREAM, TABLES = 8, 9        # keys: of examples, of the tables of teachers; source.py, images.py, ... have other keys
UNIT = 1 << 32


def streams(index, seed: int, xp: ModuleType = np):
    """The state from which `bits` of examples `index` (uint32 [k]) follow: uint32 [2, k].

    Two hashes of an example make it 64 bits, so that no two of a billion examples share a part of their bits.
    """
    return xp.stack([order.key(STREAM, seed, part, index, xp=xp) for part in range(2)])


def bits(state, number, xp: ModuleType = np):
    """32 random bits for each example, uint32 [k]: draw number `number` (an integer, traced or not) from `streams`."""
    return order.key(order.key(state[0], number, xp=xp) ^ state[1], xp=xp)


def thresholds(weights) -> np.ndarray:
    """Thresholds of `pick` for weights [..., n] of any sum: uint32 [..., n - 1]."""
    shares = np.cumsum(np.asarray(weights, np.float64), -1)
    shares = np.rint(shares[..., :-1] / shares[..., -1:] * UNIT)
    return np.minimum(shares, UNIT - 1).astype(np.uint32)


def probabilities(limits: np.ndarray) -> np.ndarray:
    """The exact probabilities of the choices by thresholds [..., n - 1]: float64 [..., n]."""
    edge = np.zeros((*limits.shape[:-1], 1))
    return np.diff(np.concatenate([edge, limits.astype(np.float64), edge + UNIT], -1)) / UNIT


def pick(random, limits, xp: ModuleType = np):
    """The choices that random bits [k] make by thresholds [n - 1], or [k, n - 1] of their own: int32 [k], 0 to n - 1."""
    limits = limits if limits.ndim == 2 else limits[None]
    return (random[:, None] >= limits).sum(-1).astype(xp.int32)


def uniforms(shape: tuple[int, ...], *key: int) -> np.ndarray:
    """Numbers between 0 and 1 for the tables of a teacher, float64 of a shape: a pure function of integers."""
    return ((order.key(TABLES, *key, np.arange(math.prod(shape), dtype=np.uint32)) + 0.5) / UNIT).reshape(shape)


def normals(shape: tuple[int, ...], *key: int) -> np.ndarray:
    """Standard normals like `uniforms`."""
    from scipy import special  # only teachers need it
    return special.ndtri(uniforms(shape, *key))


def tables_digest(tables: Mapping[str, np.ndarray]) -> str:
    """A hash of arrays by name."""
    found = hashlib.sha256()
    for name, table in tables.items():
        found.update(f"{name} {table.dtype.str} {table.shape}".encode() + table.tobytes())
    return found.hexdigest()[:16]


def put(array, rows, columns, values, xp: ModuleType = np):
    """`array` with array[rows, columns] = values; NumPy changes it in place."""
    if xp is not np:
        return array.at[rows, columns].set(values)
    array[rows, columns] = values
    return array


def repeat(advance: Callable, state: Any, count: int, xp: ModuleType = np):
    """(last state, outputs [count, ...]) of `state, output = advance(state, t)` for t in range(count)."""
    if xp is not np:
        from jax import lax
        return lax.scan(advance, state, xp.arange(count, dtype=xp.int32))
    outputs = []
    for t in range(count):
        state, output = advance(state, t)
        outputs.append(output)
    return state, np.stack(outputs)
