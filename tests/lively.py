"""A family whose parameters are away from their start, and its methods, each compiled once."""

import functools

import jax
import numpy as np

from scaling.training.program import options_for_one_call

once = functools.partial(jax.jit, compiler_options=options_for_one_call())  # most of a test's time is compilation


@functools.cache
def lively(family, scale=0.3):
    """Parameters away from their start, where many a term is zero."""
    leaves, treedef = jax.tree.flatten(once(family.init)(jax.random.key(0)))
    noise = [np.sin(7.0 * np.arange(x.size) + i).reshape(x.shape).astype(np.float32) for i, x in enumerate(leaves)]
    return jax.tree.unflatten(treedef, [x + scale * n for x, n in zip(leaves, noise)])


@functools.partial(once, static_argnums=(0, 1))
def call(family, method, *args):
    """What the method of that name gives, given arguments that are arrays."""
    return getattr(family, method)(*args)
