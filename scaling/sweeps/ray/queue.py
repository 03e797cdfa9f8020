"""The queue of packs that wait for an actor, and the rules for packs that lost theirs."""

import collections


class Queue:
    """Packs that wait for an actor.

    A preempted pack goes to the front, and the preemption does not count as a retry: packs that have begun finish first,
    and no pack starves, because nothing is added to a sweep. A pack whose actor died without notice may be the cause of
    the death: it goes to the back, at most `max_retries` times. A pack that another process on the workdir has claimed
    goes to the back too, and is tried again some seconds later. A pack waits until `can_begin` is true of it, and is lost
    with a pack that it waits for.
    """

    def __init__(self, packs, need, max_retries: int, can_begin=lambda pack: True):
        self.packs, self.need, self.max_retries = collections.deque(packs), need, max_retries
        self.can_begin = can_begin
        self.deaths, self.later = collections.Counter(), {}
        self.lost = []  # [(pack, why its last actor died)]

    def __len__(self):
        return len(self.packs)

    def wanted(self) -> collections.Counter:
        """{devices: number of packs that wait for an actor with so many devices}."""
        return collections.Counter(self.need(pack) for pack in self.packs if self.can_begin(pack))

    def take(self, devices: int, now: float):
        """Removes and returns the first pack for an actor with so many devices, or returns None."""
        found = next((pack for pack in self.packs if self.need(pack) == devices and self.later.get(pack, 0) <= now
                      and self.can_begin(pack)), None)
        if found is not None:
            self.packs.remove(found)
        return found

    def preempted(self, pack):
        self.packs.appendleft(pack)

    def died(self, pack, why: str):
        self.deaths[pack] += 1
        if self.deaths[pack] > self.max_retries:
            self.lose(pack, why)
        else:
            self.packs.append(pack)

    def lose(self, pack, why: str):
        """Gives up a pack, and those that wait for its runs."""
        self.lost.append((pack, why))
        names = {run.fingerprint for run in pack.runs}
        for other in [other for other in self.packs if names & other.waits_for]:
            self.packs.remove(other)
            self.lose(other, "it begins with a run that was given up")

    def claimed(self, pack, until: float):
        self.packs.append(pack)
        self.later[pack] = until
