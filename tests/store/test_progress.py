"""Progress tells the rate and the time left, on a terminal and in a log file."""
import io
import re
import time
import types

from scaling.store import progress as progress_module
from scaling.store.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_on_a_terminal_is_a_bar_with_rate_and_time_left():
    out = Terminal()
    with Progress(8e12, file=out) as progress:
        for i in range(8):
            time.sleep(0.03)
            progress.update(1e12, f"run {i} loss 2.5")
        progress.print("a line of its own")
    last = [line for line in re.split(r"[\r\n]", out.getvalue()) if "%" in line][-1]
    assert "100%" in last and "FLOP/s" in last and "run 7 loss 2.5" in last
    assert re.search(r"\[\d\d:\d\d<\d\d:\d\d", last)
    assert "a line of its own\n" in out.getvalue()


def test_progress_in_a_log_file_is_a_line_every_few_seconds(monkeypatch):
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock.now)
    out = io.StringIO()
    progress = Progress(100e12, file=out)
    for _ in range(50):
        clock.now += 1
        progress.update(1e12, "wide")
    lines = out.getvalue().splitlines()
    assert len(lines) == 5
    # Half is done after 50 s: 50 s are left, at 1 TFLOP/s.
    assert all(part in lines[-1] for part in ("50%", "00:50<00:50", "1.00TFLOP/s", "wide"))
    assert "\r" not in out.getvalue()
    progress.close()


def test_work_of_earlier_processes_counts_as_done_but_not_into_the_rate(monkeypatch):
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock.now)
    out = io.StringIO()
    progress = Progress(100, unit="step", initial=80, file=out)
    clock.now = 10.0
    progress.update(10)
    assert "90%" in out.getvalue() and "00:10<00:10" in out.getvalue() and "1.00step/s" in out.getvalue()
