"""Functions that are compiled in other threads before they are called first, and functions that are traced once."""

import contextlib
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

import jax
from jax.extend import core

from scaling.devices import executables

_tracing = threading.Lock()  # tracing is Python, so several at once would only delay each other


class Compiled:
    """`jax.jit(function, **options)`, which can be compiled ahead of its first call.

    XLA compiles outside of Python's lock, so the caller goes on meanwhile, and several functions are compiled at once. The
    first call after `ahead` waits for it, and raises what it raised. Arguments of other shapes or shardings than those
    given to `ahead` are compiled when they come, as by `jax.jit`. What `ahead` compiles is kept on disk for later processes
    if `what` says all that determines the function (see `scaling.devices.executables`).
    """

    def __init__(self, function, what: str | None = None, **options):
        self.jitted = jax.jit(function, **options)
        self.what = what and f"{what} {getattr(function, 'func', function).__name__}"  # `func` is that of a partial
        self.lower = self.jitted.lower
        self._begun: list[futures.Future] = []
        self._kept: list = []  # JAX finds what is compiled as long as it is kept
        self._read: list[jax.stages.Compiled] = []  # what an earlier process compiled, each for arguments of one kind
        self._traced = threading.Event()

    def ahead(self, pool: futures.Executor, *args) -> None:
        """Traces and compiles the function for arguments like these in a thread of `pool`."""
        self._begun.append(pool.submit(self._compile, args))

    def _compile(self, args):
        name = None if self.what is None else executables.key_of_call(self.what, args)
        try:
            if read := executables.load(name):
                self._read.append(read)
                return read
            with _tracing:
                lowered = self.lower(*args)
        finally:
            self._traced.set()
        return executables.compile_and_keep(name, lowered)

    def await_trace(self) -> None:
        """Waits until a function that is compiled ahead is traced: from then on its compilation is XLA's."""
        if self._begun:
            self._traced.wait()

    def texts(self) -> list[str]:
        """What was compiled ahead, as the text of XLA. [] where nothing was, or where XLA does not give it."""
        found = []
        for compiled in [*self._read, *self._kept]:
            with contextlib.suppress(Exception):  # not every backend gives the text of a program that it read from disk
                found.append(compiled.as_text() or "")
        return found

    @property
    def ready(self) -> bool:
        """Whether a call would not wait for a compilation that is under way."""
        return all(future.done() for future in self._begun)

    def __call__(self, *args):
        while self._begun:
            self._kept.append(self._begun.pop().result())
        for read in self._read:
            with contextlib.suppress(TypeError, ValueError):  # arguments of other kinds, which it refuses unused
                return read(*args)
        return self.jitted(*args)


def traced_once(function: Callable, *args) -> tuple[Callable, Any]:
    """(`function` for arguments like these, which is not traced anew where it is called, the shapes of its results)."""
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    run, structure = core.jaxpr_as_fun(traced), jax.tree.structure(shapes)
    return lambda *args: jax.tree.unflatten(structure, run(*jax.tree.leaves(args))), shapes
