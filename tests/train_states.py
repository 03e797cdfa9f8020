"""Small training states, and checkpoints of them, for tests."""
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from scaling.store import checkpoint


class State(NamedTuple):
    params: dict
    optimiser: tuple
    step: jax.Array
    key: jax.Array


def state(seed=0, width=8):
    keys = jax.random.split(jax.random.key(seed), 3)
    with nnx.use_eager_sharding(False):  # else nnx.Param wants a mesh for the axes
        params = {"model": nnx.State({
            "blocks": {"kernel": nnx.Param(jax.random.normal(keys[0], (2, width, 16)),
                                           axes=("layers", "embed", "mlp"))},
            "head": {"kernel": nnx.Param(jax.random.normal(keys[1], (16, width), jnp.bfloat16),
                                         axes=("mlp", "embed"))}})}
    return State(params, optax.adamw(1e-3).init(params), jnp.int32(seed), keys[2])


def raw(leaf):
    """Dtype, shape and bytes of a leaf."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return (str(leaf.dtype), *raw(jax.random.key_data(leaf)))
    return str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes()


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert [raw(x) for x in jax.tree.leaves(a)] == [raw(x) for x in jax.tree.leaves(b)]


def saved(directory, *steps, keep=5, make=state):
    """Writes a checkpoint of make(k) for every step k."""
    checkpoints = checkpoint.Checkpoints(directory, keep=keep)
    for step in steps:
        checkpoints.save(step, make(step), {"position": 100 * step})
    checkpoints.close()
