"""docs/colab.md: its Python runs; its mirror in Drive takes what is new, drops what was pruned, restores nothing old."""

import contextlib
import io
import json
import pathlib
import re
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
from matplotlib import pyplot

from scaling.results import records

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "colab.md").read_text()
PYTHON, BASH = (re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
                for language in ("python", "bash"))


@pytest.fixture
def workdir(tmp_path):
    """A workdir whose runs follow a planted law."""
    found, rng = tmp_path / "quickstart", np.random.default_rng(0)
    (found / "report").mkdir(parents=True)
    (found / "report" / "index.html").write_text("<p>a report</p>")
    (found / "study.json").write_text(json.dumps({"metric": "bits_per_byte", "unit": "tokens", "law": "chinchilla"}))
    for n in (5e3, 2e4, 7e4, 3e5):
        for d in (4e4, 8e4, 1.6e5, 3.2e5):
            bits = (1.1 + 14 * n**-0.33 + 160 * d**-0.38) * (1 + 0.003 * rng.standard_normal())
            records.Records(found).write({
                "fingerprint": f"{int(n):08x}{int(d):08x}", "role": "sweep", "family": "transformer",
                "params_non_embedding": int(n), "tokens_seen": int(d), "tokens_unique": int(d), "flops": 6 * n * d,
                "learning_rate": 1e-2, "seed": 0,
                "bits_per_byte": float(bits), "loss": float(bits), "diverged": False})
    return found


def test_the_python_of_the_page_runs(workdir, monkeypatch):
    shown, mounted = [], []
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(
        drive=types.SimpleNamespace(mount=mounted.append)))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(
        HTML=lambda filename: pathlib.Path(filename).read_text(), display=shown.append))
    namespace, said = {}, io.StringIO()
    with contextlib.redirect_stdout(said):
        for code in PYTHON:
            exec(code.replace("/content/runs/quickstart", str(workdir)), namespace)
    pyplot.close("all")  # other tests of this process expect none
    assert mounted == ["/content/drive"] and shown == ["<p>a report</p>"]
    assert len(namespace["runs"]) == 16 and "alpha" in said.getvalue()


def test_no_command_needs_an_address_that_a_reader_fills_in():
    assert not re.search(r"<[a-z ]+>", "".join(BASH))


# ------------------------------------------------------------------------------------------------ Drive


class Runtime:
    """A runtime of Colab in a folder, with a Drive that may outlive it."""

    def __init__(self, folder, drive):
        self.content = folder
        folder.mkdir()
        (folder / "drive").symlink_to(drive)
        [cell] = [code for code in BASH if code.startswith("%%bash")]
        once = cell.removeprefix("%%bash\n").replace("while sleep 120; do", "for once in 1; do")
        self.script = once.replace("/content", str(folder))

    def run(self):
        """Runs the cell, and its loop once; returns what it says."""
        done = subprocess.run(["bash", "-c", self.script + "wait"], capture_output=True, text=True)
        self.said, self.log = done.stdout + done.stderr, self.content / "kept.log"
        return done.returncode

    def write(self, path, text):
        file = self.content / "runs" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def files(self, place="runs"):
        root = self.content / place
        return {file.relative_to(root).as_posix(): file.read_text() for file in root.rglob("*") if file.is_file()}


@pytest.fixture
def runtimes(tmp_path):
    """A function that starts a new runtime with the same Drive."""
    if shutil.which("rsync") is None or shutil.which("flock") is None:
        pytest.skip("the mirror needs rsync and flock, which Colab has")
    (tmp_path / "drive" / "MyDrive").mkdir(parents=True)
    numbers = iter(range(9))
    return lambda: Runtime(tmp_path / f"content{next(numbers)}", tmp_path / "drive")


KEPT = "drive/MyDrive/scaling"


def test_a_new_runtime_goes_on_with_what_the_last_one_left(runtimes):
    first = runtimes()
    first.write("quickstart/records/a.jsonl", "one")
    first.write("quickstart/.half.tmp", "half of a file")
    assert first.run() == 0, first.said
    second = runtimes()
    second.write("other/records/b.jsonl", "two")
    assert second.run() == 0, second.said
    assert second.files() == {"quickstart/records/a.jsonl": "one", "other/records/b.jsonl": "two"} == second.files(KEPT)
    assert second.log.read_text() == ""


def test_pruned_checkpoints_go_and_stale_files_do_not_come_back(runtimes):
    runtime = runtimes()
    runtime.write("quickstart/checkpoints/100/state", "old")
    runtime.write("quickstart/study.json", "first")
    assert runtime.run() == 0
    shutil.rmtree(runtime.content / "runs" / "quickstart" / "checkpoints" / "100")
    runtime.write("quickstart/checkpoints/200/state", "new")
    runtime.write("quickstart/study.json", "second, and longer")
    wanted = {"quickstart/checkpoints/200/state": "new", "quickstart/study.json": "second, and longer"}
    assert runtime.run() == 0, runtime.said
    assert runtime.files() == wanted == runtime.files(KEPT)
    later = runtimes()
    assert later.run() == 0 and later.files() == wanted


def test_studies_that_this_runtime_does_not_have_stay_in_drive(runtimes):
    first = runtimes()
    first.write("quickstart/study.json", "first")
    assert first.run() == 0
    second = runtimes()
    second.write("quickstart/study.json", "begun before Drive was mounted")
    assert second.run() == 1 and "rename one" in second.said
    assert second.files(KEPT) == {"quickstart/study.json": "first"}


def test_a_second_mirror_does_not_start(runtimes):
    runtime = runtimes()
    (runtime.content / "kept.lock").touch()
    with subprocess.Popen(["flock", str(runtime.content / "kept.lock"), "cat"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as holder:
        holder.stdin.write(b"held\n")
        holder.stdin.flush()
        holder.stdout.readline()  # it has the lock now
        assert runtime.run() == 0 and "runs already" in runtime.said
        holder.stdin.close()
