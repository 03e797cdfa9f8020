"""Reading checkpoints, by the run that resumes and by other programs; torn checkpoints are skipped."""

import json
import logging
import os
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from scaling.devices import hosts
from scaling.store import files
from scaling.store.checkpoint import digests, trees


def restore_tree(path, abstract_tree):
    """(tree, meta) of the newest checkpoint under `path`, like `Checkpoints.restore`, but read by this process alone.

    The other processes of its job need not call it.
    """
    path = absolute(path)
    return read_tree(path, _saved(path), abstract_tree, set(), ALONE)


def restore_params(path, step: int | None = None, prefix: str = "params") -> dict:
    """The subtree `prefix` of a checkpoint, as nested dicts of NumPy arrays; see `read_checkpoint`."""
    return read_checkpoint(path, step, prefix)[0]


def read_checkpoint(path, step: int | None = None, prefix: str = "params") -> tuple[dict, dict]:
    """(subtree `prefix` of a checkpoint as nested dicts of NumPy arrays, its meta). Needs neither the model nor its mesh.

    `path` is the directory given to `Checkpoints`, which another process may be writing to; `step` None is the newest.
    Torn checkpoints are skipped with a warning. Raises NoCheckpoint when there is none, CheckpointError when nothing
    lies under `prefix`. meta["step"] is the step that was read.
    """
    path = absolute(path)
    if not path.is_dir():
        raise trees.NoCheckpoint(f"no checkpoints in {os.fspath(path)}: not a directory")
    steps = [s for s in _saved(path) if step is None or s == step]

    def match(leaves):
        wanted = {k: None for k in leaves if k.startswith(f"{prefix}/")}
        if not wanted:
            raise trees.CheckpointError(f"nothing under {prefix!r} in {os.fspath(path)}: "
                                        f"there is {', '.join(sorted({k.split('/')[0] for k in leaves}))}")
        return wanted

    values, meta = _newest(path, steps, match, set(), ALONE)
    found = {}
    for key, value in values.items():
        *parents, last = key.removeprefix(f"{prefix}/").split("/")
        node = found
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = np.asarray(value)
    return found, meta


def _saved(path):
    """The steps that are saved under `path`, listed by this process alone."""
    silence_orbax()
    options = ocp.CheckpointManagerOptions(read_only=True, create=False, multiprocessing_options=_alone())
    with ocp.CheckpointManager(path, options=options) as manager:
        return manager.all_steps()


def _alone():
    """Options with which orbax does not wait for the other processes of a job."""
    if hosts.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    here = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=here, active_processes={here},
                                              barrier_sync_key_prefix=f"alone{here}")


class Readers(NamedTuple):
    """The processes that read a checkpoint together; this is number `index` of `count`."""
    index: int
    count: int
    gather: Callable[[Any], list]  # collects a value from all of them


ALONE = Readers(0, 1, lambda value: [value])


def together() -> Readers:
    """All processes of this job."""
    return Readers(hosts.process_index(), hosts.process_count(), hosts.gather_values)


def read_tree(directory, steps, abstract_tree, torn, readers):
    """(tree like `abstract_tree`, meta) of the newest readable one of `steps`; see `_newest`."""
    wanted, treedef = trees.flatten(abstract_tree)
    values, meta = _newest(directory, steps, lambda leaves: trees.check_match(dict(wanted), leaves), torn, readers)
    return jax.tree.unflatten(treedef, [values[path] for path, _ in wanted]), meta


def _newest(directory, steps, match, torn, readers):
    """({path: array}, meta) of the newest of `steps` that every one of `readers` finds whole.

    `match` takes the leaves of a checkpoint and gives {path: abstract leaf or None} of those to read. Steps that cannot be
    read are added to the set `torn`.
    """
    for step in sorted(steps, reverse=True):
        path = directory / str(step)
        problem = digests.problem(path, readers.index, readers.count)  # before orbax trusts its metadata
        if not any(readers.gather(problem is not None)):
            leaves, meta, problem = _read_description(path)
            if not any(readers.gather(problem is not None)):
                values, problem = _read_values(path, match(leaves), leaves)
                if not any(readers.gather(problem is not None)):
                    return values, meta
        _skip(path, problem, max((s for s in steps if s < step), default=None))
        torn.add(step)
    raise trees.NoCheckpoint(f"no readable checkpoint in {os.fspath(directory)}")


def read_shape(path, leaf: str) -> list[int] | None:
    """The shape of a leaf of the checkpoint in the folder `path` of a step, or None."""
    return _read_description(path)[0].get(leaf, {}).get("shape")


def read_meta(path, step: int) -> dict:
    """The meta of a step under `path`, the directory given to `Checkpoints`; {} where it cannot be read."""
    return _read_description(absolute(path) / str(step))[1]


def _read_description(path):
    """(leaves, meta, None) of a checkpoint, or ({}, {}, error) when it is torn."""
    try:
        content = _load(path, meta=ocp.args.JsonRestore()).meta
        if content.get("digests") and not digests.index(path).exists():
            raise digests.Damaged(f"{digests.INDEX} is missing")
        return content["leaves"], files.loads(json.dumps(content["meta"])), None
    except Exception as error:
        return {}, {}, error


def _read_values(path, wanted, leaves):
    """({path: array}, None) of a checkpoint, or ({}, error) when it is torn. Raises when the request is wrong."""
    try:
        return _arrays(path, wanted, leaves), None
    except Exception as error:  # the error of a cut file depends on where it was cut
        if _whole(path, leaves):
            raise  # the checkpoint is whole, so the request is wrong: a sharding that does not fit, for example
        return {}, error


def _skip(path, error, before):
    reason = (str(error).strip().splitlines() or [""])[0][:200]
    if not isinstance(error, digests.Damaged):
        reason = f"{type(error).__name__}: {reason}" if error is not None else "in another process of this job"
    then = "there is none before it" if before is None else f"the one before it, {before}, is used"
    warnings.warn(f"checkpoint {os.fspath(path)} is torn ({reason}), skipped; {then}", stacklevel=5)


def _whole(path, leaves):
    try:
        _arrays(path, dict.fromkeys(leaves), leaves)
        return True
    except MemoryError:
        raise
    except Exception:
        return False


def _load(path, **items):
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler(), multiprocessing_options=_alone()) as checkpointer:
        return checkpointer.restore(path, args=ocp.args.Composite(**items))


def _arrays(path, wanted, leaves):
    """{path: array} of `wanted`, a dict from path to abstract leaf, or to None for a NumPy array."""
    item, how, values = {}, {}, {}
    for k, leaf in wanted.items():
        shape, dtype = tuple(leaves[k]["shape"]), jnp.dtype(leaves[k]["dtype"])
        sharding = trees.leaf_sharding(leaf)
        if 0 in shape:
            values[k] = np.zeros(shape, dtype)
            continue
        item[k] = jax.ShapeDtypeStruct(shape, dtype)
        how[k] = ocp.RestoreArgs(restore_type=np.ndarray) if sharding is None else \
            ocp.ArrayRestoreArgs(sharding=sharding, global_shape=shape, dtype=dtype)
    if item:
        restore = ocp.args.PyTreeRestore(item, restore_args=how, partial_restore=True)
        values.update(_load(path, state=restore).state)
    for k, leaf in wanted.items():
        if leaf is not None and not isinstance(values[k], jax.Array):
            array = jax.device_put(values[k], trees.leaf_sharding(leaf))
            # Without x64 JAX would cut 64 bits to 32, so such leaves stay NumPy arrays.
            values[k] = array if array.dtype == values[k].dtype else values[k]
        if leaf is not None and leaves[k]["key"]:
            values[k] = jax.random.wrap_key_data(values[k], impl=leaves[k]["key"])
    return values


def absolute(path):
    """The directory as an epath; local paths become absolute, as tensorstore demands. WorkdirError where it cannot read."""
    files.check_path(path)
    path = epath.Path(path).expanduser()
    return path.resolve() if files.is_local(path) else path


def silence_orbax():
    """Hides orbax's log lines: one for every step of every save, and several with a stack for a failure, which orbax
    raises as well."""
    logger = logging.getLogger("absl")
    if _not_orbax not in logger.filters:
        logger.addFilter(_not_orbax)


def _not_orbax(record):
    return f"{os.sep}orbax{os.sep}" not in record.pathname
