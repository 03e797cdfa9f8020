"""What the time of a sweep is spent on: a thread notes when the devices end each call, while the host goes on."""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import NamedTuple

import jax

from scaling.devices import energy

TRAINING, EVALUATION = "training", "evaluation"


class Spent(NamedTuple):
    """What training has taken so far."""

    seconds: float = 0.0  # in which the devices computed, or waited for a program to be compiled
    device_seconds: float = 0.0  # in which they computed
    joules: float = 0.0  # of the devices while they computed; NaN where no counter can be read

    def plus(self, other: Spent) -> Spent:
        return Spent(*(mine + its for mine, its in zip(self, other, strict=True)))

    def share(self, of: int) -> Spent:
        """What is due to one of so many runs side by side."""
        return Spent(*(number / of for number in self))

    def as_values(self) -> dict[str, float]:
        """{name: number} for records and checkpoints, without what is not known."""
        return {name: number for name, number in self._asdict().items() if math.isfinite(number)}

    @classmethod
    def from_values(cls, values: Mapping) -> Spent:
        """What `as_values` gave; values of earlier versions have `seconds` only."""
        return cls(*(values.get(name, math.nan) for name in cls._fields))


class Clock:
    """Seconds of the devices by kind of call, and seconds in which they had none.

    The devices do calls in the order in which they are given them.
    """

    def __init__(self):
        self.seconds = collections.Counter()  # {kind: seconds that the devices were busy with it}
        self.compiling = self.waiting = 0.0  # seconds of idle devices: for a program, and for the host
        self.groups = 0  # of runs that ended
        self._ready = 0.0  # when the devices ended the latest call; 0 before the first one
        self._energy: Callable[[], float] | None = None  # opened with the first call, since many clocks get none
        self._joules = 0.0  # when the devices ended the latest call
        self._pool = futures.ThreadPoolExecutor(1, "clock")

    def given(self, kind: str, asked: float, result) -> futures.Future:
        """The devices have just been given a call with this `result`, an array that is never donated.

        The host turned to it at the time `asked`; from then on it waited for the program. Returns what gives `Spent`.
        """
        if self._energy is None:
            self._energy = energy.counter()
            self._joules = self._energy()
        return self._pool.submit(self._wait, self._energy, kind, asked, time.monotonic(), result)

    def shares(self) -> dict[str, float]:
        """Shares of the time: evaluation, waiting for programs, waiting for the host; and its seconds per group of runs."""
        self._pool.submit(int).result()  # what was given before is counted
        total = sum(self.seconds.values()) + self.compiling + self.waiting
        if not total:
            return {}
        return {"evaluation_share": self.seconds[EVALUATION] / total, "compilation_share": self.compiling / total,
                "waiting_share": self.waiting / total, "waiting_seconds_per_group": self.waiting / max(1, self.groups)}

    def pause(self) -> None:
        """What follows until the next call is no part of the sweep."""
        self._pool.submit(setattr, self, "_ready", 0.0)

    def _wait(self, counted, kind, asked, given, result) -> Spent:
        jax.block_until_ready(result)
        before, self._ready = self._ready or asked, time.monotonic()
        waited = max(0.0, given - max(asked, before))
        took = self._ready - max(given, before)
        self.compiling += waited
        self.waiting += max(0.0, asked - before)
        self.seconds[kind] += took
        joules, self._joules = self._joules, counted()
        return Spent(took + waited, took, self._joules - joules)
