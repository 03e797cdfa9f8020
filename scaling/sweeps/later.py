"""What the host does while the devices compute: it reads the results of earlier calls, and then does its chores."""

import collections
from collections.abc import Callable

from scaling.devices import hosts


class Later:
    """Work of the host that waits until the devices have been given their next call.

    In a job of several processes all of them do the same work in the same order.
    """

    def __init__(self):
        self._readings: list[Callable[[], None]] = []
        self._chores: collections.deque[Callable[[], None]] = collections.deque()

    def read(self, reading: Callable[[], None]) -> None:
        """`reading` waits for a result of the devices; it is called after the next call of the devices."""
        self._readings.append(reading)

    def chore(self, chore: Callable[[], None]) -> None:
        """`chore` is called some time after the readings of now, while the devices are busy."""
        self._chores.append(chore)

    def after_call(self, busy: Callable[[], bool]) -> None:
        """Reads what was there to read before the call, and does chores as long as the devices are `busy` with it."""
        self._read()
        while self._chores and hosts.agree(busy()):
            self._chores.popleft()()

    def settle(self) -> None:
        """Reads everything, and does all chores."""
        self._read()
        self.finish_chores()

    def finish_chores(self) -> None:
        """Does all chores that there are."""
        while self._chores:
            self._chores.popleft()()

    def drop(self) -> None:
        """Forgets everything, after an error."""
        self._readings.clear()
        self._chores.clear()

    def _read(self):
        while self._readings:
            self._readings.pop(0)()
