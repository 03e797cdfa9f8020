"""Console commands as a user types them: one Python imports the libraries once and forks for every command."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

from forked_command import ROOT, Ran

PATIENCE = 120  # seconds until a server must have started
SERVER = """
import gc, json, os, runpy, sys, traceback
import jax, optax, orbax.checkpoint, pandas, scipy.optimize, scipy.stats, matplotlib.pyplot, jinja2, starlette, uvicorn
import scaling
from scaling import claims, data, exchange, experiment, families, laws, report
from scaling.study import study
from experiments import __main__ as script
families.all()

def become(_, words):  # in place of a new Python
    sys.argv = words[2:]
    runpy.run_module(words[2], run_name="__main__", alter_sys=True)

def status(words):
    os.execv = become
    try:
        script.main(words)
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            return left.code or 0
        print(left.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

gc.freeze()
for line in sys.stdin:
    asked = json.loads(line)
    if "wait" in asked:
        print(os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1]), flush=True)
        continue
    child = os.fork()
    if not child:
        os.chdir(asked["folder"])
        sys.path[:0] = [asked["folder"]]
        for number, name in ((1, ".out"), (2, ".err")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        code = status(asked["words"])
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(child, flush=True)
"""


class Driver:
    """Runs `scaling ...` in a folder; .out and .err there hold the output of the last command."""

    def __init__(self, process, folder: pathlib.Path):
        self._process, self._folder = process, folder

    def _ask(self, **asked) -> int:
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def _begin(self, words) -> int:
        for name in (".out", ".err"):
            (self._folder / name).unlink(missing_ok=True)
        return self._ask(words=words, folder=str(self._folder))

    def _said(self, code: int) -> Ran:
        paths = (self._folder / name for name in (".out", ".err"))
        return Ran(code, *(path.read_text() if path.exists() else "" for path in paths))

    def __call__(self, *words: str) -> Ran:
        """`scaling WORDS`, until it ends."""
        return self._said(self._ask(wait=self._begin(words)))

    @contextlib.contextmanager
    def serving(self, *words: str, says: str):
        """A command that serves until SIGTERM, which it gets at the end: the rest of the line in which it `says` something,
        and a list that then holds its Ran."""
        child, ended, until = self._begin(words), [], time.monotonic() + PATIENCE
        try:
            while not (found := re.search(rf"{says}(.*)\n", self._said(0).out)):
                if time.monotonic() > until:
                    raise TimeoutError(str(self._said(0)))
                time.sleep(0.02)
            yield found[1], ended
        finally:
            os.kill(child, signal.SIGTERM)
            ended.append(self._said(self._ask(wait=child)))


@contextlib.contextmanager
def driven(folder: pathlib.Path):
    """A Driver in `folder`."""
    one_device = os.environ | {"XLA_FLAGS": os.environ.get("SCALING_TEST_FLAGS", ""), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", SERVER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True, env=one_device) as process:
        yield Driver(process, folder)
        process.stdin.close()
