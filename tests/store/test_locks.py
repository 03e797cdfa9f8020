"""A lock has one owner at a time, on every kind of file system, and a killed owner loses it."""
import errno
import fcntl
import os
import threading
import time

import pytest
from etils import epath

from scaling.store import files, locks


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


def test_a_lease_lasts_while_it_is_renewed_and_can_be_taken_over_afterwards(tmp_path, clock):
    path = epath.Path(tmp_path / "aa.lease")
    one = locks.Lease.acquire(path, expiry=300)
    clock.now += 200
    assert locks.Lease.acquire(path, expiry=300) is None
    one.renew()
    clock.now += 200
    assert one.held and locks.Lease.acquire(path, expiry=300) is None
    clock.now += 200  # its owner has died or cannot reach the store
    assert not one.held
    two = locks.Lease.acquire(path, expiry=300)
    assert two.held
    one.renew()       # it was only slow, and must see that it has lost the run
    assert not one.held and two.held
    one.release()
    assert locks.Lease.acquire(path, expiry=300) is None
    two.release()
    assert not path.exists()


def test_a_lease_overwritten_in_a_race_is_lost(tmp_path, monkeypatch):
    path = epath.Path(tmp_path / "aa.lease")

    def another(seconds):  # both saw no lease, and the other process wrote second
        files.write_json(path, {"owner": "other", "time": time.time()})
    monkeypatch.setattr(locks.time, "sleep", another)
    assert locks.Lease.acquire(path) is None
    assert files.read_json(path)["owner"] == "other"


@pytest.mark.parametrize("error", locks.NO_FLOCK, ids=os.strerror)
def test_a_file_system_without_flock_gets_a_lease(tmp_path, monkeypatch, clock, error):
    def flock(*args):
        raise OSError(error, os.strerror(error))
    monkeypatch.setattr(fcntl, "flock", flock)
    path = epath.Path(tmp_path / "aa")
    lease = locks.acquire(path)
    assert isinstance(lease, locks.Lease) and lease.held and locks.acquire(path) is None
    lease.release()
    assert locks.acquire(path) is not None


def test_another_error_of_flock_is_raised(tmp_path, monkeypatch):
    def flock(*args):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error"):
        locks.acquire(epath.Path(tmp_path / "aa"))


def test_a_local_lock_has_one_owner_and_can_be_taken_again(tmp_path):
    path = epath.Path(tmp_path / "locks" / "aa")
    one = locks.acquire(path)
    assert isinstance(one, locks.FileLock) and one.held and locks.acquire(path) is None
    one.release()
    assert not one.held
    two = locks.acquire(path)
    assert two.held and not one.held
    one.release()  # a second release does not take the lock from its new owner
    assert locks.acquire(path) is None
    two.release()


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
