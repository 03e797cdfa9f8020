"""Prepared data: locks between processes, damaged index files, and the sentence about a full disk."""
import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading

import pytest

from scaling.store import files, prepared

HOLDER = """
import sys, time
from scaling.store import prepared
import pathlib
with prepared.locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_excludes_another_process_until_that_is_killed(tmp_path):
    path = tmp_path / "corpus"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    entered = threading.Event()

    def wait():
        with prepared.locked(path):
            entered.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert not entered.wait(1)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert entered.wait(30)
    waiting.join()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_without_locks_the_work_is_done_all_the_same(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    done = []
    with prepared.locked(tmp_path / "corpus"):
        done.append(True)
    assert done


def test_a_lock_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "corpus.lock").mkdir()
    with pytest.raises(OSError), prepared.locked(tmp_path / "corpus"):
        pass


@pytest.mark.parametrize("content", [None, b"", b'{"fingerprint": "1', b"\xff"])
def test_missing_and_damaged_index_files_count_as_none(tmp_path, content):
    path = tmp_path / "index.json"
    if content is not None:
        path.write_bytes(content)
    assert prepared.find_index(path) is None
    files.write_json(path, {"fingerprint": "12", "splits": ["file"]})
    assert prepared.find_index(path) == {"fingerprint": "12", "splits": ["file"]}


def test_the_remedy_replaces_that_of_a_write_inside(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(files.DiskFull, match="run the same command again"), files.disk_full(tmp_path):
        files.write_json(tmp_path / "x.json", {})
    with pytest.raises(files.DiskFull, match=r"SCALING_DATA_DIR") as error, files.disk_full(tmp_path, prepared.REMEDY):
        files.write_json(tmp_path / "x.json", {})
    assert "run the same command" not in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_of_exclusive_writers_one_succeeds(tmp_path):
    with files.replacing(tmp_path / "x", exclusive=True) as temporary:
        temporary.write_text("first")
    with pytest.raises(FileExistsError), files.replacing(tmp_path / "x", exclusive=True) as temporary:
        temporary.write_text("second")
    assert (tmp_path / "x").read_text() == "first" and len(list(tmp_path.iterdir())) == 1
