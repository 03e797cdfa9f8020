"""Compiled programs stay on disk: a later process that needs one reads it instead of compiling it again.

    keep_compiled()   # once in a command, before it compiles anything

They lie in $SCALING_COMPILATION_CACHE, else in $XDG_CACHE_HOME/scaling/compiled, else in ~/.cache/scaling/compiled. `off`
keeps none. Where JAX's own variables name a cache or turn it off, JAX does as they say, and nothing here applies.

JAX decides what a program is: its key holds the program, the compiler's options, the devices and the versions of JAX and
XLA. The files are ours, since JAX's own cache writes them in place: a kill or a full disk would leave half a program there,
which every later process would complain about and none would mend.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import platform
import threading
import uuid
import warnings

import jax

from scaling.devices import _jax_internals, hosts

VARIABLE = "SCALING_COMPILATION_CACHE"
LIMIT = 2 << 30  # bytes of all programs, beyond which those that were not read for longest are removed
KEPT = 0.8  # the share of the limit that stays then, so that not every program removes one
SUFFIX, DIGEST = ".program", 32
ABANDONED = 24 * 3600  # seconds after which an unfinished file is one of a killed process


_in_use: "ProgramFiles | None" = None


def files() -> "ProgramFiles | None":
    """The programs of this process, None where `keep_compiled` keeps none."""
    return _in_use


def keep_compiled() -> None:
    """Turns the cache on for this process. A directory that cannot be made or used is said in a warning.

    The processes of a job keep programs only in a directory that all of them share: on GPUs they compile together, and one
    that reads its program would leave the others waiting.
    """
    global _in_use
    directory = _find_directory()
    if not _shared(directory) or not _jax_internals.use_program_cache(lambda path: _in_use):
        return
    _in_use = ProgramFiles(directory)
    jax.config.update("jax_compilation_cache_dir", os.fspath(directory))
    for option, variable in (("min_compile_time_secs", 0), ("min_entry_size_bytes", -1)):  # small programs are kept too
        if f"JAX_PERSISTENT_CACHE_{option.upper()}" not in os.environ:
            jax.config.update(f"jax_persistent_cache_{option}", variable)


def _find_directory() -> pathlib.Path | None:
    """The directory of programs, created; None where none are kept."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen.lower() in ("off", "0", "false") or jax.config.jax_compilation_cache_dir is not None:
        return None
    directory = pathlib.Path(chosen or default_directory())
    try:
        directory = directory.expanduser()
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home directory
        warnings.warn(f"compiled programs are not kept, since {os.fspath(directory)} cannot be used "
                      f"({getattr(error, 'strerror', None) or error}); set {VARIABLE} to a directory that can, or to off",
                      stacklevel=3)
        return None
    return directory


def _shared(directory: pathlib.Path | None) -> bool:
    """Whether there is a directory, and every process of this job sees the same one."""
    if hosts.process_count() == 1:
        return directory is not None

    def leave_mark() -> str:
        if directory is None:
            return ""
        with contextlib.suppress(OSError):
            mark = directory / f".job-{uuid.uuid4().hex}{SUFFIX}"
            mark.touch()
            return mark.name
        return ""

    mark = hosts.by_lead(leave_mark)
    seen = hosts.gather_values(bool(mark) and directory is not None and (directory / mark).exists())
    if mark and directory is not None and hosts.is_lead():
        (directory / mark).unlink(missing_ok=True)
    return all(seen)


def default_directory() -> str:
    """The directory of programs where no variable names another; `~` may stand for the home directory."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "scaling", "compiled")


class ProgramFiles:
    """The programs in a directory, by JAX's keys: what JAX asks of a cache is `get` and `put`.

    Any number of processes may share the directory. A program is written beside its place and renamed into it, with its
    digest. One that does not fit its digest is removed and compiled again. No error of the file system leaves this class:
    what cannot be kept is said once.
    """

    def __init__(self, directory, limit: int = LIMIT):
        self._path = pathlib.Path(directory)  # JAX's name for it
        self.limit, self.said = limit, False
        self.size: int | None = None  # bytes, known from the first program on that is kept
        self._thread = threading.local()

    def path(self, key: str) -> pathlib.Path:
        return self._path / f"{key}-{processor()}{SUFFIX}"

    def get(self, key: str) -> bytes | None:
        path = self.path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        digest, program = content[:DIGEST], content[DIGEST:]
        if hashlib.sha256(program).digest() != digest:
            warnings.warn(f"{os.fspath(path)} is damaged; the program is compiled again", stacklevel=2)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):  # a directory that can only be read
            os.utime(path)  # `shrink` removes those that were not read for longest
        return program

    def puts(self) -> int:
        """How many programs this thread has put here: JAX puts what it has compiled, and what it has read it does not."""
        return getattr(self._thread, "puts", 0)

    def put(self, key: str, value: bytes) -> None:
        path, self._thread.puts = self.path(key), self.puts() + 1
        if path.exists():
            return
        unfinished = path.with_name(f".{uuid.uuid4().hex}{SUFFIX}")
        try:
            try:
                unfinished.write_bytes(hashlib.sha256(value).digest() + value)
                os.replace(unfinished, path)
            finally:
                unfinished.unlink(missing_ok=True)
            self.size = self._total() if self.size is None else self.size + len(value)
            if self.size > self.limit:
                self.shrink()
        except OSError as error:
            if not self.said:
                warnings.warn(f"compiled programs are not kept in {os.fspath(self._path)} ({error.strerror or error}); set "
                              f"{VARIABLE} to another directory, or to off", stacklevel=2)
            self.said = True

    def shrink(self) -> None:
        """Removes the programs that were not read for longest, and what killed processes left."""
        files = sorted(self._files(), key=lambda each: each[1])
        newest, self.size = max((time for _, time, _ in files), default=0.0), sum(size for _, _, size in files)
        for path, time, size in files:
            unfinished = os.path.basename(path).startswith(".") and time < newest - ABANDONED
            if self.size > KEPT * self.limit or unfinished:
                with contextlib.suppress(OSError):  # another process was faster
                    os.unlink(path)
                self.size -= size

    def _files(self) -> list[tuple[str, float, int]]:
        """(path, time of the last reading, bytes) of all programs."""
        found = []
        with os.scandir(self._path) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.name.endswith(SUFFIX):
                        found.append((entry.path, entry.stat().st_mtime, entry.stat().st_size))
        return found

    def _total(self) -> int:
        return sum(size for _, _, size in self._files())


@functools.cache
def processor() -> str:
    """Tells kinds of processors apart: XLA compiles for the instructions of this one, and JAX's keys do not name them.

    So machines of several kinds can share a home directory.
    """
    about = platform.machine() + platform.processor()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        about += next((line for line in file if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(about.encode()).hexdigest()[:8]
