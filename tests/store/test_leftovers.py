"""Temporary files of killed writers are removed; those of live writers, and everybody else's files, stay."""
import os
import subprocess
import sys
import time

import pytest
from launcher import ROOT

from scaling.store import files, leftovers

WRITER = """
import sys, time
from scaling.store import files
with files.replacing(sys.argv[1]) as temporary:
    temporary.write_bytes(b"half")
    print(temporary, flush=True)
    time.sleep(600)
"""


def age(path, seconds=2 * leftovers.AGE):
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.fixture
def writer(tmp_path):
    """(process, its temporary file) of a process that is writing records/a.json."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path / "records" / "a.json"], stdout=subprocess.PIPE,
                               text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    yield process, process.stdout.readline().strip()
    process.kill()
    process.wait()


def test_what_a_killed_writer_left_is_removed_when_it_is_old(tmp_path, writer):
    process, temporary = writer
    age(temporary)
    files.open_workdir(tmp_path)
    assert os.path.exists(temporary)  # the writer holds its lock, however old the file is
    process.kill()
    process.wait()
    age(temporary, 10)
    files.open_workdir(tmp_path)
    assert os.path.exists(temporary)  # a file this young may be one whose writer has no lock
    age(temporary)
    assert [str(path) for path in leftovers.sweep(tmp_path)] == [temporary]
    assert os.listdir(tmp_path / "records") == []


def test_only_names_that_writers_give_are_removed(tmp_path):
    mine = ["notes.tmp", ".hidden", ".a.json.tmp", "a.0123456789abcdef0123456789abcdef.tmp", ".probe-short"]
    left = [".a.json.0123456789abcdef0123456789abcdef.tmp", ".probe-0123456789abcdef0123456789abcdef"]
    for name in mine + left:
        (tmp_path / name).write_text("x")
        age(tmp_path / name)
    (tmp_path / "linked").symlink_to(tmp_path)
    assert sorted(path.name for path in leftovers.sweep(tmp_path)) == sorted(left)
    assert sorted(os.listdir(tmp_path)) == sorted([*mine, "linked"])
