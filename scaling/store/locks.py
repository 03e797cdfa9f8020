"""Locks on runs, so that processes that share a workdir never train the same run twice.

Local directories use `filelock`, which takes the kernel's `flock`: it ends with its process, `kill -9` included.
Object stores use a lease: a small file that its owner keeps renewing, and that others may take once it is stale.
The lease is our own code because no library locks through epath on every object store.
"""
import contextlib
import errno
import os
import socket
import threading
import time
import uuid

import filelock

from scaling.store import files

NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # errors of a file system that has no flock


class FileLock:
    """An exclusive lock on a local file. The file may stay behind when it is released.

    On NFS, Linux turns `flock` into a lock held by the server, so it works between machines, unless the share
    is mounted with `nolock` or `local_lock=flock|all`: then it only works within one machine.
    """

    def __init__(self, lock: filelock.BaseFileLock):
        self._lock = lock

    @classmethod
    def acquire(cls, path):
        """The lock, or None when another holds it, in any process. Raises OSError where there is no flock."""
        # Without fallback_to_soft=False, filelock would create a lock that outlives a killed owner.
        lock = filelock.FileLock(path, blocking=False, thread_local=False, fallback_to_soft=False)
        try:
            lock.acquire()
        except filelock.Timeout:
            return None
        return cls(lock)

    @property
    def held(self):
        return self._lock.is_locked

    def release(self):
        self._lock.release()


class Lease:
    """A file {"owner", "host", "pid", "time"} that a thread renews every `expiry / 4` seconds.

    Object stores behind epath have no locks and no compare-and-swap. An owner therefore writes the file, waits `settle`
    seconds, reads the file and compares the owner. Two processes can both take a lease only when one of them needs more
    than `settle` seconds between its check and its write; the loser then sees `held` turn False at its next renewal.
    Another process may take the lease once `time` is more than `expiry` seconds old. Clocks must therefore agree to
    well within `expiry`, and a run whose owner was killed waits that long.
    """

    def __init__(self, path, expiry, owner):
        self._path, self._expiry, self._owner = path, expiry, owner
        self._stop, self._lost = threading.Event(), False
        self._renewed = time.time()
        self._thread = threading.Thread(target=self._renew_until_released, daemon=True)

    @classmethod
    def acquire(cls, path, expiry=300.0, settle=1.0):
        """The lease, or None when another process holds a fresh one or wins the race for it."""
        lease = cls(path, expiry, uuid.uuid4().hex)
        if lease._current() is not None:
            return None
        lease._write()
        time.sleep(settle)
        if (lease._current() or {}).get("owner") != lease._owner:
            return None
        lease._thread.start()
        return lease

    def _current(self):
        """The content of the lease file, or None when there is none or it has expired."""
        try:
            content = files.read_json(self._path)
            return content if time.time() - content["time"] < self._expiry else None
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            return None

    def _write(self):
        files.atomic_write(self._path, files.dumps(
            {"owner": self._owner, "host": socket.gethostname(), "pid": os.getpid(), "time": time.time()}))

    def _renew_until_released(self):
        while not self._stop.wait(self._expiry / 4) and not self._lost:
            with contextlib.suppress(Exception):  # The store is out of reach; `held` turns False if that lasts.
                self.renew()

    def renew(self) -> None:
        """Extends the lease from now on, unless another owner has taken it. The thread calls this."""
        current = self._current()
        if current is not None and current["owner"] != self._owner:
            self._lost = True
            return
        self._write()
        self._renewed = time.time()

    @property
    def held(self):
        """False once the lease is released, taken over, or not renewed for `expiry` seconds."""
        return not (self._lost or self._stop.is_set()) and time.time() - self._renewed < self._expiry

    def release(self):
        if self._stop.is_set():
            return
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # A file that cannot be removed expires by itself.
            if (self._current() or {}).get("owner") == self._owner:
                self._path.unlink()


def acquire(path, **lease_options):
    """A lock on `path` (epath): an object with `held` and `release()`, or None when another holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if files.is_local(path):
        try:
            with files.disk_full(path):
                return FileLock.acquire(f"{os.fspath(path)}.lock")
        except OSError as error:
            if error.errno not in NO_FLOCK:
                raise
    return Lease.acquire(path.parent / f"{path.name}.lease", **lease_options)
