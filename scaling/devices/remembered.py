"""Numbers that this code has found before, kept on disk between processes: counted parameters and FLOPs, measured rates.

    @remembered()
    def param_count(family): ...        # traced once on this machine, and read afterwards

They lie in $SCALING_REMEMBERED, else in $XDG_CACHE_HOME/scaling/remembered, else in ~/.cache/scaling/remembered; with `off`
every process counts anew. There is one JSON file for each state of the code that counts, so that any change of it begins a
new one. A file that is missing, damaged or cannot be written costs time and nothing else.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import time
import uuid
from collections.abc import Callable
from typing import Any

VARIABLE = "SCALING_REMEMBERED"
COUNTING = ("axes.py", "cost.py", "fields.py", "devices", "experiment", "families", "nn", "training")  # of this package
PACKAGES = ("jax", "flax", "optax")
MONTH = 30 * 24 * 3600  # seconds after which the numbers of other states of the code are removed


def remembered(also: Callable[[], Any] = lambda: None):
    """A decorator for pure functions of families and numbers whose results are JSON. `also()` is a further argument."""
    def decorate(function):
        @functools.wraps(function)
        def found(*args):
            # Only classes of this package change with its code, and only they are told apart by their repr.
            if not all(isinstance(arg, (int, float, str)) or type(arg).__module__.startswith("scaling.") for arg in args):
                return function(*args)
            key = f"{function.__module__}.{function.__qualname__}{args!r} {also()!r}"
            value = recall(key)
            if value is None:
                value = function(*args)
                remember(key, value)
            return value
        return found
    return decorate


def recall(key: str) -> Any:
    """The value of a key, None where there is none."""
    return _load().get(key)


def remember(key: str, value) -> None:
    """Keeps a value, which must be JSON and not None, for later processes."""
    path = _path()
    if path is None:
        return
    if json.loads(json.dumps(value)) != value:
        raise TypeError(f"{key} is {value!r}, which JSON does not keep as it is; return lists, dicts, texts and numbers")
    table = _load()
    table[key] = value
    table.update({name: other for name, other in _read(path).items() if name not in table})  # of other processes
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{uuid.uuid4().hex}.tmp")
        try:
            unfinished.write_text(json.dumps(table))
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


@functools.cache
def _load() -> dict[str, Any]:
    path = _path()
    if path is None:
        return {}
    with contextlib.suppress(OSError):
        for other in path.parent.iterdir():
            if time.time() - other.stat().st_mtime > MONTH:
                other.unlink()
        os.utime(path)
    return _read(path)


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@functools.cache
def _path() -> pathlib.Path | None:
    """The file for the present state of the code; None where nothing is kept."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen.lower() in ("off", "0", "false"):
        return None
    root, digest = pathlib.Path(__file__).parents[1], hashlib.sha256()
    for name in PACKAGES:
        digest.update(f"{name} {importlib.metadata.version(name)} ".encode())
    try:
        for name in COUNTING:
            for path in sorted((root / name).rglob("*.py")) or [root / name]:
                digest.update(path.read_bytes())
        caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        directory = pathlib.Path(chosen or os.path.join(caches, "scaling", "remembered"))
        return directory.expanduser() / f"{digest.hexdigest()[:16]}.json"
    except (OSError, RuntimeError):  # an installation without source, a user without a home directory
        return None
