"""A progress bar with rate and time left."""
import sys
import threading
import time

from tqdm import tqdm


class Progress:
    """A bar with rate and time left on a terminal; elsewhere a line every `every` seconds.

    `total` and all updates are in `unit`. Choose a unit that is proportional to time (FLOPs, not steps), so that the
    time left is right for models of different sizes. `initial` is the work of earlier processes; it counts as done but
    does not enter the rate. `file` is where the bar is written, stderr by default; a `silent` bar writes nothing.
    """

    def __init__(self, total, unit="FLOP", initial=0, every=10.0, file=None, silent=False):
        self._file, self._every, self._silent = file or sys.stderr, every, silent
        self._is_terminal = not silent and getattr(self._file, "isatty", lambda: False)()
        # Low smoothing, because the momentary rate jumps with compilations and small models.
        self._bar = tqdm(total=total, initial=initial, unit=unit, unit_scale=True, smoothing=0.05,
                         file=self._file, dynamic_ncols=True, disable=not self._is_terminal)
        self._n, self._initial, self._total, self._unit = initial, initial, total, unit
        self._text, self._start = "", time.monotonic()
        self._printed = self._start
        self._updating = threading.Lock()

    def update(self, amount=0, text=None) -> None:
        """Adds `amount` of finished work, from any thread. `text` (of the current run) is shown until it is replaced."""
        with self._updating:
            self._update(amount, text)

    def _update(self, amount, text):
        self._n += amount
        self._text = self._text if text is None else text
        if self._is_terminal:
            if text is not None:
                self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(amount)
            if not amount:
                self._bar.refresh()
        elif time.monotonic() - self._printed >= self._every:
            self._print()

    def extend(self, amount) -> None:
        """Adds work to the total."""
        with self._updating:
            self._total += amount
            self._bar.total = self._total

    def print(self, message) -> None:
        """Prints a line above the bar."""
        if not self._silent:
            tqdm.write(str(message), file=self._file)

    def _print(self):
        self._printed = time.monotonic()
        if self._silent:
            return
        meter = tqdm.format_meter(self._n, self._total, self._printed - self._start, ncols=0, unit=self._unit,
                                  unit_scale=True, initial=self._initial, postfix=self._text or None)
        print(meter, file=self._file, flush=True)

    def close(self) -> None:
        if self._is_terminal:
            self._bar.close()
        else:
            self._print()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()
