"""The program that trains and the next one, which is compiled meanwhile."""

import contextlib
import os
import sys
import threading
from concurrent import futures

from scaling.sweeps.plan import Pack
from scaling.training.program import Program

THREADS = 4  # that trace and compile; XLA uses more of its own
LATER = 10  # their niceness
SWITCH = 5e-4  # seconds for which a thread that traces keeps Python's lock while others ask for it; Python's own are 5e-3


class Programs:
    """Makes the programs of a runner's packs. At most two are in memory: that of a pack, and one for a later pack."""

    def __init__(self, runner):
        self.runner, self.ahead = runner, runner.options.compile_ahead
        self.kept: dict[tuple, Program] = {}
        self._begun: dict[tuple, futures.Future] = {}  # {program: what gives it}; at most one
        self._checked: dict[tuple, Program] = {}  # made to see that they can be, and not compiled
        self._choosing = threading.Lock()  # held while `kept` and `_begun` change: `begin_next` has a thread of its own
        self._pool = futures.ThreadPoolExecutor(THREADS, "compile", _give_way)

    def of(self, pack: Pack) -> Program:
        """The program of a pack, whose functions may still be compiled. Raises what making it has raised."""
        with self._choosing:
            if pack.program not in self.kept:
                self.kept.clear()  # frees the compiled code and the data on the devices
                begun = self._begun.pop(pack.program, None) or self._begin(pack)
                self._begun.clear()
                self.kept[pack.program] = begun.result()
            return self.kept[pack.program]

    def ready(self, pack: Pack) -> bool:
        """Whether the training of a pack can begin without waiting for its program."""
        begun = self._begun.get(pack.program)
        if begun is not None and begun.done() and begun.exception() is None:
            return begun.result().ready
        return pack.program in self.kept and self.kept[pack.program].ready

    def check(self, pack: Pack) -> None:
        """Makes the program of a pack, which raises what is wrong with it, and compiles nothing."""
        self._checked[pack.program] = self._make(pack)

    def begin_first(self, packs: list[Pack]) -> None:
        """Begins to make and compile the program of the first of some packs, before any is trained.

        It returns when the step is traced. XLA compiles without Python's lock, so the caller's own tracing, as of what it
        counts, then delays nothing.
        """
        if self.ahead and packs and not (self.kept or self._begun):
            begun = self._begin(packs[0])
            self._begun = {packs[0].program: begun}
            with contextlib.suppress(Exception):  # which `of` raises
                begun.result().await_trace()

    def begin_next(self, packs: list[Pack]) -> None:
        """Begins to make and compile the next program of some packs, of which the first is being trained."""
        following = next((pack for pack in packs if pack.program != packs[0].program), None)
        with self._choosing:
            if self.ahead and following is not None and not {following.program} & (self.kept.keys() | self._begun.keys()):
                self._begun = {following.program: self._begin(following)}

    def stop(self) -> None:
        """Gives up what has not begun to compile, and what was made before something was measured."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._begun.clear()
        self._checked.clear()
        self._pool = futures.ThreadPoolExecutor(THREADS, "compile", _give_way)

    def _begin(self, pack: Pack) -> futures.Future:
        runner, experiment = self.runner, pack.experiment
        sets = runner.evaluation(experiment)
        evaluated = [*sets.values(), runner.validation(experiment)]
        samples = None if runner.judge(experiment) is None else (evaluated[0], experiment.data.samples)

        def make():
            program = self._checked.pop(pack.program, None) or self._make(pack)
            if self.ahead:
                program.compile(self._pool, evaluated, samples)
            return program
        return self._pool.submit(make)

    def _make(self, pack: Pack) -> Program:
        options = self.runner.options
        source = self.runner.source(pack.experiment)
        return Program(pack.experiment, source, pack.width, options.mesh, options.steps_per_call)


def _give_way():
    """Lets the threads that train and save go before this one, as far as Python and the system allow."""
    sys.setswitchinterval(min(SWITCH, sys.getswitchinterval()))
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LATER)
