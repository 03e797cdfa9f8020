"""How a process ends when it is told to stop (SIGTERM), or when another process of its job dies.

Both end with the exit status that means "start me again". JAX's coordination service notices the death of a process and
calls abort() in every other process, which prints a page of C++ frames. Collectives and the key-value store fail with
errors of their own. Whichever comes first, this module prints the same sentence.
"""

import _thread
import contextlib
import ctypes
import os
import signal
import sys
import threading

RESTART = 75  # EX_TEMPFAIL of sysexits.h: launchers and schedulers may start the same command again


# ---------------------------------------------------------------------------------- preemption


class Preempted(Exception):
    """SIGTERM has arrived, and everything that the process has computed is on disk."""


_sigterm_arrived = False


def listen_for_signals() -> None:
    """From now on SIGTERM only sets `preempted`, and a second SIGTERM ends the process; and no interrupt is lost, see
    `keep_interrupts`. Call it in the main thread."""
    keep_interrupts()
    def note(number, frame):
        global _sigterm_arrived
        _sigterm_arrived = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, note)


def keep_interrupts() -> None:
    """From now on a Ctrl-C that Python raises where nobody can see it, such as in a callback of the garbage collector (JAX
    has one), is raised in the main thread a moment later. Python only prints it otherwise, and goes on."""
    before = sys.unraisablehook

    def again(found):
        if not issubclass(found.exc_type, KeyboardInterrupt):
            return before(found)
        timer = threading.Timer(0.05, _thread.interrupt_main)
        timer.daemon = True
        timer.start()
    sys.unraisablehook = again


def preempted() -> bool:
    """True once SIGTERM has arrived. Long loops poll this between steps."""
    return _sigterm_arrived


# ------------------------------------------------------------------------- death of another process

PEER_DIED = ("another process of this job died; start the same command again in all of them, it goes on from the last "
             "checkpoint")
# In the messages of the service, of its client, and of collectives that lose a peer.
MARKS = ("JAX distributed service detected fatal errors", "Polled an error from coordination service",
         "coordination_service", "Failed to retrieve preemption notice", "Socket closed", "heartbeat timeout", "Gloo ",
         "gloo/transport", "Connection closed by peer", "Connection reset by peer", "NCCL operation", "CoordinationService")

_terminal = None  # file descriptor of the original stderr
_pipe = None  # file descriptor from which `_relay` reads what C++ writes to stderr
_abort_handler = None  # keeps the handler alive for the C library
_peer_error = None  # (exit status, sentence) given to `set_peer_error`
_own_error = None  # (exit status, sentence) given to `set_own_error`
_ending = threading.Lock()


def is_peer_death(error: BaseException) -> bool:
    """Whether an error only says that another process is gone."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, (RuntimeError, ValueError)) and _is_marked(str(found)):
            return True
        found = found.__cause__ or found.__context__
    return False


def set_peer_error(status: int, sentence: str) -> None:
    """Set how `exit_once` ends this process when another process ends with an error that a restart would not mend."""
    global _peer_error
    _peer_error = status, sentence


def set_own_error(status: int, sentence: str) -> None:
    """Set how this process ends from here on, because of an error of its own, even if another process ends first."""
    global _own_error
    _own_error = status, sentence


def exit_once() -> None:
    """End this process at once, because of its own error or because another process ended. Only the first call, from
    whichever thread, has an effect."""
    if _ending.acquire(blocking=False):
        status, sentence = _own_error or _peer_error or (RESTART, PEER_DIED)
        exit_now(status, sentence and f"{sentence}\n")


def exit_now(status: int, text: str = "") -> None:
    """End this process without waiting for the others: no exit handler runs."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os.write(2 if _terminal is None else _terminal, text.encode())
    os._exit(status)


def watch_for_peer_deaths() -> None:
    """From now on what C++ writes to stderr passes through a filter, and abort() passes through a handler."""
    global _terminal, _pipe, _abort_handler
    _terminal = os.dup(2)
    _pipe, write = os.pipe()
    os.dup2(write, 2)
    os.close(write)
    sys.stderr = os.fdopen(os.dup(_terminal), "w", buffering=1, errors="backslashreplace")
    threading.Thread(target=_relay, daemon=True).start()
    # abort() runs handlers of the C library only, and runs them in the thread that called it.
    _abort_handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(_aborted)
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(signal.SIGABRT, ctypes.cast(_abort_handler, ctypes.c_void_p))


def _relay():
    """Copy lines from the pipe to the terminal, except those about the death of another process, which end this one."""
    rest = b""
    while chunk := os.read(_pipe, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            if "Polled an error" in text or "detected fatal errors" in text:
                exit_once()
            if not _is_marked(text) and not text.startswith("[Gloo] Rank"):
                os.write(_terminal, line + b"\n")


def _aborted(number):
    """Runs in the thread that calls abort(). Its last message may still be in the pipe. If the message is about another
    process, `_relay` ends this process within the second. Otherwise this process has failed itself and abort() goes on."""
    threading.Event().wait(1)


def _is_marked(text: str) -> bool:
    return any(mark in text for mark in MARKS)
