"""Packs that wait for an actor, and what becomes of those that lost theirs."""

import collections


class Queue:
    """Packs that wait.

    A pack that was preempted goes to the front and is not charged: what has begun ends first, and as nothing is ever
    added to a sweep nobody starves. One whose actor died without notice may have killed it: it goes to the back, behind
    everything that has not had a turn, at most `max_retries` times. One that another process on the workdir has claimed
    goes to the back as well and is looked at again some seconds later.
    """

    def __init__(self, packs, need, max_retries: int):
        self.packs, self.need, self.max_retries = collections.deque(packs), need, max_retries
        self.deaths, self.later = collections.Counter(), {}
        self.lost = []  # [(pack, why its last actor died)]

    def __len__(self):
        return len(self.packs)

    def wanted(self) -> collections.Counter:
        """{devices: packs that wait for an actor with so many}."""
        return collections.Counter(map(self.need, self.packs))

    def take(self, devices: int, now: float):
        """The first pack for an actor with so many devices, or None."""
        found = next((pack for pack in self.packs if self.need(pack) == devices and self.later.get(pack, 0) <= now), None)
        if found is not None:
            self.packs.remove(found)
        return found

    def preempted(self, pack):
        self.packs.appendleft(pack)

    def died(self, pack, why: str):
        self.deaths[pack] += 1
        if self.deaths[pack] > self.max_retries:
            self.lost.append((pack, why))
        else:
            self.packs.append(pack)

    def claimed(self, pack, until: float):
        self.packs.append(pack)
        self.later[pack] = until
