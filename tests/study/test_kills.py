"""A study is killed again and again while others get in its way; in the end it has the bits of an uninterrupted one.

KILLS=60 kills it more often. SEED repeats a sequence of kills.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from launcher import ROOT, results

KILLS = int(os.environ.get("KILLS", 30))
SEED = int(os.environ.get("SEED", time.time_ns() % 2**32))
SERVER = """
import json, os, runpy, sys
from scaling.study import study  # imports most modules once, for all the processes
for line in sys.stdin:
    what, *rest = json.loads(line)
    if what == "start":
        flags, said = rest
        found = os.fork()
        if not found:
            for stream in (1, 2):
                os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
            sys.argv = ["run", *flags]
            runpy.run_module("experiments.run", run_name="__main__", alter_sys=True)
            sys.exit()
    else:
        done, status = os.waitpid(rest[0], os.WNOHANG)
        found = os.waitstatus_to_exitcode(status) if done else None
    print(json.dumps(found), flush=True)
"""


class Started:
    """A process of the server: `wait` gives its exit status, None after `timeout` seconds; `said` is what it printed."""

    def __init__(self, ask, flags, said):
        self.ask, self.path, self.code = ask, said, None
        self.pid = ask("start", flags, str(said))

    def wait(self, timeout=900.0):
        stop = time.monotonic() + timeout
        while self.code is None and time.monotonic() < stop:
            self.code = self.ask("poll", self.pid)
            if self.code is None:
                time.sleep(0.02)
        return self.code

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    @property
    def said(self):
        return self.path.read_text()


@pytest.fixture
def start(corpus, environment, tmp_path):
    texts = shutil.copytree(corpus, tmp_path / "texts")
    always = [f"--config={ROOT}/tests/tiny_study.py", f"--config.data.name=text:{texts}/*.txt", "--checkpoint_seconds=0",
              "--config.tokens=(2560,5120,7680)", "--config.learning_rates=(4e-3,)", "--config.target_tokens=20480"]
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", SERVER], cwd=ROOT, env=environment, text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        def ask(*what):
            server.stdin.write(json.dumps(what) + "\n")
            server.stdin.flush()
            return json.loads(server.stdout.readline())
        count = iter(range(10**6))
        yield lambda workdir, *more: Started(
            ask, [*always, f"--workdir={workdir}", *more], tmp_path / f"said-{next(count)}")
        server.stdin.close()


def kept(workdir):
    """The bytes of what no start may change."""
    return {path: path.read_bytes() for path in [*workdir.glob("records/*"), *workdir.glob("forecast.json")]}


def refused(process, says):
    assert process.wait() == 1 and says in process.said and "Traceback" not in process.said, process.said[-3000:]


def disturb(turn, start, workdir, texts):
    """Starts what must be refused: another study, an edited config or an edited corpus, which is restored."""
    before = kept(workdir)
    if turn % 3 == 0:
        refused(start(workdir, "--config.optim.weight_decay=0.05", "--config.title=Another study"),
                "belongs to another study: optim.weight_decay 0.1 -> 0.05")
    elif turn % 3 == 1:
        refused(start(workdir, "--config.optim.warmup=5"), "belongs to another study: optim.warmup 4 -> 5")
    else:
        path = texts / f"{turn:02}.txt"
        whole = path.read_bytes()
        path.write_bytes(whole + b"a line that was not there\n")
        try:
            refused(start(workdir), "the data of the study in")
        finally:
            path.write_bytes(whole)
    assert {path: content for path, content in kept(workdir).items() if path in before} == before


def written(workdir):
    """The files and folders that training has left so far."""
    return len([*workdir.glob("*"), *workdir.glob("*/*"), *workdir.glob("checkpoints/*/*/*")])


def let_go_on(process, workdir, rng):
    """Waits for a random part of a study, in files that it writes, or for its end. Returns its exit status, or None."""
    seen = written(workdir)
    wanted = rng.choice((0, 1, 2, 4, 8, 16, 32))
    while process.wait(0.05) is None and abs(written(workdir) - seen) < wanted:
        pass
    return process.wait(rng.uniform(0, 1))


@pytest.mark.slow
def test_a_study_that_is_killed_while_others_get_in_its_way_equals_an_uninterrupted_one(start, tmp_path):
    rng, texts, whole = random.Random(SEED), tmp_path / "texts", tmp_path / "whole"
    uninterrupted = start(whole)
    while not (whole / "study.json").exists() and uninterrupted.wait(0.1) is None:
        pass  # its data are read; now others may be edited
    kills, rounds, refusals = 0, 0, 0
    while kills < KILLS:
        workdir, rounds, code = tmp_path / f"killed-{rounds}", rounds + 1, None
        while code != 0:
            process = start(workdir)
            code = let_go_on(process, workdir, rng) if kills < KILLS else process.wait()
            begun = (workdir / "study.json").exists()
            if code is None:
                if begun and kills % 4 == 3:  # while the study is being trained
                    disturb(refusals, start, workdir, texts)
                    refusals += 1
                code = process.kill()
                kills += code == -signal.SIGKILL
            print(f"{kills} kills, {refusals} refusals, {len(list(workdir.glob('records/*')))} records", flush=True)
            assert code in (0, -signal.SIGKILL) and "Traceback" not in process.said, (SEED, process.said[-3000:])
            if code and begun and kills % 4 == 1:  # between two starts
                disturb(refusals, start, workdir, texts)
                refusals += 1
        assert uninterrupted.wait() == 0, uninterrupted.said[-3000:]
        assert results(workdir) == results(whole), SEED
        for path in (whole / "curves").iterdir():
            assert (workdir / "curves" / path.name).read_text() == path.read_text(), (SEED, path.name)
        assert (workdir / "report" / "index.html").exists() and (workdir / "forecast_check.json").exists()
    print(f"{kills} kills in {rounds} studies, {refusals} refusals, seed {SEED}")
