"""A hash of the contents of files, computed once for as long as nothing about the files changes.

Sizes and modification times do not tell contents apart: archives, package stores and `rsync -t` set times, and shards
have equal sizes. So data are named by a hash of their bytes. That takes 0.05 s for the 1,790 files of `pycode/stdlib`, as
long as to ask for their times, but a second for each gigabyte. Of more than `ALWAYS` bytes the hash is therefore kept,
under the state of the files: real paths, devices, inodes, sizes, and times of modification and of change. No program can
set the time of change, except through the clock. Times have a resolution, so a hash is kept only if every file had been
still for `STILL` seconds when it was read (Git calls an index without this rule racy).
"""
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Sequence

from tqdm import tqdm

from scaling.store.files import write_json
from scaling.store.prepared import find_index

ALWAYS = 256 << 20       # bytes that are read at every start
STILL = 3.0              # seconds; the coarsest file systems have times of 2 seconds
_BLOCK = 1 << 20


def content_digest(paths: Sequence[pathlib.Path], directory: pathlib.Path, progress: bool = False,
                   desc: str = "data") -> str:
    """A hash of the contents of local files in their order, remembered in `directory`."""
    states = [_state(path) for path in paths]
    size = sum(state[2] for state in states if state)
    if size <= ALWAYS:
        return _digest(paths, tqdm(disable=True))
    described = json.dumps([os.path.realpath(path) for path in paths]) + json.dumps(states)
    index = directory / f"{hashlib.sha256(described.encode()).hexdigest()[:16]}.json"
    found = find_index(index, "content")
    if found is not None:
        return found["content"]
    start = time.time()
    with tqdm(total=size, desc=f"{desc}: hashing", unit="B", unit_scale=True, disable=not progress, leave=False) as bar:
        content = _digest(paths, bar)
    still = all(state and max(state[3:]) < (start - STILL) * 1e9 for state in states)
    if still and states == [_state(path) for path in paths]:
        write_json(index, {"content": content})
    return content


def _digest(paths: Sequence[pathlib.Path], bar: tqdm) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(_file_digest(path, bar))
    return digest.hexdigest()


def _state(path: pathlib.Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _file_digest(path: pathlib.Path, bar: tqdm) -> bytes:
    """The SHA-256 of a file; of one that cannot be read, nothing."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                bar.update(len(block))
    except OSError:
        return b"unreadable"
    return digest.digest()
