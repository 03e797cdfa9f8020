"""The registration log: which forecasts were written and scored in a folder, and when, each line bound to the one before.

    forecasts.jsonl    one line for each forecast that was registered, and for each that was scored

A line holds its own hash and the hash of the line before. A forecast and its score hold their place in the log. So
whoever deletes, edits or reorders lines, or writes a deleted forecast again, leaves a trace: the chain breaks, a file
names a line that is not there, or the log holds both forecasts. Someone who deletes the forecast, its score, the log and
the record of the target leaves none. Publish the hash of a forecast where others see the date.

A line is written before its file. A process that is killed in between leaves a registration without a file, which the
next forecast of the same name mentions.
"""
from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Generator, Mapping

from etils import epath

from scaling.laws.forecasts import sealed
from scaling.laws.forms.form import LawError
from scaling.store import files, locks

FILE = "forecasts.jsonl"
PATIENCE = 60.0  # seconds to wait for another process that writes to the log


@dataclasses.dataclass(frozen=True)
class Registry:
    """The log of a folder. `entries` are its lines up to the first that is wrong; `broken` is a sentence about that one."""
    folder: epath.Path
    lines: tuple[bytes, ...] = ()
    entries: tuple[dict, ...] = ()
    broken: str = ""

    @property
    def exists(self) -> bool:
        return bool(self.lines)

    def place(self) -> dict:
        """The place of the next line, which a file keeps: the line's number from 1, and the hash of the line before."""
        return {"log": FILE, "line": len(self.lines) + 1, "previous": _hash_of(self.lines[-1]) if self.lines else None}

    def append(self, entry: Mapping) -> Registry:
        """The log with one more line, on disk. Only under `alone`."""
        line = _to_line(sealed.with_hash({**entry, "previous": self.place()["previous"]}))
        lines = (*self.lines, line)
        files.atomic_write(self.folder / FILE, b"".join(each + b"\n" for each in lines))
        return dataclasses.replace(self, lines=lines, entries=(*self.entries, json.loads(line)))

    def at(self, place) -> dict:
        """The entry at the place that a file names, {} where the log has none there."""
        number = place.get("line") if isinstance(place, Mapping) else None
        if not isinstance(number, int) or not 0 < number <= len(self.entries):
            return {}
        entry = self.entries[number - 1]
        return entry if entry["previous"] == place.get("previous") else {}

    def registered(self, name: str | None = None) -> list[dict]:
        """The registrations, of the forecast in the file `name` alone if it is given."""
        return [e for e in self.entries if e["event"] == "registered" and name in (None, e["file"])]

    def scored(self, forecast_hash: str | None = None) -> list[dict]:
        """The scores, of one forecast alone if its hash is given."""
        return [e for e in self.entries if e["event"] == "scored" and forecast_hash in (None, e["forecast"])]


def read_log(folder) -> Registry:
    """The log of a folder, which may be empty, as far as its chain holds."""
    folder = epath.Path(folder)
    try:
        text = (folder / FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return Registry(folder)
    except OSError as error:
        return Registry(folder, (b"",), (), f"{FILE} cannot be read ({error.strerror or error})")
    lines, entries, previous = text.split(b"\n"), [], None
    cut = lines.pop() if lines[-1] == b"" else None
    for number, line in enumerate(lines, 1):
        entry = _entry(line)
        if entry is None:
            return Registry(folder, tuple(lines), tuple(entries), f"{FILE} was changed in line {number}")
        if entry["previous"] != previous:
            return Registry(folder, tuple(lines), tuple(entries),
                            f"{FILE} has a line {number} that does not follow the one before: lines were removed or moved")
        entries.append(entry)
        previous = entry["hash"]
    broken = f"{FILE} is cut off in its last line" if cut is None else ""
    return Registry(folder, tuple(lines) or (b"",), tuple(entries), broken if lines else f"{FILE} is empty")


@contextlib.contextmanager
def alone(folder) -> Generator[Registry, None, None]:
    """The log of a folder, to which no other process writes meanwhile."""
    folder = epath.Path(folder)
    end = time.monotonic() + PATIENCE
    try:
        while (lock := locks.acquire(folder / f".{FILE}")) is None:
            if time.monotonic() > end:
                raise LawError(f"another process has held {os.fspath(folder / FILE)} for {PATIENCE:.0f} seconds; run the "
                               "command again when it has ended")
            time.sleep(0.02)
    except (FileExistsError, NotADirectoryError):
        raise LawError(f"{os.fspath(folder)} is not a directory: nothing can be written into it") from None
    try:
        yield read_log(folder)
    finally:
        lock.release()


def _to_line(content: Mapping) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode()


def _entry(line: bytes) -> dict | None:
    """The content of a line, None where a byte of it was changed."""
    try:
        content = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    good = sealed.whole(content) and {"event", "previous", "file", "forecast", "time"} <= content.keys()
    return content if good and _to_line(content) == line else None


def _hash_of(line: bytes) -> str:
    """The hash that the line after `line` must name. A line that was changed has none that would fit."""
    entry = _entry(line)
    return entry["hash"] if entry else "changed"
