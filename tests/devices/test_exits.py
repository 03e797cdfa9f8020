"""An interrupt ends a process wherever it arrives."""

import subprocess
import sys

CODE = """
import gc, signal, time
from scaling.devices import exits
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs tests in the background has it ignored
exits.listen_for_signals()
def interrupt(phase, info):
    gc.callbacks.remove(interrupt)
    signal.raise_signal(signal.SIGINT)
gc.callbacks.append(interrupt)
try:
    gc.collect()
    time.sleep(5)
except KeyboardInterrupt:
    print("seen")
"""


def test_an_interrupt_within_the_garbage_collector_is_not_lost():
    ran = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("seen\n", "", 0)
