"""Worker processes of `tools.bench`, and figures that are measured in turn."""

import contextlib
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]

SHORT = 0.25  # seconds of a step that one thread of torch may take faster than several
QUIET = 0.05  # the share of the cores that other processes may take during a measurement
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}  # what the seconds of a worker are


class Failed(Exception):
    """What a worker could not do, in its own words."""


class Worker:
    """A process that trains for one side; see `tools._bench_worker`. It starts at the first request."""

    def __init__(self, who, **options):
        self.who, self.options, self.peak = who, options, 0
        self.process: subprocess.Popen | None = None

    def send(self, do, **arguments):
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tools._bench_worker", self.who, json.dumps(self.options)], cwd=ROOT, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path_of_modules()})
        with contextlib.suppress(BrokenPipeError):  # of a process that has died, as `receive` will find
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()

    def receive(self) -> dict:
        """The answer to the oldest request that has none yet, which may be an error."""
        line = self.process.stdout.readline()
        if not line:
            ended, self.process = self.process, None  # the next request starts another
            raise Failed(f"the process of {self.who} ended with status {ended.wait()}")
        answer = json.loads(line)
        self.peak = answer["peak"]
        return answer

    def check(self, answer) -> dict:
        """The answer, unless it is an error, which is raised as Failed."""
        if "error" in answer:
            raise Failed(f"{self.who}: {answer['error']}")
        return answer

    def ask(self, do, **arguments) -> dict:
        self.send(do, **arguments)
        return self.check(self.receive())

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()
            self.process = None


def path_of_modules() -> str:
    """$PYTHONPATH with this checkout first."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Team(contextlib.ExitStack):
    """The workers of one command. `peers` are those that can be compared with here, of PEERS; `left_out` says why the
    others are not. `clock`, of CLOCKS, is that of all of them."""

    PEERS = ("torch", "gpt2", "nanodo")

    def __init__(self, wanted=PEERS, nanodo=None, clock="wall"):
        super().__init__()
        self.nanodo, self.clock, self.left_out, self.workers = nanodo, clock, [], {}
        absent = {"torch": _absent("torch"), "gpt2": _absent("torch") or _absent("transformers"),
                  "nanodo": None if nanodo else "there is no checkout of it; --nanodo=/path/to/nanodo names one"}
        self.peers = tuple(who for who in wanted if absent[who] is None)
        self.left_out = [f"{who} is left out: {absent[who]}" for who in wanted if absent[who]]

    def worker(self, who, number=0) -> Worker:
        """The process number `number` of this side."""
        if (who, number) not in self.workers:
            self.workers[who, number] = made = self.fresh(who)
            self.callback(made.close)
        return self.workers[who, number]

    def forget(self):
        """Every process frees what it holds of the cases that are done."""
        for worker in self.workers.values():
            if worker.process is not None and worker.process.poll() is None:
                worker.ask("forget")

    def fresh(self, who) -> Worker:
        """Another process of this side, to be closed by the caller."""
        return Worker(who, clock=self.clock, **({"checkout": str(self.nanodo)} if who == "nanodo" else {}))


def _absent(module):
    return None if importlib.util.find_spec(module) else f"pip install {'transformers' if module != 'torch' else 'torch'}"


def busy_seconds() -> float | None:
    """Seconds that the processors that this process may use have been busy since the machine started, for any process or
    for other guests of the host; None where the system does not say."""
    try:
        ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        with open("/proc/stat") as file:
            found = [list(map(int, numbers[:8])) for name, *numbers in map(str.split, file) if name in ours]
        return sum(user + nice + system + irq + soft + steal
                   for user, nice, system, _idle, _wait, irq, soft, steal in found) / os.sysconf("SC_CLK_TCK")
    except (AttributeError, OSError, ValueError):
        return None


class Watch:
    """The share of the cores that other processes take while ours use `cpu` seconds of processor time."""

    def __init__(self):
        self.busy, self.start = busy_seconds(), time.monotonic()

    def others(self, cpu: float) -> float:
        """The share since the watch was made; 0 where it is not known, or not yet: the system's clock ticks every 10 ms."""
        busy, passed = busy_seconds(), time.monotonic() - self.start
        if busy is None or self.busy is None or passed < 0.2:
            return 0.0
        return max(0.0, busy - self.busy - cpu) / passed / cores()


class Side:
    """One contestant: a name, and the processes that train `runs` runs of a case together."""

    others = 0.0  # the share of the cores that other processes took during the last measurement

    def __init__(self, team, name, who, case, runs=1, how=None):
        self.name, self.who, self.case, self.runs, self.how = name, who, case, runs, how
        self.workers = [team.worker(who, i) for i in range(runs if who != "ours" else 1)]
        self.clock = team.clock
        self.prepared: dict = {}

    def prepare(self, seconds):
        """Builds and compiles, takes steps, and chooses how many steps take about `seconds`."""
        request = {"case": self.case._asdict(), "runs": self.runs}
        if self.who == "ours":
            self.prepared = self.workers[0].ask("prepare", how=self.how, **request)
        else:
            threads = 1 if self.runs > 1 else cores()
            self.prepared = self._all("prepare", threads=threads, **request) | {"threads": threads}
            if self.who != "nanodo" and threads > 1 and self.prepared["seconds"] < SHORT:
                one = self._all("prepare", threads=1, **request) | {"threads": 1}
                all_of_them = self._all("prepare", threads=threads, **request) | {"threads": threads}
                self.prepared = min(all_of_them, one, key=lambda answer: answer["seconds"])
                self._all("threads", case=request["case"], threads=self.prepared["threads"])
        self.steps = max(1, round(seconds / self.prepared["seconds"]))
        return self

    def measure(self) -> float:
        """Steps a second of all runs together."""
        watch = Watch()
        answer = self._all("run", case=self.case._asdict(), runs=self.runs, steps=self.steps)
        self.others = watch.others(answer["cpu"]) if self.clock == "wall" else 0.0
        return self.runs * self.steps / answer["seconds"]

    def _all(self, do, **arguments):
        """The answer of the slowest of the processes, which work at the same time, with the processor time of all."""
        for worker in self.workers:
            worker.send(do, **arguments)
        answers = [worker.receive() for worker in self.workers]  # all of them, or the next would be late
        for worker, answer in zip(self.workers, answers):
            worker.check(answer)
        return max(answers, key=lambda answer: answer["seconds"]) | {"cpu": sum(answer["cpu"] for answer in answers)}


class Turns(NamedTuple):
    """Measurements of several sides: {name: one for each repeat}, and the share of the cores that other processes took."""

    found: dict
    others: float


def in_turn(sides, repeats, until=float("inf"), say=lambda text: None) -> Turns:
    """Measures every side once in each repeat, forwards and backwards by turns.

    A repeat in which other processes took more than `QUIET` of the cores is done again, at most `repeats` times, and the
    quietest repeats count. Stops early at `until`, a time of time.monotonic, after whole repeats.
    """
    done: list[tuple[float, dict]] = []
    while len(done) < 2 * repeats and sum(others <= QUIET for others, _ in done) < repeats:
        values, others = {}, 0.0
        for side in sides[::-1] if len(done) % 2 else sides:
            say(f"{len(done) + 1}/{repeats} {side.name}")
            values[side.name] = side.measure()
            others = max(others, side.others)
        done.append((others, values))
        if time.monotonic() > until:
            break
    quietest = sorted(range(len(done)), key=lambda repeat: done[repeat][0])[:repeats]
    kept = [done[repeat] for repeat in sorted(quietest)]
    return Turns({side.name: [values[side.name] for _, values in kept] for side in sides}, max(o for o, _ in kept))


def spread(values) -> dict:
    """The median of some measurements, the least and the largest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "values": list(values)}


def ratios(ours, theirs) -> dict:
    """The spread of ours over theirs, pair by pair: each pair was measured in one repeat."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])
