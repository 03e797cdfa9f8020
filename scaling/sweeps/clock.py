"""What the time of a sweep is spent on: a thread notes when the devices end each call, while the host goes on."""

import collections
import time
from concurrent import futures
from typing import NamedTuple

import jax

TRAINING, EVALUATION = "training", "evaluation"


class Took(NamedTuple):
    """What a call has added to the time of a sweep."""

    busy: float  # seconds of the devices
    waited: float  # seconds in which the devices waited for the program

    @property
    def seconds(self) -> float:
        return self.busy + self.waited


class Clock:
    """Seconds of the devices by kind of call, and seconds in which they had none.

    The devices do calls in the order in which they are given them.
    """

    def __init__(self):
        self.seconds = collections.Counter()  # {kind: seconds that the devices were busy with it}
        self.compiling = self.waiting = 0.0  # seconds of idle devices: for a program, and for the host
        self.groups = 0  # of runs that ended
        self._ready = 0.0  # when the devices ended the latest call; 0 before the first one
        self._pool = futures.ThreadPoolExecutor(1, "clock")

    def given(self, kind: str, asked: float, result) -> futures.Future:
        """The devices have just been given a call with this `result`, an array that is never donated.

        The host turned to it at the time `asked`; from then on it waited for the program. Returns what gives `Took`.
        """
        return self._pool.submit(self._wait, kind, asked, time.monotonic(), result)

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

    def _wait(self, kind, asked, given, result) -> Took:
        jax.block_until_ready(result)
        before, self._ready = self._ready or asked, time.monotonic()
        waited = max(0.0, given - max(asked, before))
        took = self._ready - max(given, before)
        self.compiling += waited
        self.waiting += max(0.0, asked - before)
        self.seconds[kind] += took
        return Took(took, waited)
