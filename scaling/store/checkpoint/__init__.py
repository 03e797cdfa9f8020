"""Checkpoints through orbax: saved in the background, restored onto any sharding; torn checkpoints are skipped.

    checkpoints = Checkpoints(workdir / "checkpoints" / fingerprint)
    checkpoints.save(step, state, {"experiment": ..., "position": ...})
    state, meta = checkpoints.restore(checkpoints.latest(), abstract_state)

On disk a tree is a flat dict from path ("params/model/blocks/attention/query") to array. A JSON file beside it holds
the meta and the shape and dtype of every leaf, so that `read_checkpoint` needs none of the classes that made the tree.
"""

from typing import TYPE_CHECKING

from scaling.faces import lazy

if TYPE_CHECKING:
    from scaling.store.checkpoint.manager import Checkpoints
    from scaling.store.checkpoint.reading import read_checkpoint, read_meta, restore_params, restore_tree
    from scaling.store.checkpoint.trees import CheckpointError, NoCheckpoint, flatten

__getattr__, __dir__ = lazy(__name__)
__all__ = ["CheckpointError", "Checkpoints", "NoCheckpoint", "flatten", "read_checkpoint", "read_meta",
           "restore_params", "restore_tree"]
