"""What is left of a job when one of its processes dies: one sentence, and the exit status that means "start me again".

JAX's coordination service notices a death and calls abort() in every other process, with a page of C++ frames on
stderr; collectives and the store fail with errors of their own. Whichever comes first, this says the same.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading

RESTART = 75  # EX_TEMPFAIL of sysexits.h: launchers and schedulers may start the same command again
SENTENCE = ("another process of this job died; start the same command again in all of them, it goes on from the last "
            "checkpoint")
# of the service, of its client, and of collectives that lose a peer
MARKS = ("JAX distributed service detected fatal errors", "Polled an error from coordination service",
         "coordination_service", "Failed to retrieve preemption notice", "Socket closed", "heartbeat timeout", "Gloo ", "gloo/transport",
         "Connection closed by peer", "Connection reset by peer", "NCCL operation", "CoordinationService")

_terminal = None  # where stderr went before
_pipe = None  # what C++ says, on its way there
_handler = None  # kept alive for the C library
_told = None  # what `told` was given
_ended = threading.Lock()


def is_echo(error: BaseException) -> bool:
    """Whether an error says only that another process is gone."""
    while error is not None:
        if isinstance(error, (RuntimeError, ValueError)) and _marked(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def end() -> None:
    """Ends this process with the sentence, at once: nothing that waits for the others is run."""
    if _ended.acquire(blocking=False):
        status, sentence = _told or (RESTART, SENTENCE)
        leave(status, f"{sentence}\n")


def told(status: int, sentence: str) -> None:
    """The error that another process is about to end with: to start again would not help, so `end` is to say this."""
    global _told
    _told = status, sentence


def leave(status: int, text: str = "") -> None:
    """Ends this process without waiting for the others."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os.write(2 if _terminal is None else _terminal, text.encode())
    os._exit(status)


def watch() -> None:
    """From now on what C++ writes to stderr passes through a filter, and abort() through a handler."""
    global _terminal, _pipe, _handler
    _terminal = os.dup(2)
    _pipe, write = os.pipe()
    os.dup2(write, 2)
    os.close(write)
    sys.stderr = os.fdopen(os.dup(_terminal), "w", buffering=1, errors="backslashreplace")
    threading.Thread(target=_relay, daemon=True).start()
    # abort() runs handlers of the C library only, and in the thread that called it
    _handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(_aborted)
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(signal.SIGABRT, ctypes.cast(_handler, ctypes.c_void_p))


def _relay():
    rest = b""
    while chunk := os.read(_pipe, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            if "Polled an error" in text or "detected fatal errors" in text:
                end()
            if not _marked(text) and not text.startswith("[Gloo] Rank"):
                os.write(_terminal, line + b"\n")


def _aborted(number):
    """In the thread that aborts. What it has said may still be in the pipe: if it was of another's death, the relay ends
    this process within the second; else it has failed by itself, and abort() goes on."""
    threading.Event().wait(1)


def _marked(text: str) -> bool:
    return any(mark in text for mark in MARKS)


# ---------------------------------------------------------------------------------- preemption


class Preempted(Exception):
    """The process was asked to stop, and everything it had computed is on disk."""


_asked = False


def listen() -> None:
    """From now on SIGTERM is noted; a second one ends the process at once. In the main thread only."""
    def note(number, frame):
        global _asked
        _asked = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, note)


def asked() -> bool:
    """Whether this process was asked to stop. Work that takes long looks here between its steps."""
    return _asked
