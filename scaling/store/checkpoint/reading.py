"""Reading what was saved, by the run that goes on or by others; what is torn is skipped."""

import json
import logging
import os
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from scaling.devices import hosts
from scaling.store import files
from scaling.store.checkpoint import trees


def restore_tree(path, abstract_tree):
    """The newest tree under `path` like `Checkpoints.restore`, by this process alone whatever the others of its job do."""
    path = located(path)
    return tree(path, _saved(path), abstract_tree, set(), _only_here)


def restore_params(path, step: int | None = None, prefix: str = "params") -> dict:
    """The part of a checkpoint under `prefix`, as nested dicts of NumPy arrays; see `read_checkpoint`."""
    return read_checkpoint(path, step, prefix)[0]


def read_checkpoint(path, step: int | None = None, prefix: str = "params") -> tuple[dict, dict]:
    """(the part of a checkpoint under `prefix`, as nested dicts of NumPy arrays, and its meta, with "step");
    needs neither the model nor its mesh.

    `path` is the directory given to `Checkpoints`; `step` None is the newest. It may be in use by the process
    that writes it. Torn checkpoints are skipped with a warning. Raises NoCheckpoint, or CheckpointError when
    nothing is under `prefix`.
    """
    quiet()
    path = located(path)
    if not path.is_dir():
        raise trees.NoCheckpoint(f"no checkpoints in {os.fspath(path)}: not a directory")
    steps = [s for s in _saved(path) if step is None or s == step]

    def match(leaves):
        wanted = {k: None for k in leaves if k.startswith(f"{prefix}/")}
        if not wanted:
            raise trees.CheckpointError(f"nothing under {prefix!r} in {os.fspath(path)}: "
                                        f"there is {', '.join(sorted({k.split('/')[0] for k in leaves}))}")
        return wanted

    values, meta = _newest(path, steps, match, set(), _only_here)
    found = {}
    for key, value in values.items():
        *parents, last = key.removeprefix(f"{prefix}/").split("/")
        node = found
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = np.asarray(value)
    return found, meta


def _saved(path):
    """The steps under `path`, for a process on its own."""
    options = ocp.CheckpointManagerOptions(read_only=True, create=False, multiprocessing_options=_alone())
    with ocp.CheckpointManager(path, options=options) as manager:
        return manager.all_steps()


def _alone():
    """Orbax waits for the other processes of a job unless it is told of a smaller group."""
    if hosts.count() == 1:
        return ocp.options.MultiprocessingOptions()
    here = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=here, active_processes={here},
                                              barrier_sync_key_prefix=f"alone{here}")


def _only_here(value):
    """The `hosts.gather` of a process that reads alone."""
    return [value]


def tree(directory, steps, abstract_tree, torn, gather):
    """(tree like `abstract_tree`, meta) of the last of `steps`; see `_newest`."""
    wanted, treedef = trees.flatten(abstract_tree)
    values, meta = _newest(directory, steps, lambda leaves: trees.match(dict(wanted), leaves), torn, gather)
    return jax.tree.unflatten(treedef, [values[path] for path, _ in wanted]), meta


def _newest(directory, steps, match, torn, gather):
    """({path: array}, meta) of the last of `steps` that can be read; adds those that cannot to `torn`. With the `gather`
    of several processes, of the last that all of them can read."""
    for step in sorted(steps, reverse=True):
        path, problem = directory / str(step), None
        try:
            content = _load(path, meta=ocp.args.JsonRestore()).meta
            leaves, meta = content["leaves"], files.loads(json.dumps(content["meta"]))
        except Exception as error:
            problem = error
        if not any(gather(problem is not None)):
            wanted = match(leaves)
            try:
                values = _arrays(path, wanted, leaves)
            except Exception as error:  # what a cut file makes tensorstore raise depends on where it was cut
                if _whole(path, leaves):
                    raise  # so it is what was asked for that is wrong, a sharding say
                problem = error
            if not any(gather(problem is not None)):
                return values, meta
        _skip(path, problem)
        torn.add(step)
    raise trees.NoCheckpoint(f"no checkpoint that can be read in {os.fspath(directory)}")


def _skip(path, error):
    reason = (str(error).strip().splitlines() or [""])[0][:200]
    why = "for another process of this job" if error is None else f"{type(error).__name__}: {reason}"
    warnings.warn(f"checkpoint {os.fspath(path)} is torn ({why}), skipped; the one before it is used", stacklevel=5)


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
    """{path: array} of `wanted`, a dict to abstract leaves, or to None for NumPy arrays."""
    item, how, values = {}, {}, {}
    for k, leaf in wanted.items():
        shape, dtype = tuple(leaves[k]["shape"]), jnp.dtype(leaves[k]["dtype"])
        sharding = trees.sharding(leaf)
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
            array = jax.device_put(values[k], trees.sharding(leaf))
            # Without x64 JAX would cut 64 bits to 32: such leaves stay NumPy arrays.
            values[k] = array if array.dtype == values[k].dtype else values[k]
        if leaf is not None and leaves[k]["key"]:
            values[k] = jax.random.wrap_key_data(values[k], impl=leaves[k]["key"])
    return values


def located(path):
    """The directory as tensorstore wants it: absolute where it is local."""
    path = epath.Path(path).expanduser()
    return path.resolve() if files.is_local(path) else path


def quiet():
    """Orbax reports every step of every save through absl, and each failure several times with its stack;
    what fails is raised as well, so none of it is lost by leaving its lines out.
    """
    logger = logging.getLogger("absl")
    if _not_orbax not in logger.filters:
        logger.addFilter(_not_orbax)


def _not_orbax(record):
    return f"{os.sep}orbax{os.sep}" not in record.pathname
