"""Machines that are taken away: SIGTERM asks for a checkpoint and an exit status that means "start me again"."""

import signal

RESTART = 75  # EX_TEMPFAIL of sysexits.h: launchers and schedulers may start the same command again


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
