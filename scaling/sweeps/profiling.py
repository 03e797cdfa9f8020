"""A trace of a few steps of training, for xprof or TensorBoard, and the operations that took most of their time.

The first call of the first program is not traced, because it waits for a compilation. A trace changes no result: calls only
end earlier, and training never depends on where they end.
"""

from __future__ import annotations

import collections
import os
import pathlib
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax

from scaling.devices import hosts
from scaling.figures import words
from scaling.training.program import Program

SLOWEST = 5  # operations that are printed
CONTROL = re.compile(r"(while|call|conditional|tuple|async-|end: )")  # they hold other operations, or none
PACKAGE = pathlib.Path(__file__).parents[1]


class Operation(NamedTuple):
    """An operation of a compiled program in a trace, all its executions together."""
    name: str
    seconds: float
    share: float  # of the seconds of all operations
    times: int
    where: str    # in our code, "" where neither the trace nor the program says it


class StepTrace:
    """Traces `steps` steps of training into `folder`, once. Process 0 of a job traces; the others keep the same calls."""

    def __init__(self, steps: int, folder):
        self.left, self.folder = steps, folder
        self._warm, self._tracing, self._traced = False, False, 0
        self._say: Callable[[str], None] = print
        self._program: Program | None = None

    def most(self, steps: int, every: int) -> int:
        """At most so many steps are in the next call, of `steps` that it would have. Calls end at multiples of `every`."""
        return min(steps, -(-self.left // every) * every) if self._warm and self.left > 0 else steps

    def begin(self) -> None:
        """Before each call: begins to trace if it is time."""
        if self._warm and self.left > 0 and not self._tracing:
            self._tracing = True
            if hosts.is_lead():
                options = jax.profiler.ProfileOptions()
                options.python_tracer_level = 0  # operations are what is asked for, and a trace of Python is large
                jax.profiler.start_trace(os.fspath(self.folder), profiler_options=options)

    def end(self, steps: int, result: jax.Array, program: Program, say: Callable[[str], None]) -> None:
        """After each call of so many steps: waits for its `result` where something begins or ends, and ends the trace."""
        if self.left <= 0:
            return
        self._say, self._program = say, program
        if not self._tracing:
            jax.block_until_ready(result)
            self._warm = True
            return
        self.left, self._traced = self.left - steps, self._traced + steps
        if self.left <= 0:
            jax.block_until_ready(result)
            self.close()

    def close(self) -> None:
        """Ends a trace that is under way, and says what was slow. Training may have ended before all steps were traced."""
        if not self._tracing or self._program is None:
            return
        self.left, self._tracing = 0, False
        if hosts.is_lead():
            jax.profiler.stop_trace()
            self._say(describe_trace(self.folder, self._traced, self._program.advance_call.texts()))

    @property
    def missed(self) -> bool:
        """Whether steps were to be traced, and none was."""
        return self.left > 0


def describe_trace(folder, steps: int, programs: Iterable[str]) -> str:
    """What is said of a trace: where it is, and a line for each of the slowest operations."""
    found = slowest_operations(folder, programs)
    shown = os.fspath(folder)
    lines = [f"profile: {words.plural(steps, 'step')} traced into {shown}; pip install xprof && xprof --logdir={shown} "
             "shows the trace"]
    if not found:
        return f"{lines[0]}\n  the trace names no operations on this device"
    width = max(len(one.name) for one in found)
    lines += [f"  {one.name:<{width}} {words.duration(one.seconds):>9} {words.percent(one.share):>6}  {one.where}".rstrip()
              for one in found]
    return "\n".join(lines)


def slowest_operations(folder, programs: Iterable[str] = (), most: int = SLOWEST) -> list[Operation]:
    """The operations that took the most time in the newest trace of a folder, the slowest first.

    On devices that run several at a time their seconds add up. `programs` are compiled programs as text: they say where
    an operation comes from where the trace does not.
    """
    traces = sorted(pathlib.Path(folder).glob("plugins/profile/*/*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    if not traces:
        return []
    took, times, where = collections.Counter(), collections.Counter(), {}
    for name, nanoseconds, said in _events(jax.profiler.ProfileData.from_file(os.fspath(traces[-1]))):
        took[name] += nanoseconds
        times[name] += 1
        where.setdefault(name, said)
    places, total = _places(programs), sum(took.values())
    return [Operation(name, nanoseconds / 1e9, nanoseconds / total, times[name], where[name] or places.get(name, ""))
            for name, nanoseconds in took.most_common(most)]


def _events(data):
    """(operation, nanoseconds, where the trace says it comes from) of every operation that ran on a device."""
    for plane in data.planes:
        lines = list(plane.lines)
        own = [line for line in lines if line.name == "XLA Ops"]  # on a TPU other lines hold the same time once more
        for line in own or lines:
            for event in line.events:
                stats = dict(event.stats)
                name = str(stats.get("hlo_op") or (event.name if own else ""))
                name = name.partition(" = ")[0].lstrip("%")
                if name and not CONTROL.match(name):
                    yield name, event.duration_ns, str(stats.get("source") or stats.get("tf_op") or "")


def _places(programs: Iterable[str]) -> dict[str, str]:
    """{operation: file and line in this package, and the operation of JAX} from the text of compiled programs."""
    found: dict[str, str] = {}
    for text in programs:
        names = dict(re.findall(r'^(\d+) "([^"]*)"$', text.partition("FileNames")[2].partition("FunctionNames")[0], re.M))
        locations = {key: (names.get(file, ""), line) for key, file, line in
                     re.findall(r"^(\d+) {file_name_id=(\d+) .*?\bline=(\d+)", text, re.M)}
        frames = {key: (place, above) for key, place, above in
                  re.findall(r"^(\d+) {file_location_id=(\d+)(?: parent_frame_id=(\d+))?", text, re.M)}
        said = _said(text, lambda line, of=(frames, locations): _place(line, *of))
        found = said | found
    return found


def _said(text: str, place_of: Callable[[str], str]) -> dict[str, str]:
    """{operation: its place or, where XLA has dropped that, its kind and shape and the place of what reads its result}."""
    computation, places, readers = "", {}, {}
    kinds: dict[str, str] = {}  # {operation: its kind and shape}
    inside: dict[str, tuple[str, str]] = {}  # {computation: (place, kind and shape) of its last operation, its result}
    for line in text.splitlines():
        if begins := re.match(r"(?:ENTRY )?%(\S+) \(", line):
            computation = begins[1]
        elif one := re.match(r" +(?:ROOT )?%(\S+) = (\w+\[[\d,]*\])\S* ([\w-]+)\(([^)]*)\)", line):
            name, shape, kind, operands = one.groups()
            called = re.search(r"calls=%([\w.-]+)", line)
            of = inside.get(called[1] if called else "", ("", f"{kind} {shape}"))
            places[name], kinds[name] = place_of(line) or of[0], of[1]
            inside[computation] = places[name], kinds[name]
            for operand in re.findall(r"%([\w.-]+)", operands) if places[name] else ():
                readers.setdefault(operand, places[name])
    return {name: place or ", read by ".join(filter(None, [kinds[name], readers.get(name)]))
            for name, place in places.items()}


def _place(line: str, frames, locations) -> str:
    """Where the operation on a line comes from, "" where its metadata do not say it."""
    frame, operation = re.search(r"stack_frame_id=(\d+)", line), re.search(r'op_name="([^"]*)"', line)
    of = operation[1].rpartition("/")[2] if operation else ""
    return " ".join(filter(None, [_ours(frame and frame[1], frames, locations), f"({of})" if of else ""]))


def _ours(frame: str | None, frames, locations) -> str:
    """The innermost place in this package of a stack of frames, such as scaling/nn/layers.py:88."""
    seen: set = set()
    while frame in frames and frame not in seen:
        seen.add(frame)
        place, above = frames[frame]
        file, line = locations.get(place, ("", ""))
        if pathlib.Path(file).is_relative_to(PACKAGE):
            return f"{pathlib.Path(file).relative_to(PACKAGE.parent)}:{line}"
        frame = above
    return ""
