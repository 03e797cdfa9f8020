"""Fixtures of the tests of tools/."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import pytest
from clouds import Cloud

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # tools/ is run from a checkout and not installed

# Both checkpoint tools run in one Python of their own, since other commands define flags of the same names.
SERVER = """
import contextlib, io, json, sys
from absl import flags
from absl.testing import flagsaver
from tools import _checkpoints, average_checkpoints, inspect_checkpoint
for line in sys.stdin:
    tool, *arguments = json.loads(line)
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), flagsaver.flagsaver():
        try:
            main = {"inspect": inspect_checkpoint, "average": average_checkpoints}[tool].main
            _checkpoints._run(main, _checkpoints._parse([tool, *arguments]))
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def command():
    """command("inspect", "--checkpoint=...") -> (exit status, standard output, standard error)."""
    with subprocess.Popen([sys.executable, "-c", SERVER], cwd=ROOT, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        def call(*arguments):
            process.stdin.write(json.dumps([str(argument) for argument in arguments]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())
        yield call
        process.stdin.close()


@pytest.fixture(scope="module")
def ladder():
    """Transformers that differ in width."""
    from checkpoint_tools import TINY
    return [dataclasses.replace(TINY, width=width, heads=2, kv_heads=None, head_dim=None, mlp=None)
            for width in (8, 16, 32)]


@pytest.fixture
def cloud(tmp_path):
    return Cloud(tmp_path)
