"""Checkpoints through orbax: saved in the background, restored onto any sharding, torn ones skipped.

    checkpoints = Checkpoints(workdir / "checkpoints" / fingerprint)
    checkpoints.save(step, state, {"experiment": ..., "position": ...})
    state, meta = checkpoints.restore(checkpoints.latest(), abstract_state)

On disk a tree is a flat dict from path ("params/model/blocks/attention/query") to array, beside a JSON with
the meta and the shape and dtype of every leaf, so that a checkpoint can be read without the classes that made
it (`restore_params`).
"""
import collections
import json
import logging
import os
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from scaling import files, hosts


class NoCheckpoint(FileNotFoundError):
    """There is no checkpoint that can be read."""


class CheckpointError(ValueError):
    """A checkpoint is whole but is of another tree than the one asked for."""


class Checkpoints:
    """The checkpoints of one run: `directory/<step>/`, the newest `keep` of them and the `keep_best` of lowest
    score. One job may write at a time.

    In a job of several processes all of them call every method, with global arrays; orbax sees to it that
    each writes its own shards and that the first one names the result.
    """

    def __init__(self, directory, keep: int = 2, keep_best: int = 0):
        _quiet()
        self._best = keep_best
        self._directory = epath.Path(directory).expanduser()
        if files.is_local(self._directory):
            self._directory = self._directory.resolve()  # tensorstore wants absolute paths
        self._torn = set()
        if self._directory.exists():
            for path in self._directory.iterdir():
                if ".orbax-checkpoint-tmp" in path.name:
                    warnings.warn(f"checkpoint {os.fspath(path)} is half-written, skipped and removed",
                                  stacklevel=2)
        with files.disk_full(self._directory):
            self._manager = ocp.CheckpointManager(self._directory, options=ocp.CheckpointManagerOptions(
                preservation_policy=_policy(keep, keep_best), best_fn=_score if keep_best else None,
                cleanup_tmp_directories=True, save_root_metadata=False))

    def save(self, step: int, tree, meta: dict | None = None, score: float | None = None) -> None:
        """Saves `tree` (any pytree of arrays, typed PRNG keys and numbers) and `meta` (JSON values) as of
        `step`.

        Returns once everything is copied to the host, so buffers may be donated at once; writing goes on in
        the background. A failed write is raised by the next call of `save`, `wait` or `close`: DiskFull when
        there is no space. Checkpoints of this and later steps are removed first: this run has not come to
        them, or has gone back behind them. `score` is what `keep_best` goes by, smaller is better.
        """
        flat, leaves = {}, {}
        for path, leaf in _flatten(tree)[0]:
            impl = None
            if _is_key(leaf):
                impl, leaf = str(jax.random.key_impl(leaf)), jax.random.key_data(leaf)
            elif not isinstance(leaf, jax.Array):
                # A copy: the caller may write to its own. Python numbers become what JAX makes of them.
                leaf = np.array(leaf if isinstance(leaf, (np.ndarray, np.generic)) else jnp.asarray(leaf))
            leaves[path] = {"shape": list(leaf.shape), "dtype": str(leaf.dtype), "key": impl}
            if leaf.size:  # orbax refuses empty arrays; their shape is all there is to them
                flat[path] = leaf
        content = {"meta": {**(meta or {}), "step": int(step)}, "leaves": leaves}
        with files.disk_full(self._directory):
            for old in self._torn | {s for s in self._manager.all_steps() if s >= step}:
                self._manager.wait_until_finished()
                self._manager.delete(old)
            self._torn = set()
            metrics = None if score is None or not self._best else {"score": float(score)}
            self._manager.save(step, force=True, metrics=metrics, args=ocp.args.Composite(
                state=ocp.args.PyTreeSave(flat), meta=ocp.args.JsonSave(json.loads(files.dumps(content)))))

    def latest(self) -> int | None:
        """The newest step saved, those found torn left out; None when there is none."""
        return hosts.agree(max(self._steps(), default=None))

    def restore(self, step: int | None, abstract_tree):
        """(tree, meta) as saved at `step` (None: the newest). meta holds "step", the step it really is of.

        `abstract_tree` has the structure, shapes and dtypes of the saved tree. Leaves that have a `.sharding`
        (ShapeDtypeStructs of `jax.eval_shape` given one, or arrays) are restored onto it, whatever mesh they
        were saved from; the others become uncommitted arrays on the default device. A torn checkpoint is
        skipped with a warning and the one before it used. Raises NoCheckpoint when none is left,
        CheckpointError when the tree does not match.
        """
        self.wait()
        wanted, treedef = _flatten(abstract_tree)
        steps = [s for s in self._steps() if step is None or s <= step]
        values, meta = _newest(self._directory, hosts.agree(steps), lambda leaves: _match(dict(wanted), leaves),
                               self._torn, hosts.gather)
        return jax.tree.unflatten(treedef, [values[path] for path, _ in wanted]), meta

    def wait(self) -> None:
        """Blocks until what is being saved is on disk."""
        with files.disk_full(self._directory):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and ends orbax's threads."""
        with files.disk_full(self._directory):
            self._manager.close()

    def clear(self) -> None:
        """Closes, and removes all but the best: for when the run is recorded and needs no checkpoint more."""
        self.wait()
        best = hosts.by_lead(self._best_steps) if self._best else []
        if best:
            for step in set(self._manager.all_steps()) - set(best):
                self._manager.delete(step)
        self.close()
        if not best:
            hosts.by_lead(lambda: self._directory.exists() and self._directory.rmtree())

    def _best_steps(self):
        scores = {step: self._manager.metrics(step) for step in self._manager.all_steps()}
        return sorted((s for s, found in scores.items() if found), key=lambda s: _score(scores[s]))[:self._best]

    def _steps(self):
        return [s for s in self._manager.all_steps() if s not in self._torn]


def _policy(keep, keep_best):
    managers = ocp.checkpoint_managers
    best = managers.BestN(get_metric_fn=_score, reverse=True, n=keep_best, keep_checkpoints_without_metrics=False)
    return managers.AnyPreservationPolicy([managers.LatestN(keep), best]) if keep_best else managers.LatestN(keep)


def _score(metrics):
    return metrics["score"]


def restore(path, abstract_tree):
    """The newest tree under `path` like `Checkpoints.restore`, by this process alone whatever the others of its job do."""
    path = epath.Path(path).expanduser()
    path = path.resolve() if files.is_local(path) else path
    wanted, treedef = _flatten(abstract_tree)
    values, meta = _newest(path, _saved(path), lambda leaves: _match(dict(wanted), leaves), set())
    return jax.tree.unflatten(treedef, [values[name] for name, _ in wanted]), meta


def restore_params(path, step: int | None = None, prefix: str = "params") -> dict:
    """The part of a checkpoint under `prefix`, as nested dicts of NumPy arrays; see `read`."""
    return read(path, step, prefix)[0]


def read(path, step: int | None = None, prefix: str = "params") -> tuple[dict, dict]:
    """(the part of a checkpoint under `prefix`, as nested dicts of NumPy arrays, and its meta, with "step");
    needs neither the model nor its mesh.

    `path` is the directory given to `Checkpoints`; `step` None is the newest. It may be in use by the process
    that writes it. Torn checkpoints are skipped with a warning. Raises NoCheckpoint, or CheckpointError when
    nothing is under `prefix`.
    """
    _quiet()
    path = epath.Path(path).expanduser()
    path = path.resolve() if files.is_local(path) else path
    if not path.is_dir():
        raise NoCheckpoint(f"no checkpoints in {os.fspath(path)}: not a directory")
    steps = [s for s in _saved(path) if step is None or s == step]

    def match(leaves):
        wanted = {k: None for k in leaves if k.startswith(f"{prefix}/")}
        if not wanted:
            raise CheckpointError(f"nothing under {prefix!r} in {os.fspath(path)}: "
                                  f"there is {', '.join(sorted({k.split('/')[0] for k in leaves}))}")
        return wanted

    values, meta = _newest(path, steps, match, set())
    tree = {}
    for key, value in values.items():
        *parents, last = key.removeprefix(f"{prefix}/").split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = np.asarray(value)
    return tree, meta


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


def _newest(directory, steps, match, torn, gather=lambda value: [value]):
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
    raise NoCheckpoint(f"no checkpoint that can be read in {os.fspath(directory)}")


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
        sharding = _sharding(leaf)
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
            array = jax.device_put(values[k], _sharding(leaf))
            # Without x64 JAX would cut 64 bits to 32: such leaves stay NumPy arrays.
            values[k] = array if array.dtype == values[k].dtype else values[k]
        if leaf is not None and leaves[k]["key"]:
            values[k] = jax.random.wrap_key_data(values[k], impl=leaves[k]["key"])
    return values


def _match(wanted, leaves):
    """`wanted` if its paths, shapes and dtypes are those of `leaves`; else CheckpointError."""
    for verb, paths in (("lacks", wanted.keys() - leaves.keys()),
                        ("also holds", leaves.keys() - wanted.keys())):
        if paths:
            raise CheckpointError(f"the checkpoint is of another tree: it {verb} {sorted(paths)[0]!r}"
                                  + (f" and {len(paths) - 1} more" if len(paths) > 1 else ""))
    for path, leaf in wanted.items():
        saved = (tuple(leaves[path]["shape"]), leaves[path]["dtype"])
        raw = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
        asked = (tuple(np.shape(raw)), str(raw.dtype if hasattr(raw, "dtype") else jnp.asarray(raw).dtype))
        if saved != asked:
            raise CheckpointError(f"the checkpoint is of another tree: {path!r} is {saved[1]}{list(saved[0])}"
                                  f" in it, {asked[1]}{list(asked[0])} was asked for")
    return wanted


def _sharding(leaf):
    """Where to put a leaf; None when its sharding names no devices (`jax.eval_shape` under explicit axes)."""
    sharding = getattr(leaf, "sharding", None)
    return None if isinstance(getattr(sharding, "mesh", None), jax.sharding.AbstractMesh) else sharding


def _is_key(leaf):
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _flatten(tree):
    """[(path string, leaf)], treedef. The `.value` that nnx adds under every variable is left out."""
    pairs, treedef = jax.tree_util.tree_flatten_with_path(tree)

    def name(path):
        if len(path) > 1 and getattr(path[-1], "name", None) == "value":
            path = path[:-1]
        return jax.tree_util.keystr(path, simple=True, separator="/") or "tree"

    named = [(name(path), leaf) for path, leaf in pairs]
    twice = [n for n, count in collections.Counter(n for n, _ in named).items() if count > 1]
    if twice:
        raise CheckpointError(f"two leaves of the tree have the same path {twice[0]!r}")
    return named, treedef


def _quiet():
    """Orbax reports every step of every save through absl, and each failure several times with its stack;
    what fails is raised as well, so none of it is lost by leaving its lines out.
    """
    logger = logging.getLogger("absl")
    if _not_orbax not in logger.filters:
        logger.addFilter(_not_orbax)


def _not_orbax(record):
    return f"{os.sep}orbax{os.sep}" not in record.pathname
