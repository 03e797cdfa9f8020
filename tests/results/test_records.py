"""A run ends once in the records, whoever trains it, however often it is killed, and nothing finished is
lost.
"""
import collections
import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.results import records
from scaling.store import files, locks


def record(fingerprint="aa", **fields):
    return {"fingerprint": fingerprint, "family": "transformer", "loss": 2.5, "flops": 1e12,
            "diverged_step": None, "versions": {"jax": "0.10.2"},
            "experiment": {"family": {"width": 64}, "optim": {"learning_rate": 0.01}, "seed": 3}, **fields}


def environment():
    root = str(pathlib.Path(records.__file__).parents[2])
    return {**os.environ, "PYTHONPATH": root + os.pathsep + os.environ.get("PYTHONPATH", "")}


# Files and JSON

numbers = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-2**53, 2**53)
keys = st.text(max_size=5).filter(lambda k: k != "nonfinite")
values = st.recursive(numbers | st.booleans() | st.none() | st.text(max_size=8),
                      lambda v: st.lists(v, max_size=3) | st.dictionaries(keys, v, max_size=3), max_leaves=12)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(keys, values, max_size=4))
def test_json_is_strict_and_keeps_every_value(obj):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")
    text = files.dumps(obj)
    json.loads(text, parse_constant=refuse)
    assert "\n" not in text
    assert repr(files.loads(text)) == repr(obj)  # repr: NaN is not equal to itself


def test_numpy_and_jax_values_become_plain_ones():
    obj = {"i": np.int64(3), "f": np.float32(0.1), "b": np.bool_(True), "a": np.arange(3),
           "j": jnp.float32(np.inf), "h": jnp.bfloat16(1.5), "n": np.array([1.0, np.nan]),
           "p": pathlib.Path("x"), "t": (1, 2)}
    back = files.loads(files.dumps(obj))
    assert repr(back) == repr({"i": 3, "f": float(np.float32(0.1)), "b": True, "a": [0, 1, 2],
                               "j": float("inf"), "h": 1.5, "n": [1.0, float("nan")], "p": "x", "t": [1, 2]})


def test_what_has_no_json_form_is_named():
    with pytest.raises(TypeError, match=r"object at optim\.schedule\.1"):
        files.dumps({"optim": {"schedule": [1, object()]}})
    with pytest.raises(ValueError, match="nonfinite"):
        files.dumps({"nonfinite": 1})
    with pytest.raises(ValueError, match="dict"):
        files.dumps([float("nan")])


def test_a_file_that_is_no_json_is_named(tmp_path):
    (tmp_path / "fit.json").write_text('{"a": 1')
    with pytest.raises(ValueError, match=r"fit\.json"):
        files.read_json(tmp_path / "fit.json")


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_json(path, {"x": 1})

    def fail(*args):
        raise OSError(5, "Input/output error")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        files.write_json(path, {"x": 2})
    assert files.read_json(path) == {"x": 1}
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_of_exclusive_writers_one_succeeds(tmp_path, monkeypatch, links):
    if not links:
        def link(*args):
            raise PermissionError(1, "Operation not permitted")  # what FAT says
        monkeypatch.setattr(os, "link", link)
    files.atomic_write(tmp_path / "x", "first", exclusive=True)
    with pytest.raises(FileExistsError):
        files.atomic_write(tmp_path / "x", "second", exclusive=True)
    assert (tmp_path / "x").read_text() == "first"
    files.atomic_write(tmp_path / "x", "third")
    assert (tmp_path / "x").read_text() == "third"


# Workdirs

def test_a_workdir_is_made_with_its_parents(tmp_path):
    path = files.open_workdir(tmp_path / "a" / "b")
    assert path.is_dir() and os.listdir(path) == []
    assert files.open_workdir(path) == path


def test_a_workdir_that_is_a_file_or_in_one_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(files.WorkdirError, match=f"{re.escape(str(path))}.*name a directory"):
            files.open_workdir(path)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_workdir_that_cannot_be_written_is_refused(tmp_path):
    """/proc refuses root as well."""
    with pytest.raises(files.WorkdirError, match="/proc/sweep.*cannot be written.*choose another"):
        files.open_workdir("/proc/sweep")


def test_loading_from_nowhere_is_refused(tmp_path):
    with pytest.raises(files.WorkdirError, match="not a directory"):
        records.load_records(tmp_path / "typo")


FULL = """
import os, sys
from scaling.results import logs, records
from scaling.store import files
room = files.open_workdir(sys.argv[1])
runs = records.Records(room)
runs.write({"fingerprint": "before", "loss": 1.0})
log = logs.Logger(room, "curve")
log.write(0, {"loss": 1.0})
with open(room / "other", "wb", buffering=0) as f:  # somebody else fills the disk
    try:
        while True:
            f.write(b"x" * 512)
    except OSError:
        pass
def attempt(what, f):
    try:
        f()
        print(what, "no error")
    except files.DiskFull as error:
        print(what, "said:", error)
attempt("record", lambda: runs.write({"fingerprint": "after", "loss": 1.0, "note": "x" * 5000}))
attempt("log", lambda: [log.write(i, {"loss": 1.0}) for i in range(1, 1000)])
attempt("json", lambda: files.write_json(room / "fit.json", list(range(5000))))
attempt("workdir", lambda: files.open_workdir(room))
os.unlink(room / "other")
assert runs.done("before") and not runs.done("after")
assert not [n for _, _, names in os.walk(room) for n in names if "tmp" in n]
runs.write({"fingerprint": "after", "loss": 1.0})
resumed = logs.Logger(room, "curve", resume_step=1)
resumed.write(1, {"loss": 2.0})
resumed.close()
assert [p["loss"] for p in logs.read_curve(room / "curves" / "curve.jsonl")] == [1.0, 2.0]
assert list(records.load_records(room).fingerprint) == ["after", "before"]
print("kept")
"""


def test_a_full_disk_is_one_clear_sentence_and_nothing_is_lost(tmp_path):
    """On a real file system of 64 kB, where the system allows mounting one."""
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", tmp_path],
                      capture_output=True).returncode:
        pytest.skip("cannot mount a small file system here")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=64k none "$1" && exec "$2" -c "$3" "$1"', "sh",
         tmp_path, sys.executable, FULL], capture_output=True, text=True, timeout=60, env=environment())
    assert done.returncode == 0, done.stderr
    *said, kept = done.stdout.splitlines()
    assert [line.split()[0] for line in said] == ["record", "log", "json", "workdir"]
    for line in said:
        assert "said:" in line and "no space left to write" in line and "run the same command again" in line
    assert kept == "kept"


# Records

def test_what_is_written_is_read(tmp_path):
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


def test_the_frame_is_tidy(tmp_path):
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


def test_a_frame_of_nothing_has_the_columns(tmp_path):
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
    assert path.read_bytes().startswith(torn)  # appended to, not replaced


def test_a_record_before_a_torn_line_still_counts(tmp_path):
    runs = records.Records(tmp_path)
    runs.write(record())
    with open(tmp_path / "records" / "aa.jsonl", "a") as f:
        f.write('{"fingerprint": "aa", "lo')
    with pytest.warns(UserWarning, match="the line before it is used"):
        assert runs.read("aa") == record()


def test_no_single_file_stops_reading(tmp_path):
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


# Claims

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

    def slowly(path):  # another process trains and records the run just before the lock is had
        records.Records(tmp_path).write(record())
        return acquire(path)
    monkeypatch.setattr(locks, "acquire", slowly)
    assert runs.claim("aa") is None
    monkeypatch.undo()
    os.unlink(runs.path("aa"))
    assert runs.claim("aa") is not None  # the lock was given back


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
    """Four processes over one list of runs; a fifth is killed -9 in its run, which another picks up."""
    def start(role):
        return subprocess.Popen([sys.executable, "-c", WORKER, tmp_path, role], env=environment())

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


class Clock:
    now = 1000.0

    def time(self):
        return self.now

    def sleep(self, seconds):
        pass


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(locks, "time", clock)
    return clock


def test_a_lease_lasts_while_renewed_and_is_taken_over_when_not(tmp_path, clock):
    path = epath.Path(tmp_path / "aa.lease")
    one = locks.Lease.acquire(path, expiry=300)
    clock.now += 200
    assert locks.Lease.acquire(path, expiry=300) is None
    one.renew()
    clock.now += 200
    assert one.held and locks.Lease.acquire(path, expiry=300) is None
    clock.now += 200  # its owner has died, or cannot reach the store
    assert not one.held
    two = locks.Lease.acquire(path, expiry=300)
    assert two.held
    one.renew()       # it was only slow: it must see that the run is no longer its own
    assert not one.held and two.held
    one.release()
    assert locks.Lease.acquire(path, expiry=300) is None
    two.release()
    assert not path.exists()


def test_a_lease_written_over_in_the_race_is_lost(tmp_path, monkeypatch):
    path = epath.Path(tmp_path / "aa.lease")

    def another(seconds):  # both saw no lease; the other's write came second
        files.write_json(path, {"owner": "other", "time": time.time()})
    monkeypatch.setattr(locks.time, "sleep", another)
    assert locks.Lease.acquire(path) is None
    assert files.read_json(path)["owner"] == "other"


def test_a_file_system_without_flock_gets_a_lease(tmp_path, monkeypatch, clock):
    def flock(*args):
        raise OSError(38, "Function not implemented")
    monkeypatch.setattr(locks.fcntl, "flock", flock)
    runs = records.Records(tmp_path)
    claim = runs.claim("aa")
    assert isinstance(claim, locks.Lease) and runs.claim("aa") is None
    claim.release()
    assert runs.claim("aa") is not None


# Object stores

@pytest.fixture
def bucket(monkeypatch):
    """gs:// served from memory, through the fsspec backend that epath uses where there is no TensorFlow."""
    if importlib.util.find_spec("tensorflow"):
        pytest.skip("epath takes gs:// through TensorFlow here")
    from etils.epath import backend
    from fsspec.implementations.memory import MemoryFileSystem

    class Bucket(MemoryFileSystem):
        protocol, root_marker, cachable = "gs", "", False
        store, pseudo_dirs = {}, [""]

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(os.fspath(path).removeprefix("gs://"))
    bucket = Bucket()
    monkeypatch.setattr(backend._FileSystemSpecBackend, "fs", lambda self, path: bucket)
    return "gs://bucket/sweep"


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


def test_threads_racing_for_a_lease_end_with_one_owner(bucket):
    path, got = epath.Path(bucket) / "locks" / "aa.lease", []

    def race():
        got.append(locks.Lease.acquire(path, settle=0.5))
    racers = [threading.Thread(target=race) for _ in range(8)]
    for r in racers:
        r.start()
    for r in racers:
        r.join()
    owners = [lease for lease in got if lease is not None]
    assert len(owners) == 1 and owners[0].held
    owners[0].release()


# Provenance

def test_versions_name_what_the_results_depend_on():
    import jax
    versions = records.versions()
    assert set(versions) == {"python", "jax", "jaxlib", "flax", "optax", "orbax", "numpy", "scaling"}
    assert versions["jax"] == jax.__version__ and versions["numpy"] == np.__version__
    assert sys.version.startswith(versions["python"])


def test_the_commit_tells_clean_dirty_and_none(tmp_path, monkeypatch):
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
