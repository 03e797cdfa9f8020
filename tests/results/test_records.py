"""A run ends once in the records, whoever trains it, however often it is killed, and nothing finished is lost."""
import collections
import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from launcher import ROOT

from scaling.results import records
from scaling.store import files, locks


def record(fingerprint="aa", **fields):
    return {"fingerprint": fingerprint, "family": "transformer", "loss": 2.5, "flops": 1e12,
            "diverged_step": None, "versions": {"jax": "0.10.2"},
            "experiment": {"family": {"width": 64}, "optim": {"learning_rate": 0.01}, "seed": 3}, **fields}


def test_a_written_record_is_read_back(tmp_path):
    runs = records.Records(tmp_path)
    assert not runs.done("aa")
    runs.write(record(loss=float("nan"), flops=np.float64(3e15)))
    assert runs.done("aa")
    assert repr(runs.read("aa")) == repr(record(loss=float("nan"), flops=3e15))
    with pytest.raises(KeyError, match="bb"):
        runs.read("bb")


def test_a_record_is_never_overwritten(tmp_path):
    runs = records.Records(tmp_path)
    runs.write(record())
    before = (tmp_path / "records" / "aa.jsonl").stat()
    runs.write(dict(reversed(record().items())))  # the same content
    with pytest.raises(records.RecordError, match=r"aa\.jsonl.*differs in extra, loss\)"):
        runs.write(record(loss=1.0, extra=None))
    after = (tmp_path / "records" / "aa.jsonl").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert runs.read("aa") == record()


@pytest.mark.parametrize("fingerprint", ["", "../up", "a/b", ".hidden", None, 3, "a b", "a\n"])
def test_only_fingerprints_name_files(tmp_path, fingerprint):
    with pytest.raises(records.RecordError, match="fingerprint"):
        records.Records(tmp_path).write(record(fingerprint))
    with pytest.raises(records.RecordError, match="fingerprint"):
        records.Records(tmp_path).write({"loss": 1})
    assert os.listdir(tmp_path) == []


def test_the_table_is_tidy(tmp_path):
    runs = records.Records(tmp_path)
    for i in range(3):
        runs.write(record(f"run{2 - i}", loss=float(i), learning_rate=0.1 * i))
    frame = records.load_records(tmp_path)
    assert list(frame.fingerprint) == ["run0", "run1", "run2"]
    assert list(frame.loss) == [2.0, 1.0, 0.0]
    assert list(frame["family.width"]) == [64] * 3 and list(frame["optim.learning_rate"]) == [0.01] * 3
    assert list(frame["versions.jax"]) == ["0.10.2"] * 3
    assert set(frame.family) == {"transformer"} and frame.loss.dtype == np.float64
    assert not any(isinstance(v, dict) for v in frame.to_numpy().ravel())


def test_an_empty_table_has_the_columns(tmp_path):
    frame = records.load_records(tmp_path)
    assert len(frame) == 0 and len(frame[(frame.role == "sweep") & (frame.bits_per_byte < 3)]) == 0


@pytest.mark.parametrize("cut", [0, 1, 0.5, -2])
def test_a_torn_record_is_named_and_its_run_trained_again(tmp_path, cut):
    runs = records.Records(tmp_path)
    runs.write(record("whole"))
    runs.write(record("torn"))
    path = tmp_path / "records" / "torn.jsonl"
    content = path.read_bytes()
    torn = content[:int(cut * len(content)) if isinstance(cut, float) else cut]
    path.write_bytes(torn)
    with pytest.warns(UserWarning, match=r"torn\.jsonl.*trained again"):
        frame = records.load_records(tmp_path)
    assert list(frame.fingerprint) == ["whole"]
    again = records.Records(tmp_path)
    with pytest.warns(UserWarning, match=r"torn\.jsonl"):
        claim = again.claim("torn")
    again.write(record("torn", loss=1.5))
    claim.release()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert records.Records(tmp_path).read("torn")["loss"] == 1.5
        assert len(records.load_records(tmp_path)) == 2
    assert path.read_bytes().startswith(torn)  # the new record is appended


def test_a_record_before_a_torn_line_still_counts(tmp_path):
    runs = records.Records(tmp_path)
    runs.write(record())
    with open(tmp_path / "records" / "aa.jsonl", "a") as f:
        f.write('{"fingerprint": "aa", "lo')
    with pytest.warns(UserWarning, match="the line before it is used"):
        assert runs.read("aa") == record()


def test_no_damaged_file_stops_the_reading_of_others(tmp_path):
    runs = records.Records(tmp_path)
    runs.write(record("good"))
    bad = {"binary": b"\xff\xfe\x00", "list": b"[1]\n", "number": b"3", "marks": b'{"nonfinite": 3}',
           "lost": b'{"nonfinite": {"a": "nan"}, "b": 1}\n{"nonfinite": {"b": {"9": "nan"}}, "b": []}'}
    for name, content in bad.items():
        (tmp_path / "records" / f"{name}.jsonl").write_bytes(content)
    (tmp_path / "records" / "directory.jsonl").mkdir()
    (tmp_path / "records" / "notes.txt").write_text("mine")
    (tmp_path / "records" / ".left.jsonl.tmp").write_text("{")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame = records.load_records(tmp_path)
    assert "good" in set(frame.fingerprint)
    for name in (*bad, "directory"):
        assert any(f"{name}.jsonl" in str(w.message) for w in caught), name


def test_loading_a_missing_workdir_is_refused(tmp_path):
    with pytest.raises(files.WorkdirError, match="not a directory"):
        records.load_records(tmp_path / "typo")


def test_a_claim_keeps_others_out_until_released_or_done(tmp_path):
    one, two = records.Records(tmp_path), records.Records(tmp_path)
    claim = one.claim("aa")
    assert claim.held and two.claim("aa") is None and one.claim("aa") is None
    other = two.claim("bb")
    assert other.held
    claim.release()
    assert not claim.held
    again = two.claim("aa")
    two.write(record())
    again.release()
    assert one.claim("aa") is None


def test_a_claim_is_refused_when_the_run_ended_while_waiting_for_it(tmp_path, monkeypatch):
    runs, acquire = records.Records(tmp_path), locks.acquire

    def slowly(path):  # another process records the run just before this one gets the lock
        records.Records(tmp_path).write(record())
        return acquire(path)
    monkeypatch.setattr(locks, "acquire", slowly)
    assert runs.claim("aa") is None
    monkeypatch.undo()
    os.unlink(runs.path("aa"))
    assert runs.claim("aa") is not None  # the lock was released


WORKER = """
import os, sys, time
from scaling.results import records
workdir, victim = sys.argv[1:]
runs = records.Records(workdir)
log = os.open(os.path.join(workdir, "trained"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
names = [f"run{i:02}" for i in range(30)]
while not os.path.exists(os.path.join(workdir, "go")):
    time.sleep(0.001)
for name in ["run17"] if victim == "victim" else names + names:
    claim = runs.claim(name)
    if claim is None:
        continue
    os.write(log, f"{name} {os.getpid()}\\n".encode())
    time.sleep(600 if victim == "victim" else 0.005)
    runs.write({"fingerprint": name, "pid": os.getpid()})
    claim.release()
"""


def test_racing_processes_train_every_run_once_even_when_one_is_killed(tmp_path):
    """Four processes share one list of runs. A fifth gets kill -9 during its run, and another process trains that run."""
    def start(role):
        return subprocess.Popen([sys.executable, "-c", WORKER, tmp_path, role], env={**os.environ, "PYTHONPATH": str(ROOT)})

    def trained():
        path = tmp_path / "trained"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def wait_for(condition):
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, "waited for two minutes"
            time.sleep(0.01)

    (tmp_path / "go").touch()
    victim = start("victim")
    wait_for(trained)
    os.unlink(tmp_path / "go")
    workers = [start("worker") for _ in range(4)]
    try:
        (tmp_path / "go").touch()
        wait_for(lambda: len(trained()) > 5)
        assert records.Records(tmp_path).claim("run17") is None  # still the victim's
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        assert all(w.wait(timeout=120) == 0 for w in workers)
    finally:
        for process in (victim, *workers):
            process.kill()
    frame = records.load_records(tmp_path)
    assert list(frame.fingerprint) == [f"run{i:02}" for i in range(30)]
    times = collections.Counter(name for name, _ in trained())
    assert times.pop("run17") == 2 and set(times.values()) == {1}
    assert dict(map(tuple, trained()))["run17"] != str(victim.pid)
    assert all(str(frame.pid[i]) == dict(map(tuple, trained()))[frame.fingerprint[i]] for i in range(30))


def test_a_workdir_may_be_a_bucket(bucket, monkeypatch):
    monkeypatch.setattr(locks.time, "sleep", lambda seconds: None)
    runs = records.Records(files.open_workdir(bucket))
    claim = runs.claim("aa")
    assert claim.held and runs.claim("aa") is None
    runs.write(record())
    runs.write(record())
    claim.release()
    with pytest.raises(records.RecordError):
        runs.write(record(loss=0.0))
    assert runs.claim("aa") is None
    frame = records.load_records(bucket)
    assert list(frame.fingerprint) == ["aa"] and list(frame["family.width"]) == [64]


def test_versions_name_what_the_results_depend_on():
    import jax
    versions = records.versions()
    assert set(versions) == {"python", "jax", "jaxlib", "flax", "optax", "orbax", "numpy", "scaling"}
    assert versions["jax"] == jax.__version__ and versions["numpy"] == np.__version__
    assert sys.version.startswith(versions["python"])


def test_flags_of_the_compiler_are_recorded_as_they_are_in_force(monkeypatch):
    for name in records.COMPILER_FLAGS:
        monkeypatch.delenv(name, raising=False)
    assert records.compiler_flags() == {}
    monkeypatch.setenv("XLA_FLAGS", " --xla_gpu_enable_latency_hiding_scheduler=true  --a=1 ")
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "")
    assert records.compiler_flags() == {"XLA_FLAGS": "--xla_gpu_enable_latency_hiding_scheduler=true --a=1"}


def test_the_commit_says_clean_dirty_or_none(tmp_path, monkeypatch):
    def git(*args):
        return subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *args], cwd=tmp_path,
                              check=True, capture_output=True, text=True).stdout.strip()
    code = tmp_path / "records.py"
    code.write_text("x = 1\n")
    monkeypatch.setattr(records, "__file__", str(code))
    ask = records.git_commit.__wrapped__
    assert ask() is None
    git("init", "-q")
    (tmp_path / "other").write_text("")
    git("add", "other")
    git("commit", "-qm", "a")
    assert ask() is None  # a repository, but not of this code
    git("add", "records.py")
    git("commit", "-qm", "b")
    git("tag", "-am", "v1", "v1")
    assert ask() == git("rev-parse", "HEAD")
    code.write_text("x = 2\n")
    assert ask() == git("rev-parse", "HEAD") + "-dirty"
