"""Trees as flat dicts from path to leaf, the form in which they lie on disk, and the check that two trees match."""

import collections

import jax
import jax.numpy as jnp
import numpy as np


class NoCheckpoint(FileNotFoundError):
    """There is no readable checkpoint."""


class CheckpointError(ValueError):
    """A checkpoint is whole, but its tree is not the requested one."""


def check_match(wanted, leaves):
    """Returns `wanted` if its paths, shapes and dtypes equal those of `leaves`; raises CheckpointError otherwise."""
    for verb, paths in (("lacks", wanted.keys() - leaves.keys()),
                        ("also holds", leaves.keys() - wanted.keys())):
        if paths:
            raise CheckpointError(f"the checkpoint holds another tree: it {verb} {sorted(paths)[0]!r}"
                                  + (f" and {len(paths) - 1} more" if len(paths) > 1 else ""))
    for path, leaf in wanted.items():
        saved = (tuple(leaves[path]["shape"]), leaves[path]["dtype"])
        raw = jax.eval_shape(jax.random.key_data, leaf) if is_key(leaf) else leaf
        asked = (tuple(np.shape(raw)), str(raw.dtype if hasattr(raw, "dtype") else jnp.asarray(raw).dtype))
        if saved != asked:
            raise CheckpointError(f"the checkpoint holds another tree: {path!r} is {saved[1]}{list(saved[0])} there, "
                                  f"but {asked[1]}{list(asked[0])} was requested")
    return wanted


def leaf_sharding(leaf):
    """The sharding of a leaf, or None when it names no devices (`jax.eval_shape` under explicit axes)."""
    found = getattr(leaf, "sharding", None)
    return None if isinstance(getattr(found, "mesh", None), jax.sharding.AbstractMesh) else found


def is_key(leaf):
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def flatten(tree):
    """([(path string, leaf)], treedef). The path leaves out the `.value` that nnx adds under every variable."""
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
