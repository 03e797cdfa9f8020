"""Recomputation in the backward pass: which results of a layer are kept, and which are computed again, by name.

| name | keeps |
| --- | --- |
| none | every result that the backward pass reads |
| dots | the results of matrix products |
| dots_no_batch | the results of products with weights, but not the scores of attention |
| attention | what attention computes: its output and the logarithms of its sums, so that it is not computed again |
| offload | as dots_no_batch, in the memory of the host (GPUs and TPUs) |
| full | the inputs of the layer alone |

They change memory and time, and no result.
"""

import jax
from jax.ad_checkpoint import checkpoint_name

_KEEP = jax.checkpoint_policies
ATTENTION = "attention"  # the name of results of attention that its backward pass reads
_POLICIES = {"dots": _KEEP.dots_saveable, "dots_no_batch": _KEEP.dots_with_no_batch_dims_saveable,
             "attention": _KEEP.save_only_these_names(ATTENTION),
             "offload": _KEEP.offload_dot_with_no_batch_dims("device", "pinned_host"), "full": _KEEP.nothing_saveable}
NAMES = ("none", *_POLICIES)
BOOLS = {"False": "none", "True": "full"}  # how configs and records spelled the two that there were


def recomputed(function, name: str):
    """`function`, which computes in its backward pass what the policy of this name does not keep."""
    return function if name == "none" else jax.checkpoint(function, policy=_POLICIES[name])


def kept(tree):
    """Results of attention, marked so that the policy "attention" keeps them."""
    return jax.tree.map(lambda x: checkpoint_name(x, ATTENTION), tree)
