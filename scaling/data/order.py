"""A fixed order of anything: a keyed permutation of range(n) that can be evaluated at one index.

`permute(i, n, key)` is the swap-or-not shuffle (Hoang, Morris and Rogaway 2012, "An Enciphering Scheme Based on
a Card Shuffle"). In each round an index x and its partner k - x (mod n) change places or not, together, by one
hashed bit of the larger of the two. Every round is an involution of the pair, so the whole is a bijection for any
n. It needs no table, no rejection loop and only 32-bit integer arithmetic. It therefore gives the same answer in
NumPy and in JAX, inside `jit`, `vmap` and `scan`, with traced `i`, `n` and `key`, and in every version of both.
A library's random generator does not promise that, and a change of the order would change what results mean.
"""
from types import ModuleType
from typing import Any

import numpy as np

ROUNDS = 32
LIMIT = 1 << 31     # 2n must fit 32 bits
_GOLDEN = 0x9E3779B9


def _mix(x):
    """MurmurHash3's 32-bit finaliser: every bit of the input reaches every bit of the output."""
    x = (x ^ (x >> 16)) * x.dtype.type(0x85EBCA6B)
    x = (x ^ (x >> 13)) * x.dtype.type(0xC2B2AE35)
    return x ^ (x >> 16)


def key(*parts: Any, xp: ModuleType = np):
    """Keys from integers (Python's, or 32-bit arrays [] or [k], traced or not): uint32 [1] or [k]."""
    state = xp.full((1,), _GOLDEN, xp.uint32)
    for part in parts:
        part = part & 0xFFFFFFFF if isinstance(part, (int, np.integer)) else part
        part = xp.asarray(part).astype(xp.uint32)
        state = _mix(state * xp.uint32(31) + (part if part.ndim else part[None]))
    return state


def permute(index, n, key, xp: ModuleType = np):
    """The places of `index` (integers in [0, n), shape [k]) under the permutation of range(n) that `key` names.

    `n` is an integer, traced or not, with 0 < n < 2**31. `key` comes from `key()`: [1], or [k] for one permutation
    per index. Returns uint32 [k].
    """
    index = xp.asarray(index).astype(xp.uint32)
    if xp is np:
        for r in range(ROUNDS):
            index = _turn(r, index, n, key)
        return index
    from jax import lax  # a loop compiles one small body, however many rounds there are
    shape = xp.broadcast_shapes(index.shape, key.shape)
    return lax.fori_loop(0, ROUNDS, lambda r, x: _turn(r, x, n, key, xp), xp.broadcast_to(index, shape))


def unpermute(place, n: int, key) -> np.ndarray:
    """The inverse of `permute` in NumPy: the indices that it brings to `place`. The last round is undone first."""
    place = np.asarray(place).astype(np.uint32)
    for r in reversed(range(ROUNDS)):
        place = _turn(r, place, n, key)
    return place


def _turn(r, x, n, key, xp: ModuleType = np):
    """Round `r` of `permute`, an involution."""
    n = xp.reshape(xp.asarray(n).astype(xp.uint32), (1,))
    number = xp.reshape(xp.asarray(2 * r).astype(xp.uint32), (1,))
    offset = _mix(key + number * xp.uint32(_GOLDEN)) % n
    bits = _mix(key + (number + xp.uint32(1)) * xp.uint32(_GOLDEN))
    partner = n + offset - x                            # in (0, 2n)
    partner = xp.minimum(partner, partner - n)          # unsigned: below n the difference wraps to a large number
    swap = _mix(xp.maximum(x, partner) ^ bits) & xp.uint32(1)
    return x + swap * (partner - x)                     # twice as fast as xp.where


def permutation(n: int, *parts: int) -> np.ndarray:
    """`permute` of all of range(n), as int64 [n]."""
    if n >= LIMIT:
        raise ValueError(f"a permutation of {n:,} things does not fit 32 bits")
    return permute(np.arange(n, dtype=np.uint32), max(n, 1), key(*parts)).astype(np.int64)
