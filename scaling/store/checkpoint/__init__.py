"""Checkpoints through orbax: saved in the background, restored onto any sharding, torn ones skipped.

    checkpoints = Checkpoints(workdir / "checkpoints" / fingerprint)
    checkpoints.save(step, state, {"experiment": ..., "position": ...})
    state, meta = checkpoints.restore(checkpoints.latest(), abstract_state)

On disk a tree is a flat dict from path ("params/model/blocks/attention/query") to array, beside a JSON with
the meta and the shape and dtype of every leaf, so that a checkpoint can be read without the classes that made
it (`restore_params`).
"""

from scaling.store.checkpoint.manager import Checkpoints
from scaling.store.checkpoint.reading import read_checkpoint, restore_params, restore_tree
from scaling.store.checkpoint.trees import CheckpointError, NoCheckpoint

__all__ = ["CheckpointError", "Checkpoints", "NoCheckpoint", "read_checkpoint", "restore_params", "restore_tree"]
