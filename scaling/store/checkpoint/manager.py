"""Saving the checkpoints of a run, and choosing which of them are kept."""

import contextlib
import json
import os
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from scaling.devices import hosts
from scaling.store import files
from scaling.store.checkpoint import digests, reading, trees

_writing: dict[epath.Path, ocp.CheckpointManager] = {}  # by directory: those that have saved and were not closed


class Checkpoints:
    """The checkpoints of one run, in `directory/<step>/`: the newest `keep`, and the `keep_best` of lowest score.

    One job may write at a time; a save that this process has begun there, before an interrupt for instance, is waited for.
    In a job of several processes all of them call every method with global arrays: orbax lets each process write its own
    shards, and process 0 completes the checkpoint.
    """

    def __init__(self, directory, keep: int = 2, keep_best: int = 0):
        reading.silence_orbax()
        self._best = keep_best
        self._directory = reading.absolute(directory)
        self._torn = set()
        arrays = digests.DigestingHandler()
        if former := _writing.pop(self._directory, None):
            with contextlib.suppress(Exception):  # a save that failed is half-written
                former.wait_until_finished()
        hosts.by_lead(self._remove_half_written)
        hosts.by_lead(self._remove_damaged_scores)
        with files.disk_full(self._directory):
            self._manager = ocp.CheckpointManager(self._directory, options=ocp.CheckpointManagerOptions(
                preservation_policy=_policy(keep, keep_best), best_fn=_score if keep_best else None,
                save_root_metadata=False,
                async_options=ocp.AsyncOptions(post_finalization_callback=arrays.complete)),
                handler_registry=_registry(arrays))

    def save(self, step: int, tree, meta: dict | None = None, score: float | None = None) -> None:
        """Saves `tree` (any pytree of arrays, typed PRNG keys and numbers) and `meta` (JSON values) as step `step`.

        Returns once everything is copied to the host, so buffers may be donated at once; orbax writes in the
        background. The next call of `save`, `wait` or `close` raises the error of a failed write: DiskFull when there
        is no space. Existing checkpoints of this and of later steps are removed first, since the run has gone back to
        an earlier step. `keep_best` keeps the lowest `score`s.
        """
        flat, leaves = {}, {}
        for path, leaf in trees.flatten(tree)[0]:
            impl = None
            if trees.is_key(leaf):
                impl, leaf = str(jax.random.key_impl(leaf)), jax.random.key_data(leaf)
            elif not isinstance(leaf, jax.Array):
                # A copy, because the caller may overwrite its array. JAX chooses the dtype of Python numbers.
                leaf = np.array(leaf if isinstance(leaf, (np.ndarray, np.generic)) else jnp.asarray(leaf))
            leaves[path] = {"shape": list(leaf.shape), "dtype": str(leaf.dtype), "key": impl}
            if leaf.size:  # orbax refuses empty arrays, and their shape says everything
                flat[path] = leaf
        content = {"meta": {**(meta or {}), "step": int(step)}, "leaves": leaves, "digests": digests.METHOD}
        with files.disk_full(self._directory):
            for old in self._torn | {s for s in self._manager.all_steps() if s >= step}:
                self._manager.wait_until_finished()
                self._manager.delete(old)
            self._torn = set()
            _writing[self._directory] = self._manager
            metrics = None if score is None or not self._best else {"score": float(score)}
            self._manager.save(step, force=True, metrics=metrics, args=ocp.args.Composite(
                state=ocp.args.PyTreeSave(flat), meta=ocp.args.JsonSave(json.loads(files.dumps(content)))))

    def latest(self) -> int | None:
        """The newest saved step that is not known to be torn, or None."""
        return hosts.agree(max(self._steps(), default=None))

    def remove_after(self, step: int) -> list[int]:
        """Removes the checkpoints of later steps than `step`, and returns these steps."""
        later = [s for s in hosts.agree(list(self._manager.all_steps())) if s > step]
        for s in later:
            self._manager.delete(s)
        return later

    def shape(self, step: int, leaf: str) -> tuple[int, ...] | None:
        """The shape of a leaf, named by its path, of the checkpoint at `step`; None where it cannot be read."""
        found = hosts.by_lead(lambda: reading.read_shape(self._directory / str(step), leaf))
        return None if found is None else tuple(found)

    def restore(self, step: int | None, abstract_tree):
        """(tree, meta) as saved at `step`, or at the newest step when `step` is None.

        `abstract_tree` has the structure, shapes and dtypes of the saved tree. A leaf with a `.sharding` (an array, or a
        ShapeDtypeStruct that has one) is restored onto it, from any mesh; other leaves become uncommitted arrays on
        the default device. A torn checkpoint is skipped with a warning and the one before it is used: meta["step"] is
        the step that was read. Raises NoCheckpoint when none is left, CheckpointError when the tree does not match.
        """
        self.wait()
        steps = [s for s in self._steps() if step is None or s <= step]
        return reading.read_tree(self._directory, hosts.agree(steps), abstract_tree, self._torn, reading.together())

    def wait(self) -> None:
        """Blocks until every save is on disk."""
        with files.disk_full(self._directory):
            self._manager.wait_until_finished()
            files.sync_directory(self._directory)

    def close(self) -> None:
        """Waits, then ends orbax's threads."""
        with files.disk_full(self._directory):
            self._manager.close()
        if _writing.get(self._directory) is self._manager:
            del _writing[self._directory]

    def clear(self) -> None:
        """Closes, and removes all checkpoints but the best. Call it once the run has a record."""
        self.wait()
        best = hosts.by_lead(self._best_steps) if self._best else []
        if best:
            for step in set(self._manager.all_steps()) - set(best):
                self._manager.delete(step)
        self.close()
        if not best:
            hosts.by_lead(lambda: self._directory.exists() and self._directory.rmtree())

    def _remove_half_written(self):
        """Removes what killed writers left behind. Orbax would, in a thread that `close` does not await."""
        for path in list(self._directory.iterdir()) if self._directory.exists() else []:
            if ocp.path.step.is_path_temporary(path):
                warnings.warn(f"checkpoint {os.fspath(path)} is half-written, skipped and removed", stacklevel=4)
                _remove_tree(path)

    def _remove_damaged_scores(self):
        """Removes scores that orbax, which reads all of them at its start, could not read."""
        steps = [p for p in self._directory.iterdir() if p.name.isdecimal()] if self._directory.exists() else []
        for scores in (step / "metrics" for step in steps):
            try:
                found = json.loads((scores / "metrics").read_text()) if scores.exists() else {"score": 0.0}
                _score(found) + 0.0
            except (ValueError, LookupError, TypeError, OSError) as error:
                warnings.warn(f"the score in {os.fspath(scores)} is damaged ({type(error).__name__}), so it is removed",
                              stacklevel=4)
                scores.rmtree()

    def _best_steps(self):
        scores = {step: self._manager.metrics(step) for step in self._manager.all_steps()}
        return sorted((s for s, found in scores.items() if found), key=lambda s: _score(scores[s]))[:self._best]

    def _steps(self):
        return [s for s in self._manager.all_steps() if s not in self._torn]


def _registry(arrays):
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    registry.add("state", ocp.args.PyTreeSave, arrays)
    registry.add("meta", ocp.args.JsonSave, ocp.JsonCheckpointHandler())
    return registry


def _remove_tree(path):
    """Removes a directory into which the threads of a save that failed may still be writing, for a second or two."""
    for pause in (0.1, 0.2, 0.4, 0.8, 1.6):
        try:
            return path.rmtree()
        except OSError:  # it has a new file, or a file of it was renamed
            time.sleep(pause)
    if path.exists():
        path.rmtree()


def _policy(keep, keep_best):
    managers = ocp.checkpoint_managers
    best = managers.BestN(get_metric_fn=_score, reverse=True, n=keep_best, keep_checkpoints_without_metrics=False)
    return managers.AnyPreservationPolicy([managers.LatestN(keep), best]) if keep_best else managers.LatestN(keep)


def _score(metrics):
    return metrics["score"]
