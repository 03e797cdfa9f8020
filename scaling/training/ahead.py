"""Reading batches before they are asked for, in threads, while the devices compute."""

import collections
import os
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import numpy as np

FEW = 16  # steps that are read at once where a call has fewer
THREADS = max(1, min(4, (os.cpu_count() or 1) // 2))


class ReadAhead:
    """The batches of consecutive steps of several runs.

    `reads` has a function for each run: `read(start, stop)` returns the arrays of those steps, [steps, ...]. `at` is the
    step of the next batch. While a call computes, threads read as many steps again, or `FEW` if those are more and within
    `most`. So the host holds the batches of two calls beside those that it has handed out. An error of a read is raised by
    the `take` that needs its steps. Dropping the object ends its threads.
    """

    def __init__(self, reads: Sequence[Callable[[int, int], dict[str, np.ndarray]]], at: int, most: int):
        self.at = at  # the step of the next batch that `take` returns
        self._reads, self._most = reads, most
        self._pieces: collections.deque[tuple[int, list[Future]]] = collections.deque()  # (first step, a read for each run)
        self._end = at  # the step after the last one that is read or being read
        self._pool = ThreadPoolExecutor(THREADS, "batches")
        weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)

    def take(self, steps: int) -> dict[str, np.ndarray]:
        """The batches of the next `steps` steps, [runs, steps, ...]; starts to read those of a call of the same length."""
        start, stop, parts = self.at, self.at + steps, []
        self._read_until(stop)
        try:
            while self.at < stop:
                parts.append(self._part(stop))
        except BaseException:  # whoever asks again has these steps read again
            self._pieces.clear()
            self.at = self._end = start
            raise
        if self._end < stop + steps:
            self._read_until(stop + max(steps, min(FEW, self._most)))
        runs = [jax.tree.map(lambda *x: np.concatenate(x) if x[1:] else x[0], *run) for run in zip(*parts)]
        return jax.tree.map(lambda *x: np.stack(x) if x[1:] else x[0][None], *runs)

    def _part(self, stop: int) -> list[dict[str, np.ndarray]]:
        """The batches of each run from step `at` to the end of the first piece, or to `stop`; moves `at` behind them."""
        first, reads = self._pieces[0]
        found = [read.result() for read in reads]
        last = first + len(jax.tree.leaves(found[0])[0])
        end = min(stop, last)
        part = jax.tree.map(lambda x: x[self.at - first:end - first], found)
        if end == last:
            self._pieces.popleft()
        self.at = end
        return part

    def _read_until(self, stop: int) -> None:
        """Starts to read the steps before `stop` that are not read, in a piece for each thread."""
        each = -(-(stop - self._end) // THREADS)
        while self._end < stop:
            start, self._end = self._end, min(stop, self._end + each)
            self._pieces.append((start, [self._pool.submit(read, start, self._end) for read in self._reads]))
