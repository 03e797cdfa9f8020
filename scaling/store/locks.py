"""Locks on runs, so that processes sharing a workdir never train the same run twice.

Local directories use the kernel's `flock`, which goes away with its process, `kill -9` included. Anything
else uses a lease: a small file that its owner keeps renewing and that others may take once it has gone stale.
"""
import contextlib
import errno
import fcntl
import os
import socket
import threading
import time
import uuid

from scaling.store import files


class FileLock:
    """An exclusive `flock` on a local file. The file stays behind when released; the lock does not.

    On NFS, Linux turns `flock` into a lock held by the server, so it works between machines, unless the share
    is mounted with `nolock` or `local_lock=flock|all`: then it only works within one machine. Children made
    by `fork` without `exec` share the lock, so a killed owner's lock lasts until they are gone as well.
    """

    def __init__(self, fd):
        self._fd = fd

    @classmethod
    def acquire(cls, path):
        """The lock, or None when another holds it, in any process. Raises OSError where there is no flock."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return None
            raise
        return cls(fd)

    @property
    def held(self):
        return self._fd is not None

    def release(self):
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class Lease:
    """A file {"owner", "host", "pid", "time"} renewed every `expiry / 4` seconds by a thread.

    Object stores behind epath have no lock and no compare-and-swap, so this is as exclusive as write, wait
    `settle` seconds, read and compare can be: it fails only for two writers whose check and write lie more
    than `settle` apart, and then the one that lost sees `held` turn False at its next renewal. Another
    process may take the lease once `time` is more than `expiry` seconds old, so clocks must agree to well
    within `expiry`; a run whose owner was killed waits that long.
    """

    def __init__(self, path, expiry, owner):
        self._path, self._expiry, self._owner = path, expiry, owner
        self._stop, self._lost = threading.Event(), False
        self._renewed = time.time()
        self._thread = threading.Thread(target=self._renew_until_released, daemon=True)

    @classmethod
    def acquire(cls, path, expiry=300.0, settle=1.0):
        """The lease, or None when another's is fresh or wins the race for it."""
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
        """The lease file's content, None when there is none that still counts."""
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
            with contextlib.suppress(Exception):  # a store out of reach: `held` turns False if that lasts
                self.renew()

    def renew(self) -> None:
        """Makes the lease last from now, unless another has taken it. Called by the thread."""
        current = self._current()
        if current is not None and current["owner"] != self._owner:
            self._lost = True
            return
        self._write()
        self._renewed = time.time()

    @property
    def held(self):
        """False once released, taken over, or not renewed for `expiry` seconds."""
        return not (self._lost or self._stop.is_set()) and time.time() - self._renewed < self._expiry

    def release(self):
        if self._stop.is_set():
            return
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # then it expires by itself
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
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise  # those three: a file system without flock
    return Lease.acquire(path.parent / f"{path.name}.lease", **lease_options)
