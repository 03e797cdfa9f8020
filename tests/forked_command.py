"""A command of experiments/ called many times: one Python imports it once and forks for every call."""
import contextlib
import dataclasses
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
SERVER = """
import gc, json, os, sys, traceback
{before}
from experiments import _points, {name} as command

def status():
    try:
        _points.run(command.main)
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            return left.code or 0
        print(left.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    return 1

gc.freeze()
for line in sys.stdin:
    arguments, folder = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(folder)
        for number, name in ((1, ".out"), (2, ".err")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = ["{name}", *arguments]
        code = status()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # at once, since taking down a Python with so many modules takes as long as a call
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclasses.dataclass(frozen=True)
class Ran:
    """A finished call: exit status, standard output, standard error."""
    code: int
    out: str
    err: str


@contextlib.contextmanager
def forked(name: str, before: str = ""):
    """call(arguments, folder) -> Ran, for the command experiments/<name>.py; `before` is code to run first.

    Each call runs in `folder`, where .out and .err hold its output.
    """
    code = SERVER.format(name=name, before=before)
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:
        def call(arguments, folder: pathlib.Path) -> Ran:
            process.stdin.write(json.dumps([arguments, str(folder)]) + "\n")
            process.stdin.flush()
            code = int(process.stdout.readline())
            return Ran(code, (folder / ".out").read_text(), (folder / ".err").read_text())
        yield call
        process.stdin.close()
