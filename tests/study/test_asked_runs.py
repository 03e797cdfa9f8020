"""Real processes that bracket their learning rates are killed and resumed, and end with the bits of one that was not."""

import random
import subprocess
import sys
import time

import pytest
from launcher import ROOT, results

from scaling.results import records
from scaling.store import files

RATES = ("--config.learning_rates=(2.5e-4,5e-4)", "--config.tune=1.0", "--checkpoint_seconds=0")  # far below the best


@pytest.fixture
def start(flags_of, environment):
    def launch(workdir, *more):
        command = [sys.executable, "-W", "ignore", "-m", "experiments.run", *flags_of(workdir, *RATES, *more)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)
    return launch


def finish(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err[-3000:]
    return out, err


def planned(workdir):
    return files.read_json(workdir / "study.json")["runs"]


@pytest.mark.slow
def test_asked_runs_are_the_same_after_kills_and_in_two_processes(start, tmp_path):
    whole, killed, shared = (tmp_path / name for name in ("whole", "killed", "shared"))
    _, err = finish(start(whole))
    assert "the next rate (0.001" in err and 0.001 in set(records.load_records(whole)["learning_rate"])
    rng = random.Random(time.time_ns())
    for _ in range(4):  # most of them among the asked runs
        process, done = start(killed), len(list(killed.glob("records/*")))
        wanted = max(16, done) + rng.randrange(1, 6)
        while process.poll() is None and len(list(killed.glob("records/*"))) < wanted:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        process.communicate()
    finish(start(killed))
    for process in [start(shared) for _ in range(2)]:
        finish(process)
    for workdir in (killed, shared):
        assert results(workdir) == results(whole) and planned(workdir) == planned(whole)
    before = {path: path.read_bytes() for path in [*whole.glob("records/*"), *whole.glob("forecast*")]}
    _, err = finish(start(whole))
    assert all(path.read_bytes() == content for path, content in before.items()) and "the next rate" not in err
