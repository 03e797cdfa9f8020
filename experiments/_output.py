"""Standard output whose reader may leave early, as `head` does."""

import os
import sys
from typing import TextIO


class ClosablePipe:
    """A text stream that goes silent, without an error, once nobody reads it."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._silence()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._silence()

    def _silence(self) -> None:
        """Points the file at nothing, since Python flushes what is left at its end."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


def survive_closed_pipes() -> None:
    """From here on a command goes on when the reader of its standard output has left."""
    sys.stdout = ClosablePipe(sys.stdout)
