"""Sweeps on a Ray cluster: actors that own devices train the packs of a plan. Ray places the actors.

    executor = Executor(Options(address="auto"), mesh="")
    executor(runner, plan)     # every run of the plan has a record when this returns

For every pack that waits, Ray is asked for an actor that owns as many devices as the pack's mesh needs, on one node.
Those that Ray has room for train one pack after another. The workdir is shared: claims and records make each run end
exactly once, whatever dies, and a pack goes on from the last checkpoint of whoever had it before.
"""

import collections
import dataclasses
import math
import os
import socket
import threading
import time
import warnings

import jax
import ray

from scaling import preemption, runner as runners, sharding, sweep
from scaling.experiment import ConfigError

DEVICES = ("cpu", "gpu", "tpu")
PASSED = ("JAX_COMPILATION_CACHE_DIR", "JAX_DEFAULT_MATMUL_PRECISION", "JAX_ENABLE_X64", "LIBTPU_INIT_ARGS",
          "WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT")  # and what begins with SCALING_
TPU_COUNTS = (1, 2, 4, 8)  # parts of a host that Ray hands out
ASKED_AT_ONCE = 64  # actors that wait for room; an autoscaler sees them as what is wanted
ANNOUNCED = (1, 3, 4)  # of Ray's NodeDeathInfo: told to end (SIGTERM), drained by preemption, drained when idle
GRACE_SECONDS = 60.0  # for actors to save when the sweep is told to stop
VISIBLE_SECONDS = 60.0  # how long a shared file system may take to show a record that another node wrote


class ClusterError(ValueError):
    """Ray cannot be reached, or cannot train what it was given."""


@dataclasses.dataclass(frozen=True)
class Options:
    address: str = "auto"  # "auto": a running cluster, else a local one; "local"; or host:port
    device: str = ""  # what actors own; "": the fastest kind that the cluster has
    devices: int = 0  # how many of them; 0: what the mesh of the pack needs
    cpus: int = 1  # cores beside a GPU or TPU, to read data
    max_retries: int = 3  # of a pack whose actor died


def needs(trunks: int, mesh: str, devices: int = 0) -> int:
    """Devices that a pack of so many trunks asks for: those its mesh names, and one for each run where it names no `run`.

    `devices` overrides that, and must be given where the mesh has a size of -1.
    """
    sizes = sharding.parse_mesh(mesh)
    fixed = math.prod(size for size in sizes.values() if size > 0)
    if devices:
        if devices % fixed:
            raise ConfigError(f"mesh={mesh!r} asks for a multiple of {fixed} devices, but actors have ray_devices={devices}")
        return devices
    if -1 in sizes.values():
        raise ConfigError(f"mesh={mesh!r} takes the devices that are there: say how many an actor owns, ray_devices=8 for "
                          "instance")
    return fixed if "run" in sizes else fixed * trunks


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


class Report:
    """What a Runner takes for a progress bar: keeps FLOPs, text and lines until they are fetched."""

    def __init__(self):
        self.lock, self.flops, self.text, self.lines = threading.Lock(), 0.0, None, []

    def update(self, flops=0, text=None):
        with self.lock:
            self.flops += flops
            self.text = text or self.text

    def print(self, line):
        with self.lock:
            self.lines.append(str(line))

    def take(self):
        """(FLOPs of this pack so far, text, lines since the last call)."""
        with self.lock:
            lines, self.lines = self.lines, []
            return self.flops, self.text, lines


class Trainer:
    """The actor. `train` runs in one of its threads, `report` answers from another."""

    def __init__(self, device: str, devices: int, workdir, options: runners.Options):
        preemption.listen()  # here, because Ray runs only the constructor in the main thread
        self.device, self.devices, self.workdir, self.options = device, devices, workdir, options
        self.progress, self.stopping = Report(), False
        if device == "cpu":
            kept = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "host_platform_device_count" not in flag]
            os.environ["XLA_FLAGS"] = " ".join([*kept, f"--xla_force_host_platform_device_count={devices}"])
            sharding.one_cpu_device_per_core()
            jax.config.update("jax_platforms", "cpu")

    def start(self) -> str:
        """The node. Raises ClusterError when its JAX does not see the devices that Ray gave."""
        warnings.showwarning = lambda message, *rest, **named: self.progress.print(f"{socket.gethostname()}: {message}")
        seen, platform = jax.local_device_count(), jax.default_backend()
        if platform != self.device or seen < self.devices:
            raise ClusterError(f"JAX on {socket.gethostname()} sees {seen} device(s) of {platform} where an actor owns "
                               f"{self.devices} of {self.device}: pip install 'scaling[{self.device}]' there")
        self.runner = runners.Runner(self.workdir, self.options, self.progress)
        return ray.get_runtime_context().get_node_id()

    def train(self, pack: sweep.Pack):
        """(whether the pack is trained, report); not, when another process has claimed it."""
        self.progress.flops = 0.0
        return self.runner.train_pack(pack), self.progress.take()

    def report(self, stop: bool):
        if stop and not self.stopping:
            self.stopping = True
            os.kill(os.getpid(), 15)  # the way that others ask, too: save, then end
        return self.progress.take()


@dataclasses.dataclass(eq=False)
class Worker:
    """An actor as its driver sees it."""

    actor: object
    devices: int
    starting: object  # until Ray has room and JAX is up
    node: str = ""
    pack: sweep.Pack | None = None
    training: object = None
    asked: object = None
    asked_at: float = 0.0


class Executor:
    """Trains plans on a cluster: `executor(runner, plan)` in place of `runner.run(plan)`."""

    def __init__(self, options: Options, mesh: str = ""):
        if options.device and options.device not in DEVICES:
            raise ConfigError(f"ray_device={options.device!r} is not known; choose from {', '.join(DEVICES)}")
        self.options, self.mesh = options, mesh
        self.pack = max(1, needs(1, mesh, options.devices) // _fixed(mesh)) if options.devices else \
            max(1, sharding.parse_mesh(mesh).get("run", 1))  # runs that share a program, by default
        needs(self.pack, mesh, options.devices)
        _connect(options.address)
        has = ray.cluster_resources()
        self.device = options.device or next((d for d in ("tpu", "gpu") if has.get(d.upper(), 0)), "cpu")

    def describe(self) -> str:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        count = ray.cluster_resources().get(self.device.upper(), 0)
        return (f"trained by Ray on {len(nodes)} node(s) with {count:g} {self.device.upper()}(s), packs of {self.pack} run(s) "
                f"by default, each on {needs(self.pack, self.mesh, self.options.devices)}")

    def need(self, pack: sweep.Pack) -> int:
        return needs(len(pack.trunks), self.mesh, self.options.devices)

    def __call__(self, runner: runners.Runner, plan: sweep.Plan):
        _Sweep(self, runner, plan).run()

    def actor(self, devices: int, workdir, options):
        """An actor that Ray starts as soon as there is room."""
        if self.device == "tpu" and devices not in TPU_COUNTS:
            raise ClusterError(f"a pack needs {devices} TPU chips; Ray gives {', '.join(map(str, TPU_COUNTS))} of a host")
        owns = {"cpu": {"num_cpus": devices}, "gpu": {"num_gpus": devices, "num_cpus": self.options.cpus},
                "tpu": {"resources": {"TPU": devices}, "num_cpus": self.options.cpus}}[self.device]
        passed = {k: v for k, v in os.environ.items() if k.startswith("SCALING_") or k in PASSED}
        remote = ray.remote(Trainer).options(**owns, max_concurrency=2, max_restarts=0, runtime_env={"env_vars": passed})
        return remote.remote(self.device, devices, workdir, options)


class _Sweep:
    """One plan on its way."""

    def __init__(self, executor: Executor, runner: runners.Runner, plan: sweep.Plan):
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
                if preemption.asked():
                    raise preemption.Preempted
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
        for devices, count in wanted.items():
            waiting = sum(worker.starting is not None for worker in self.workers)
            for _ in range(min(count, ASKED_AT_ONCE - waiting)):
                actor = self.executor.actor(devices, self.runner.workdir, self.runner.options)
                self.workers.append(Worker(actor, devices, actor.start.remote()))
            kind = self.executor.device.upper()
            if count > 0 and not any(node["Resources"].get(kind, 0) >= devices for node in ray.nodes() if node["Alive"]):
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
                if not isinstance(error.cause, preemption.Preempted):
                    raise error.cause from None  # the run's own: no other actor would do better
                self.leave(worker, "preempted", "")
            except ray.exceptions.RayError as error:
                self.leave(worker, "preempted" if self.announced(worker, error) else "died", str(error))
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
            self.false_starts += how == "died"
            if self.false_starts > self.executor.options.max_retries:
                raise ClusterError(f"actors die as they start, {self.false_starts} in a row; the last: {_last(why)}")
        elif how == "preempted":
            self.runner.progress.print(f"{_name(worker.pack)} was preempted; it goes on where it was saved")
            self.queue.preempted(worker.pack)
        else:
            self.runner.progress.print(f"the actor of {_name(worker.pack)} died: {_last(why)}")
            self.queue.died(worker.pack, _last(why))

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


def _connect(address: str):
    """Joins a cluster as its driver. Nothing of what actors print comes through: their reports do."""
    if ray.is_initialized():
        return
    quiet = {"log_to_driver": False, "logging_level": "WARNING"}
    try:
        if address != "local":
            ray.init(address=address, **quiet)
            return
    except (ConnectionError, ValueError, OSError) as error:
        if address != "auto":
            raise ClusterError(f"no Ray cluster answers at ray_address={address!r}: {_last(str(error))}; start one with "
                               "`ray start --head`, or write ray_address=local") from None
    ray.init(address="local", include_dashboard=False, **quiet)


def _draining() -> set[str]:
    """Nodes that are about to be taken away. Ray has no public call for it; its own trainer asks in the same way."""
    return set(getattr(ray._private.state.state, "get_draining_nodes", dict)())


def _fixed(mesh):
    return math.prod(size for name, size in sharding.parse_mesh(mesh).items() if size > 0 and name != "run")


def _name(pack) -> str:
    runs = [run for trunk in pack.trunks for run in trunk.runs]
    return f"pack {pack.name} of {len(runs)} run(s)"


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
