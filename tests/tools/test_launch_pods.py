"""tools.launch on TPU slices: when a run starts again, when it ends, and what is left of the slice."""

import os
import signal
import subprocess
import sys
import time

import pytest
from boxed_flags import Box
from clouds import HOSTILE, TPU

with Box():
    from tools.launch import common, remote

GCLOUD = """
state = here / "state"
if "describe" in argv:
    sys.exit(1) if not state.exists() else print(state.read_text(), end="")
elif "create" in argv:
    if state.exists():
        sys.exit("already exists")
    state.write_text("ACTIVE")
elif "delete" in argv:
    state.unlink()
elif "ssh" in argv:
    script = next(a for a in argv if a.startswith("--command=")).partition("=")[2]
    everyone = [subprocess.Popen(["bash", "-c", " ".join(script.split(" "))],
                                 env=os.environ | {"HOME": str(here / f"home{w}"), "WORKER": str(w)})
                for w in range(1 + max(map(int, json.loads((here / "statuses").read_text()))))]
    statuses = [p.wait() for p in everyone]
    taken = here / "preempted"
    if taken.exists() and "setsid" in script:
        state.write_text(taken.read_text())
        taken.unlink()
    sys.exit(next(filter(None, statuses), 0))
"""


def test_a_pod_starts_again_when_one_worker_asks_and_ends_when_all_are_done(cloud):
    """Worker 0 fails because worker 2 was told to stop, and gcloud reports the status of worker 0 only."""
    cloud.fake("gcloud", GCLOUD)
    cloud.due({"0": [1], "2": [common.RESTART], "3": [143]})
    done = cloud.launch(*TPU, "--steps=create,run,delete", "--poll_seconds=0", "--",
                        *cloud.command(*HOSTILE), SCALING_DATA_DIR="gs://it's $(data)")
    assert done.returncode == 0, done.stderr
    for worker in range(4):
        assert cloud.ran(worker) == [[HOSTILE, "gs://it's $(data)"]] * 2
    verbs = [next(v for v in ("describe", "create", "ssh", "delete") if v in call) for call in cloud.calls()]
    assert [v for v in verbs if v != "describe"] == ["create", "ssh", "ssh", "delete"]
    assert not list(cloud.path.rglob("pwned"))
    assert "launch: exit 75 on" in (cloud.path / "home2/launch/scaling/log").read_text() + done.stdout


@pytest.mark.parametrize("state", ["SUSPENDED", "PREEMPTED"])
def test_a_preempted_slice_is_made_again(cloud, state):
    cloud.fake("gcloud", GCLOUD)
    cloud.due({"0": [1]})
    (cloud.path / "preempted").write_text(state)
    done = cloud.launch(*TPU, "--steps=create,run", "--poll_seconds=0", "--", *cloud.command())
    assert done.returncode == 0, done.stderr
    assert len(cloud.calls(of="create")) == 2 and len(cloud.calls(of="delete")) == 1 and len(cloud.ran()) == 2


def test_a_failed_command_ends_the_launch_and_leaves_the_slice(cloud):
    cloud.fake("gcloud", GCLOUD)
    cloud.due({"1": [3]})
    done = cloud.launch(*TPU, "--steps=create,run,delete", "--poll_seconds=0", "--", *cloud.command())
    assert done.returncode == 3 and len(cloud.ran()) == 1 and not cloud.calls(of="delete")
    assert "costs money" in done.stderr


def test_restarts_are_bounded(cloud):
    cloud.fake("gcloud", GCLOUD)
    cloud.due({"0": [common.RESTART] * 9})
    done = cloud.launch(*TPU, "--steps=create,run", "--poll_seconds=0", "--max_restarts=2", "--",
                        *cloud.command())
    assert done.returncode == common.RESTART and len(cloud.ran()) == 3


def test_a_run_left_by_a_lost_connection_saves_before_the_next_one_starts(cloud):
    """The first run writes a file when it gets SIGTERM, as a run saves; the second run reads that file."""
    leftover = ("import pathlib, signal, sys, time\nsaved = pathlib.Path('saved')\n"
                "def save(*_): time.sleep(0.2); saved.write_text('x'); sys.exit(75)\n"
                "signal.signal(signal.SIGTERM, save)\npathlib.Path('up').touch()\ntime.sleep(30)\n")
    environment = {"PATH": os.environ["PATH"], "HOME": str(cloud.path)}
    first = subprocess.Popen(["bash", "-c", remote.run("a", [sys.executable, "-S", "-c", leftover])],
                             env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    src = cloud.path / "launch/a/src"
    while not (src / "up").exists():
        time.sleep(0.02)
    first.stdout.close()  # the connection is gone, but the run goes on
    second = subprocess.run(["bash", "-c", remote.run("a", ["cat", "saved"])], env=environment,
                            capture_output=True, text=True, timeout=20)
    assert second.returncode == 0 and second.stdout.startswith("x"), second
    assert first.wait(10) in (common.RESTART, 128 + signal.SIGPIPE, -signal.SIGPIPE)
