"""Taps: places of a network where activations can be read, or replaced by others.

    with tapped() as taps:
        logits = family.logits(params, tokens)
    taps.values["residual"]         # a list of arrays, in the order in which the network computed them

A network has the places "residual" (the input of the first layer of a stack and the output of each of its layers) and
"attention" (the weights of each layer of attention, float32 [B, heads, queries, keys]). Outside of `tapped` a tap returns
its argument, so that programs that train have no trace of it. Inside, stacked layers run one after another and not in a
compiled loop, and attention is computed from whole matrices of weights; both give the same numbers up to rounding.

A function that is compiled has to open the taps inside of itself, because values of a program that is being traced mean
nothing outside of it. Rematerialised layers hide their values: leave `remat` at "none".
"""

import contextlib
import contextvars
from collections.abc import Callable, Generator, Mapping
from typing import Any

_OPEN: contextvars.ContextVar["Taps | None"] = contextvars.ContextVar("taps", default=None)


class Taps:
    """What was read, {place: values in the order of computation}, and what replaces it, {(place, number): function}."""

    def __init__(self, edits: Mapping[tuple[str, int], Callable]):
        self.values: dict[str, list[Any]] = {}
        self._edits = edits

    def at(self, place: str, x):
        """The value x of a place, or what an edit makes of it."""
        found = self.values.setdefault(place, [])
        edit = self._edits.get((place, len(found)))
        found.append(x if edit is None else edit(x))
        return found[-1]


@contextlib.contextmanager
def tapped(edits: Mapping[tuple[str, int], Callable] | None = None) -> Generator[Taps]:
    """Opens the taps of networks that are called inside. `edits` {("residual", 0): function} replace values."""
    taps = Taps(edits or {})
    token = _OPEN.set(taps)
    try:
        yield taps
    finally:
        _OPEN.reset(token)


def tapping() -> bool:
    """Whether taps are open."""
    return _OPEN.get() is not None


def tap(place: str, x):
    """x, or where taps are open what they make of it."""
    taps = _OPEN.get()
    return x if taps is None else taps.at(place, x)
