"""A file is whole or absent, JSON keeps every value, and an unusable workdir or a full disk is one clear sentence."""
import json
import os
import pathlib
import re
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from launcher import ROOT

from scaling.store import files

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


def test_a_value_without_a_json_form_is_named():
    with pytest.raises(TypeError, match=r"object at optim\.schedule\.1"):
        files.dumps({"optim": {"schedule": [1, object()]}})
    with pytest.raises(ValueError, match="nonfinite"):
        files.dumps({"nonfinite": 1})
    with pytest.raises(ValueError, match="dict"):
        files.dumps([float("nan")])


def test_a_file_that_is_not_json_is_named(tmp_path):
    (tmp_path / "fit.json").write_text('{"a": 1')
    with pytest.raises(ValueError, match=r"fit\.json"):
        files.read_json(tmp_path / "fit.json")


def test_a_failed_write_leaves_the_old_file_and_no_temporary_file(tmp_path, monkeypatch):
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
def test_exactly_one_exclusive_writer_succeeds(tmp_path, monkeypatch, links):
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


FULL = """
import os, sys
from scaling.results import logs, records
from scaling.store import files
room = files.open_workdir(sys.argv[1])
runs = records.Records(room)
runs.write({"fingerprint": "before", "loss": 1.0})
log = logs.Logger(room, "curve")
log.write(0, {"loss": 1.0})
with open(room / "other", "wb", buffering=0) as f:  # another program fills the disk
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
         tmp_path, sys.executable, FULL],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    *said, kept = done.stdout.splitlines()
    assert [line.split()[0] for line in said] == ["record", "log", "json", "workdir"]
    for line in said:
        assert "said:" in line and "no space left to write" in line and "run the same command again" in line
    assert kept == "kept"
