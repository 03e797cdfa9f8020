"""What the host does while the devices compute: it reads the results of earlier calls, and does its chores.

In a process on its own the chores have a thread, so that a save that takes long keeps nobody from giving the devices their
next call. Jobs of several processes do all chores between the same calls, since processes agree on values in some of them.
"""

import collections
from collections.abc import Callable
from concurrent import futures

from scaling.devices import hosts

Work = Callable[[], None]


class Later:
    """Work of the host that waits until the devices have been given their next call.

    Chores are done one after another, in the order in which they came. The error of a chore is raised in the main thread
    by the next call of `after_call`, `next_group` or `settle`, and no chore is done after it until `drop` is called.
    """

    def __init__(self):
        self._readings: list[Work] = []
        self._chores: collections.deque[Work] = collections.deque()  # that have not been handed to the thread
        self._handed: list[futures.Future] = []
        self._of_former_groups: list[futures.Future] = []
        self._error: BaseException | None = None
        self._thread = futures.ThreadPoolExecutor(1, "chores")

    def read(self, reading: Work) -> None:
        """`reading` waits for a result of the devices; it is called after the next call of the devices."""
        self._readings.append(reading)

    def chore(self, chore: Work) -> None:
        """`chore` is called some time after the readings of now, while the devices are busy."""
        self._chores.append(chore)

    def after_call(self, busy: Callable[[], bool]) -> None:
        """Reads what was there to read before the call. Then chores begin, or are done while the devices are `busy`."""
        self._read()
        self._hand_over()
        while self._chores and hosts.agree(busy()):
            self._chores.popleft()()

    def next_group(self) -> None:
        """Says that a group of runs ends. Waits for the chores of those before the last one: few results are in memory,
        or lost in a kill."""
        if _alone():
            self._wait(self._of_former_groups)
            self._handed = [chore for chore in self._handed if not chore.done()]
            self._of_former_groups = list(self._handed)
        while not _alone() and self._chores:
            self._chores.popleft()()

    def settle(self) -> None:
        """Reads everything, and does all chores."""
        self._read()
        self._hand_over()
        self._wait(self._handed)
        while self._chores:
            self._chores.popleft()()

    def drop(self) -> None:
        """Forgets everything, after an error. Returns once the chore that has begun is done."""
        self._readings.clear()
        self._chores.clear()
        for chore in self._handed:
            chore.cancel()
        futures.wait(self._handed)
        self._handed, self._of_former_groups, self._error = [], [], None

    def _read(self):
        while self._readings:
            self._readings.pop(0)()

    def _hand_over(self):
        """Hands the chores to the thread, where there is one."""
        self._wait([])
        while _alone() and self._chores:
            self._handed.append(self._thread.submit(self._do, self._chores.popleft()))

    def _do(self, chore):
        if self._error is None:
            try:
                chore()
            except BaseException as error:  # raised in the main thread
                self._error = error

    def _wait(self, chores):
        futures.wait(chores)
        if self._error is not None:
            raise self._error


def _alone() -> bool:
    return hosts.process_count() == 1
