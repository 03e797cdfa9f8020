"""The driver: the loop, in the process that the user started, that trains one plan on a cluster."""

import collections
import contextlib
import dataclasses
import time
from typing import Any

import ray
import ray._private.state
import ray.exceptions

from scaling.devices import exits
from scaling.sweeps.plan import Pack, Plan
from scaling.sweeps.ray.errors import ClusterError, why_died
from scaling.sweeps.ray.queue import Queue

ASKED_AT_ONCE = 64  # actors that wait for room, which tell an autoscaler what is wanted
ANNOUNCED = (1, 3, 4)  # of Ray's NodeDeathInfo: told to end (SIGTERM), drained by preemption, drained when idle
GRACE_SECONDS = 60.0  # time for actors to save when the sweep is told to stop
VISIBLE_SECONDS = 60.0  # time after which a shared file system must show a record that another node wrote


@dataclasses.dataclass(eq=False)
class Worker:
    """An actor as the driver sees it. `starting`, `training` and `asked` are references to answers that are awaited."""

    actor: object
    devices: int
    starting: object  # None once Ray has found room and JAX has started
    nodes: frozenset  # the nodes that were alive when the actor was requested
    node: str = ""
    pack: Pack | None = None
    training: object = None
    asked: object = None  # the actor's progress
    asked_at: float = 0.0


class Driver:
    """Trains one plan: gives its packs to actors, watches them, and requests new actors for those that are lost."""

    def __init__(self, executor, runner, plan: Plan, progress):
        self.executor, self.runner, self.progress = executor, runner, progress
        self.queue = Queue([p for p in plan.packs if not self.done(p)], executor.need, executor.options.max_retries,
                           runner.can_begin)
        self.workers: list[Worker] = []
        self.counted = collections.Counter()  # FLOPs of each pack that the progress bar has counted
        self.false_starts, self.said = 0, set()

    def done(self, pack) -> bool:
        return all(self.runner.records.done(run.fingerprint) for run in pack.runs)

    def run(self):
        """Returns when every run of the plan has a record. Raises ClusterError when packs were given up."""
        try:
            while len(self.queue) or any(worker.pack for worker in self.workers):
                if exits.preempted():
                    raise exits.Preempted
                self.staff()
                self.ask(_draining())
                ready = self.wait(0.2)
                for worker in list(self.workers):
                    self.look(worker, ready)
        except BaseException:
            self.save()
            raise
        finally:
            for worker in list(self.workers):
                self.end(worker)
        if self.queue.lost:
            pack, why = self.queue.lost[0]
            raise ClusterError(f"{len(self.queue.lost)} pack(s) were given up, each after its actor died "
                               f"{self.queue.max_retries + 1} times; the rest is trained. The first: {_name(pack)}: {why}")

    def wait(self, seconds) -> set:
        """The awaited answers that arrive within some seconds."""
        refs = [ref for w in self.workers for ref in (w.starting, w.training, w.asked) if ref is not None]
        if not refs:
            time.sleep(seconds)
            return set()
        return set(ray.wait(refs, num_returns=len(refs), timeout=seconds)[0])

    def staff(self):
        """Gives packs to idle actors, requests an actor for each waiting pack, and ends actors that no pack waits for."""
        for worker in self.workers:
            if worker.starting is None and worker.pack is None:
                pack = self.queue.take(worker.devices, time.monotonic())
                if pack is not None:
                    worker.pack, worker.training = pack, worker.actor.train.remote(pack)
        wanted = self.queue.wanted()
        for worker in list(self.workers):
            if worker.pack is None:
                wanted[worker.devices] -= 1
                if wanted[worker.devices] < 0:
                    self.end(worker)
        for devices, count in (+wanted).items():  # the positive counts
            nodes, waiting = alive(), sum(worker.starting is not None for worker in self.workers)
            for _ in range(min(count, ASKED_AT_ONCE - waiting)):
                actor = self.executor.actor(devices, self.runner.workdir, self.runner.options)
                self.workers.append(Worker(actor, devices, actor.start.remote(), frozenset(nodes)))
            kind = self.executor.device.upper()
            if not any(resources.get(kind, 0) >= devices for resources in nodes.values()):
                self.say(f"waiting for a node with {devices} {kind}(s): the cluster has none")

    def ask(self, draining):
        """Asks each actor for its progress once a second, and tells actors on nodes that will be taken away to save."""
        now = time.monotonic()
        for worker in self.workers:
            if worker.training is not None and worker.asked is None and now - worker.asked_at > 1:
                worker.asked, worker.asked_at = worker.actor.report.remote(worker.node in draining), now

    def look(self, worker: Worker, ready):
        """Handles the answers of one actor that are `ready`."""
        if worker.asked in ready:
            with contextlib.suppress(ray.exceptions.RayError):  # its training has ended with the same error
                self.count(worker.pack, ray.get(worker.asked))
            worker.asked = None
        if worker.starting in ready:
            answered, node = self.answer(worker, worker.starting)
            if answered:
                worker.starting, worker.node, self.false_starts = None, node, 0
        if worker.training in ready:
            answered, result = self.answer(worker, worker.training)
            if answered:
                worker.training = None
                self.finished(worker, *result)

    def answer(self, worker, ref) -> tuple[bool, Any]:
        """(True, the actor's answer), or (False, None) when the actor is lost. Raises the error of a run."""
        try:
            return True, ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, exits.Preempted):
                raise error.cause from None  # an error of the run, which another actor would meet too
            self.leave(worker, "preempted", "")
        except ray.exceptions.RayError as error:
            self.leave(worker, "preempted" if self.announced(worker, error) else "died", why_died(str(error)))
        return False, None

    def finished(self, worker, trained: bool, report):
        """An actor has ended with its pack, which it has `trained` unless another process had claimed it."""
        self.count(worker.pack, report)
        pack, worker.pack, worker.asked = worker.pack, None, None
        if not trained:
            self.say("waiting for runs that another process on this workdir is training")
            self.queue.claimed(pack, time.monotonic() + 2)
            return
        limit = time.monotonic() + VISIBLE_SECONDS
        while not self.done(pack):
            if time.monotonic() > limit:
                raise ClusterError(f"{_name(pack)} was trained on another node, but its records are not in "
                                   f"{self.runner.workdir}: name a workdir that all nodes share, gs://... for instance")
            time.sleep(0.5)

    def leave(self, worker, how: str, why: str):
        """Gives up an actor that was lost; its pack waits again. `how` is "died" or "preempted"."""
        self.end(worker)
        if worker.pack is None:
            # Actors that wait at a node are lost together with it, which is no failure of theirs.
            if how == "died" and worker.nodes <= alive().keys():
                self.false_starts += 1
            if self.false_starts > self.executor.options.max_retries:
                raise ClusterError(f"actors die as they start, {self.false_starts} in a row; the last: {why}")
        elif how == "preempted":
            self.progress.print(f"{_name(worker.pack)} was preempted; it resumes from its last checkpoint")
            self.queue.preempted(worker.pack)
        else:
            self.progress.print(f"the actor of {_name(worker.pack)} died: {why}")
            self.queue.died(worker.pack, why)

    def announced(self, worker, error) -> bool:
        """True if the node of a dead actor was taken away with notice."""
        reason = {node["NodeID"]: node.get("DeathReason", 0) for node in ray.nodes() if not node["Alive"]}
        return getattr(error, "preempted", False) or reason.get(worker.node, 0) in ANNOUNCED

    def count(self, pack, report):
        """Moves the bar by the FLOPs with which a pack has come further than ever before."""
        flops, text, lines = report
        for line in lines:
            self.progress.print(line)
        if pack is not None:
            more = max(0.0, flops - self.counted[pack])
            self.counted[pack] += more
            busy = sum(worker.pack is not None for worker in self.workers)
            self.progress.update(more, text and f"{busy} actor(s); {text}")

    def say(self, line):
        """Prints a line once."""
        if line not in self.said:
            self.said.add(line)
            self.progress.print(line)

    def save(self):
        """Tells all actors to save, and waits for them."""
        busy = [worker for worker in self.workers if worker.training is not None]
        for worker in busy:
            worker.actor.report.remote(True)
        if busy:
            ray.wait([worker.training for worker in busy], num_returns=len(busy), timeout=GRACE_SECONDS)

    def end(self, worker):
        if worker in self.workers:
            self.workers.remove(worker)
            ray.kill(worker.actor)


def alive() -> dict:
    """{node: its resources} of the live nodes."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def _draining() -> set[str]:
    """Nodes that are about to be taken away. Ray has no public call for it; its own trainer uses this one."""
    return set(getattr(ray._private.state.state, "get_draining_nodes", dict)())


def _name(pack) -> str:
    return f"pack {pack.name} of {len(pack.runs)} run(s)"
