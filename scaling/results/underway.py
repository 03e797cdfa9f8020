"""The runs of a workdir at this moment: planned, running, finished or failed, from files alone.

Nothing is written and no lock is taken, so that anybody may look while any number of processes, on any hosts, write.
Whether a run is alive is told by its log, which grows, and not by processes, which may be elsewhere.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from etils import epath

from scaling.results import logs
from scaling.results.speeds import measured_rates, nearest_rate
from scaling.results.tuned import PARAMS

if TYPE_CHECKING:
    import pandas as pd

STATES = ("running", "silent", "failed", "stopped", "finished", "planned")  # in the order in which they are shown
NEEDED = {"steps", "cooldown", "trunk", "pack", "flops_executed_per_step", PARAMS}  # of a planned run, see `list_runs`
LAWLESS = "the study ended without a law, so the run that it would forecast is not trained"
SILENT = 300.0  # seconds without a new line after which nobody seems to train a run any more


@dataclass(frozen=True)
class RunNow:
    """One run. What its files do not say is None."""
    fingerprint: str
    state: str                   # one of STATES
    role: str = "sweep"
    params: float | None = None  # non-embedding
    data: float | None = None    # units of data, as planned
    learning_rate: float | None = None
    seed: int | None = None
    step: int | None = None      # the last one in its log
    steps: int | None = None
    loss: float | None = None    # of training, in its log
    value: float | None = None   # of the study's metric
    quiet: float | None = None   # seconds since its log grew, of a run without a result
    says: str = ""               # why it failed or stopped


@dataclass(frozen=True)
class Underway:
    """All runs of a workdir, and what is left to do."""
    runs: list[RunNow]
    curves: dict[str, list[dict]] = field(default_factory=dict)  # of runs without a result: their points so far
    share: float | None = None         # of the work of training that is done
    seconds_left: float | None = None  # of training
    basis: str = ""                    # what the time is estimated from, or why there is none

    def count(self, state: str) -> int:
        return sum(run.state == state for run in self.runs)


class Logs:
    """The logs of a workdir, read again only where they have grown."""

    def __init__(self, workdir, now: Callable[[], float] = time.time):
        self._folder, self._now = epath.Path(workdir) / "logs", now
        self._known: dict[str, tuple] = {}  # {name: (size and time of its file, when it grew, its points)}

    def names(self) -> set[str]:
        """The names of the logs that there are."""
        try:
            return {path.name.removesuffix(".jsonl") for path in self._folder.iterdir() if path.name.endswith(".jsonl")}
        except OSError:  # there is no folder yet, or it is out of reach just now
            return set()

    def points(self, name: str) -> list[dict]:
        """The whole lines of a log; a line that is being written is no line yet. [] where there is no log."""
        return self._look(name)[2]

    def quiet(self, name: str) -> float:
        """Seconds since a log grew: as its file says or, once it was seen to grow, by the clock of this process. The clocks
        of hosts may differ."""
        return max(0.0, self._now() - self._look(name)[1])

    def _look(self, name):
        path = self._folder / f"{name}.jsonl"
        try:
            stat = path.stat()
            mark = (stat.length, stat.mtime)
            known = self._known.get(name)
            if known is None or known[0] != mark:
                grew = self._now() if known else min(self._now(), float(stat.mtime or 0))
                self._known[name] = (mark, grew, logs.examine_curve(path)[0])
        except OSError:
            self._known.setdefault(name, (None, 0.0, []))
        return self._known[name]


def find_underway(table: pd.DataFrame, study: Mapping, targets: Iterable[str], unit: str, metric: str, read: Logs,
                  ) -> Underway:
    """The runs at this moment.

    table: the records, as `tuned.clean` gives them. study: the content of study.json, whose "planned" is of `list_runs`;
    workdirs of earlier versions lack it, and then less is known of runs without a record. targets: the runs that the
    forecast is about. read: the logs of the workdir, the same at every look.
    """
    targets = list(targets)
    listed = _listed(study, targets)
    ended = {row["fingerprint"]: row for row in table.to_dict("records")}
    names = [*dict.fromkeys([*listed, *map(str, study.get("runs") or ()), *targets, *ended])]
    there = read.names()
    found, curves = [], {}
    for name in names:
        about = listed.get(name) or {}
        run, points = _run(name, about, ended.get(name), unit, metric, read, there)
        found.append(run)
        if points:
            curves[name] = points
    found.sort(key=lambda run: (STATES.index(run.state), run.params or 0, run.data or 0, run.learning_rate or 0))
    running = [run for run in found if run.state == "running"]
    # A run of which only the evaluation is left waits beside the next one: its process trains that one already.
    in_training = {(listed.get(run.fingerprint) or {}).get("pack", run.fingerprint) for run in running
                   if run.steps is None or (run.step or 0) < run.steps}
    alive = max(len(in_training), min(1, len(running)))
    wanted = {name: about for name, about in listed.items() if about.get("role") != "target"}
    if "failed" in study and not targets and len(wanted) < len(listed) and wanted.keys() <= ended.keys():
        # The command came to its end, which is where it writes what failed, and there is no forecast.
        share, seconds, _ = _left(wanted, ended, read, table, study, alive)
        return Underway(found, curves, share, seconds, LAWLESS)
    return Underway(found, curves, *_left(listed, ended, read, table, study, alive))


def _listed(study: Mapping, targets: list[str]) -> dict[str, dict]:
    """"planned" of study.json, where the targets have the names under which they are trained."""
    listed = {name: about for name, about in (study.get("planned") or {}).items() if about.keys() >= NEEDED}
    nominal = [name for name, about in listed.items() if about.get("role") == "target"]
    for old, new in zip(nominal, targets, strict=False):  # their learning rate was not known when they were planned
        if old != new:
            listed[new] = {**listed.pop(old), "trunk": new, "pack": new, "learning_rate": None}
    return listed


def _parts(name: str, about: Mapping) -> tuple[str, str]:
    """The names of the logs that a run's curve is joined from: that of its trunk, and that of its branch."""
    trunk = about.get("trunk") or name
    return f"{trunk}-trunk", f"{trunk}-branch-{about.get('steps')}"


def _run(name, about, record, unit, metric, read, there) -> tuple[RunNow, list[dict]]:
    """(a run, the points of its curve so far if it has no result)."""
    trunk, branch = _parts(name, about)
    known = {"role": about.get("role") or "sweep", "params": about.get(PARAMS), "data": about.get(f"{unit}_seen"),
             "learning_rate": about.get("learning_rate"), "seed": about.get("seed"), "steps": about.get("steps")}
    if record is not None:
        known = {**known, "role": record["role"], "params": _number(record[PARAMS]), "seed": _number(record["seed"], int),
                 "data": _number(record[f"{unit}_seen"]), "learning_rate": _number(record["learning_rate"]),
                 "steps": _number(record["steps"], int), "step": _number(record["steps"], int)}
        state, says = "finished", ""
        if record["diverged"]:
            state, at = "failed", _number(record["diverged_step"], int)
            says = f"diverged{f' at step {at:,}' if at is not None else ''}: {record['diverged_because'] or 'not finite'}"
            known["step"] = at
        elif record["stopped_because"]:
            state, says = "stopped", f"stopped early: {record['stopped_because']}"
            known["step"] = _number(record["stopped_step"], int)
        return RunNow(name, state, **known, loss=_number(record.get("loss")), value=_number(record[metric]), says=says), []
    until = about.get("cooldown", float("inf"))
    points = [point for point in read.points(trunk) if point.get("step", 0) <= until] if trunk in there else []
    points += read.points(branch) if branch in there else []
    if not points:
        return RunNow(name, "planned", **known), []
    start = trunk.removesuffix("-trunk")
    quiet = min(read.quiet(log) for log in there if log.startswith(f"{start}-"))
    last = points[-1]
    state = "running" if quiet < SILENT else "silent"
    losses = [name for name in last if name.rpartition("/")[2] == "loss" and not name.startswith(logs.VALIDATION)]
    loss = last[losses[0]] if losses else None
    return RunNow(name, state, **known, step=_number(last.get("step"), int), loss=_number(loss), quiet=quiet), points


def _left(listed, ended, read, table, study, alive) -> tuple[float | None, float | None, str]:
    """(the share of the work that is done, seconds that are left, what they are estimated from)."""
    if not listed:
        return None, None, "no time can be told: study.json of this workdir does not list its runs"
    rates, trunks = _rates(table), {}
    for name, about in listed.items():
        trunks.setdefault(about["trunk"], []).append((name, about))
    done = total = seconds = 0.0
    far = False
    for runs in trunks.values():
        steps, took = _steps(runs, ended, read)
        each = float(runs[0][1]["flops_executed_per_step"])
        total, done = total + steps * each, done + took * each
        if took < steps and rates:
            far = far or nearest_rate(rates, runs[0][1][PARAMS]) is None
            seconds += (steps - took) * each / nearest_rate(rates, runs[0][1][PARAMS], math.inf)
    share = done / total if total else None
    if share is None or share >= 1:
        return share, 0.0 if share else None, ""
    several = "" if alive else ", once training goes on"
    several = f", with {alive} groups of runs in training at a time" if alive > 1 else several
    if rates:
        of = ", some of which are of quite other sizes" if far else ""
        return share, seconds / max(1, alive), f"at the rate of the runs that have finished here{of}{several}"
    expected = (study.get("plan") or {}).get("seconds")
    if expected is None:
        return share, None, "no time can be told before a run has finished"
    return share, expected * (1 - share) / max(1, alive), f"as planned, since no run has finished yet{several}"


def _steps(runs, ended, read) -> tuple[float, float]:
    """(steps of a trunk with its branches, how many of them are done)."""
    branches = {about["steps"]: (name, about) for name, about in runs}
    ends = max(about["cooldown"] for _, about in runs)
    trunk = read.points(_parts(*runs[0])[0])
    reached = [trunk[-1].get("step", 0)] if trunk else []
    reached += [about["cooldown"] for name, about in runs if name in ended]
    total, done = float(ends), float(min(ends, max(reached, default=0)))
    for name, about in branches.values():
        long, points = about["steps"] - about["cooldown"], read.points(_parts(name, about)[1])
        at = points[-1].get("step", 0) - about["cooldown"] if points else 0
        total, done = total + long, done + (long if name in ended else max(0, min(long, at)))
    return total, done


def _rates(table: pd.DataFrame) -> dict[float, float]:
    """{N: FLOP/s} of the finished runs, whatever their family."""
    found: dict = {}
    for sizes in measured_rates(table).values():
        found |= sizes
    return found


def _number(value, kind=float):
    """A number of a record or a log, None where there is none."""
    if value is None or isinstance(value, str) or value != value:
        return None
    return kind(value)
