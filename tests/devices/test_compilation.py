"""Compiled programs stay on disk: later processes compile nothing, and no state of the disk ends a run."""

import os
import pathlib
import resource
import subprocess
import sys
import threading

import pytest

from scaling.devices import compilation
from scaling.devices.compilation import ProgramFiles

CODE = """
import warnings, jax, jax.numpy as jnp
warnings.simplefilter("always")
from scaling.devices.compilation import keep_compiled
hits, compiled = [], []
jax.monitoring.register_event_listener(lambda name, **_: name.endswith("/cache_hits") and hits.append(name))
jax.monitoring.register_event_listener(lambda name, **_: name.endswith("/cache_misses") and compiled.append(name))
keep_compiled()
print(float(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3)))[0, 0]), len(hits), len(compiled))
"""


def run(home, **variables):
    """(the result of a small program in a new process, programs read, programs compiled and kept, standard error)."""
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("JAX_", "SCALING_COMP", "XDG_"))}
    environment |= {"HOME": str(home), "JAX_PLATFORMS": "cpu"} | variables
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    result, hits, compiled = done.stdout.split()
    return float(result), int(hits), int(compiled), done.stderr


def test_a_second_process_compiles_nothing_and_mends_what_is_damaged(tmp_path):
    first, hits, compiled, _ = run(tmp_path)
    assert compiled and not hits
    assert run(tmp_path)[:3] == (first, compiled, 0)
    for path in (tmp_path / ".cache/scaling/compiled").iterdir():
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    result, hits, again, said = run(tmp_path)
    assert (result, hits, again) == (first, 0, compiled) and "is damaged" in said
    assert run(tmp_path)[1:] == (compiled, 0, "")


def test_variables_move_the_programs_or_turn_keeping_off(tmp_path):
    for variables, where in (({"SCALING_COMPILATION_CACHE": str(tmp_path / "mine")}, "mine"),
                             ({"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "jax"),
                               "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}, "jax"),
                             ({"SCALING_COMPILATION_CACHE": "off"}, None)):
        assert run(tmp_path, **variables)[1] == 0
        assert [path.name for path in tmp_path.iterdir() if any(path.iterdir())] == ([where] if where else [])
        for path in (tmp_path / where).iterdir() if where else []:
            path.unlink()


def test_a_home_directory_that_cannot_be_used_is_a_warning(tmp_path):
    (tmp_path / ".cache").write_text("a file where the directory should be")
    _, hits, compiled, said = run(tmp_path)
    assert (hits, compiled) == (0, 0) and said.count("compiled programs are not kept") == 1


def test_what_cannot_be_written_is_said_once_and_leaves_nothing(tmp_path):
    programs, most = ProgramFiles(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most[1]))  # as a disk that is full after 1,000 bytes
    try:
        with pytest.warns(UserWarning, match="not kept") as said:
            programs.put("a", bytes(5000))
            programs.put("b", bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert len(said) == 1 and programs.get("a") is None and not list(tmp_path.iterdir())
    missing = ProgramFiles(tmp_path / "gone")
    with pytest.warns(UserWarning, match="not kept"):
        missing.put("a", b"program")
    assert missing.get("a") is None


def test_programs_that_were_not_read_for_longest_go_first(tmp_path):
    programs = ProgramFiles(tmp_path, limit=10_000)
    for number, key in enumerate("abcdefghi"):
        programs.put(key, bytes(1000))
        os.utime(programs.path(key), (number, number))
    left = tmp_path / f".killed{compilation.SUFFIX}"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    assert programs.get("a") == bytes(1000)  # now it is the one that was read last
    programs.put("j", bytes(1000))
    assert programs.get("a") and programs.get("j") and programs.get("b") is None
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10_000 and not left.exists()


def test_threads_and_processes_may_write_at_once(tmp_path):
    stores, content = [ProgramFiles(tmp_path, limit=20_000) for _ in range(8)], os.urandom(3000)

    def work(programs):
        for number in range(20):
            programs.put(f"key{number % 7}", content)
            assert programs.get(f"key{number % 7}") in (content, None)

    threads = [threading.Thread(target=work, args=(programs,)) for programs in stores]
    errors = []
    hook, threading.excepthook = threading.excepthook, errors.append
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        threading.excepthook = hook
    assert not errors and not [path for path in pathlib.Path(tmp_path).iterdir() if path.name.startswith(".")]
