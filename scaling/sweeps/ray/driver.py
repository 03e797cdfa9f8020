"""One plan on its way through a cluster: the loop of the process that the user started."""

import collections
import dataclasses
import time

import ray
from scaling.devices import exits
from scaling.sweeps.plan import Pack, Plan
from scaling.sweeps.ray.errors import ClusterError, why_died
from scaling.sweeps.ray.queue import Queue

ASKED_AT_ONCE = 64  # actors that wait for room; an autoscaler sees them as what is wanted
ANNOUNCED = (1, 3, 4)  # of Ray's NodeDeathInfo: told to end (SIGTERM), drained by preemption, drained when idle
GRACE_SECONDS = 60.0  # for actors to save when the sweep is told to stop
VISIBLE_SECONDS = 60.0  # how long a shared file system may take to show a record that another node wrote


@dataclasses.dataclass(eq=False)
class Worker:
    """An actor as its driver sees it."""

    actor: object
    devices: int
    starting: object  # until Ray has room and JAX is up
    nodes: frozenset  # alive when it was asked for
    node: str = ""
    pack: Pack | None = None
    training: object = None
    asked: object = None
    asked_at: float = 0.0


class Sweep:
    """One plan on its way."""

    def __init__(self, executor, runner, plan: Plan):
        self.executor, self.runner = executor, runner
        self.queue = Queue([p for p in plan.packs if not self.done(p)], executor.need, executor.options.max_retries)
        self.workers: list[Worker] = []
        self.counted = collections.Counter()  # FLOPs of each pack that the bar has been told of
        self.false_starts, self.said = 0, set()

    def done(self, pack) -> bool:
        return all(self.runner.records.done(run.fingerprint) for trunk in pack.trunks for run in trunk.runs)

    def run(self):
        try:
            while len(self.queue) or any(worker.pack for worker in self.workers):
                if exits.asked():
                    raise exits.Preempted
                self.staff()
                self.ask(_draining())
                refs = [ref for w in self.workers for ref in (w.starting, w.training, w.asked) if ref is not None]
                ready = ray.wait(refs, num_returns=len(refs), timeout=0.2)[0] if refs else time.sleep(0.2) or []
                for worker in list(self.workers):
                    self.look(worker, set(ready))
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

    def staff(self):
        """Gives packs to idle actors, asks Ray for as many actors as packs wait, and ends those that none waits for."""
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
        for devices, count in (+wanted).items():
            nodes, waiting = alive(), sum(worker.starting is not None for worker in self.workers)
            for _ in range(min(count, ASKED_AT_ONCE - waiting)):
                actor = self.executor.actor(devices, self.runner.workdir, self.runner.options)
                self.workers.append(Worker(actor, devices, actor.start.remote(), frozenset(nodes)))
            kind = self.executor.device.upper()
            if not any(resources.get(kind, 0) >= devices for resources in nodes.values()):
                self.say(f"waiting for a node with {devices} {kind}(s): the cluster has none")

    def ask(self, draining):
        """Asks every second how far each actor is, and those on nodes that go away to save."""
        now = time.monotonic()
        for worker in self.workers:
            if worker.training is not None and worker.asked is None and now - worker.asked_at > 1:
                worker.asked, worker.asked_at = worker.actor.report.remote(worker.node in draining), now

    def look(self, worker: Worker, ready):
        if worker.asked in ready:
            try:
                self.count(worker.pack, ray.get(worker.asked))
            except ray.exceptions.RayError:
                pass  # then its training has ended the same way
            worker.asked = None
        for field in ("starting", "training"):
            ref = getattr(worker, field)
            if ref is None or ref not in ready:
                continue
            try:
                found = ray.get(ref)
            except ray.exceptions.RayTaskError as error:
                if not isinstance(error.cause, exits.Preempted):
                    raise error.cause from None  # the run's own: no other actor would do better
                self.leave(worker, "preempted", "")
            except ray.exceptions.RayError as error:
                self.leave(worker, "preempted" if self.announced(worker, error) else "died", why_died(str(error)))
            else:
                setattr(worker, field, None)
                self.started(worker, found) if field == "starting" else self.finished(worker, *found)

    def started(self, worker, node):
        worker.node, self.false_starts = node, 0

    def finished(self, worker, trained: bool, report):
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
        """The actor is lost, or must be given up; its pack waits again."""
        self.end(worker)
        if worker.pack is None:
            # Actors that wait at a node go with it, all at once and by no fault of theirs.
            self.false_starts += how == "died" and worker.nodes <= alive().keys()
            if self.false_starts > self.executor.options.max_retries:
                raise ClusterError(f"actors die as they start, {self.false_starts} in a row; the last: {why}")
        elif how == "preempted":
            self.runner.progress.print(f"{_name(worker.pack)} was preempted; it goes on where it was saved")
            self.queue.preempted(worker.pack)
        else:
            self.runner.progress.print(f"the actor of {_name(worker.pack)} died: {why}")
            self.queue.died(worker.pack, why)

    def announced(self, worker, error) -> bool:
        """Whether the node of a dead actor was taken away with notice."""
        reason = {node["NodeID"]: node.get("DeathReason", 0) for node in ray.nodes() if not node["Alive"]}
        return getattr(error, "preempted", False) or reason.get(worker.node, 0) in ANNOUNCED

    def count(self, pack, report):
        """The bar moves when a pack is further than anyone has been with it."""
        flops, text, lines = report
        for line in lines:
            self.runner.progress.print(line)
        if pack is not None:
            more = max(0.0, flops - self.counted[pack])
            self.counted[pack] += more
            busy = sum(worker.pack is not None for worker in self.workers)
            self.runner.progress.update(more, text and f"{busy} actor(s); {text}")

    def say(self, line):
        if line not in self.said:
            self.said.add(line)
            self.runner.progress.print(line)

    def save(self):
        """Asks all actors to save, and waits for them."""
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
    """{node: its resources}."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def _draining() -> set[str]:
    """Nodes that are about to be taken away. Ray has no public call for it; its own trainer asks in the same way."""
    return set(getattr(ray._private.state.state, "get_draining_nodes", dict)())


def _name(pack) -> str:
    runs = [run for trunk in pack.trunks for run in trunk.runs]
    return f"pack {pack.name} of {len(runs)} run(s)"
