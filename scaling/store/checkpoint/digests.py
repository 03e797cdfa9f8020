"""Digests of the files of a checkpoint: a flipped bit is found before anything is read from it.

tensorstore checks the nodes of its database, but not the arrays in it. `<step>/digests.json` therefore holds the digest of
every other file of the step but the two that orbax writes after it. Each process of a job digests the arrays that it wrote
itself, and process 0 the rest. The digests are of files and not of arrays, so they hold for any mesh that reads them.
"""

import os
import threading
from concurrent import futures

import jax
import orbax.checkpoint as ocp
import xxhash
from etils import epath

from scaling.store import files

INDEX, METHOD = "digests.json", "xxh3_128"
PART = "digests-{}.json"  # those of one process, until the checkpoint is complete
LATER = {INDEX, "_CHECKPOINT_METADATA", "commit_success.txt"}  # in the folder of a step; orbax reads no array by them
THREADS = 4
PIECE = 1 << 20


class Damaged(ValueError):
    """A file of a checkpoint is not as it was written."""


class DigestingHandler(ocp.PyTreeCheckpointHandler):
    """Saves the arrays as orbax does, and then digests the files that this process wrote."""

    def __init__(self):
        super().__init__()
        self._step: epath.Path | None = None

    async def async_save(self, directory, item=None, save_args=None, args=None) -> list[ocp.future.Future] | None:
        own = epath.Path(directory) / f"ocdbt.process_{jax.process_index()}"
        self._step = own.parent.parent
        saved = await super().async_save(directory, item, save_args, args)
        return [ocp.future.ChainedFuture(saved or [], lambda: _write_part(own))]

    def complete(self) -> None:
        """Writes the index of the step, in process 0, when all processes have written and before orbax renames it."""
        step = next(path for path in _named(self._step) if path.exists())
        found = {}
        for part in [path for path in _files(step) if path.name.startswith(PART.partition("{")[0])]:
            for name, digest in files.read_json(part).items():
                path = part.parent / name
                if path.exists():
                    found[str(path.relative_to(step))] = digest
            part.unlink()
        rest = [path for path in _files(step) if str(path.relative_to(step)) not in LATER | found.keys()]
        found |= {str(path.relative_to(step)): digest for path, digest in _digests(rest, sync=True)}
        files.write_json(step / INDEX, {METHOD: dict(sorted(found.items()))})
        for folder in {path.parent for path in _files(step)}:
            files.sync_directory(folder)


def index(step) -> epath.Path:
    """The file of digests of the checkpoint in the folder `step`."""
    return step / INDEX


def problem(step, number: int = 0, count: int = 1) -> Damaged | None:
    """What is wrong with the files of a checkpoint, as far as share `number` of `count` of them tells; None for nothing.

    Checkpoints of older versions have no digests, so nothing is known of them.
    """
    try:
        known = files.read_json(index(step))[METHOD]
        paths = {step / name: digest for name, digest in known.items()}
    except FileNotFoundError:
        return None
    except (files.DamagedFile, AttributeError, LookupError, TypeError):
        return Damaged(f"{INDEX} is damaged")
    share = list(paths)[number::count]
    try:
        wrong = next((path for path, digest in _digests(share) if digest != paths[path]), None)
    except OSError as error:
        return Damaged(f"{error.filename or 'a file'} cannot be read: {error.strerror or error}")
    return wrong and Damaged(f"the digest of {wrong.relative_to(step)} does not match")


def _named(step):
    """Names of a step's folder: the temporary one that orbax gave, and the final one."""
    return step, step.parent / step.name.partition(".")[0]


def _write_part(own):
    if own.exists():
        found = {str(path.relative_to(own.parent)): digest for path, digest in _digests(_files(own), sync=True)}
        files.write_json(own.parent / PART.format(jax.process_index()), found)


def _files(folder) -> list:
    """All files under a folder, sorted."""
    found = []
    for path in sorted(folder.iterdir(), key=str):
        found += _files(path) if path.is_dir() else [path]
    return found


def _digests(paths, sync=False):
    """Yields (path, digest) of files, which are read several at once; `sync` writes them to the disk first."""
    if len(paths) < 2:
        yield from ((path, _digest(path, sync)) for path in paths)
        return
    with futures.ThreadPoolExecutor(min(THREADS, len(paths))) as pool:
        yield from zip(paths, pool.map(lambda path: _digest(path, sync), paths), strict=True)


_buffers = threading.local()


def _digest(path, sync):
    found = xxhash.xxh3_128()
    buffer = _buffers.__dict__.setdefault("piece", bytearray(PIECE))
    with path.open("rb") as file:
        if sync and files.is_local(path):
            os.fsync(file.fileno())
        while size := file.readinto(buffer):
            found.update(memoryview(buffer)[:size])
    return found.hexdigest()
