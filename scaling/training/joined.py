"""Small parameters as a few long vectors while an optimiser moves them.

An elementwise optimiser does the same to every number of a kind. XLA compiles a dozen kernels for every array that it is
given, which made up more than half of the time to compile a small Transformer's step; joined arrays share them. Large
arrays are left alone, because joining them would copy them.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

SMALL = 2**22  # numbers in an array that is joined with others


class Vectors(NamedTuple):
    """What stands for a tree of parameters: one array for each group."""

    arrays: tuple


class Joining:
    """Joins trees of the structure of `params`, and such trees inside others, as optimiser states hold them.

    `kinds` has a hashable leaf for each parameter. Small parameters of equal kind and type form one group.
    """

    def __init__(self, params, kinds):
        leaves, self.structure = jax.tree.flatten(params)
        self.shapes = [leaf.shape for leaf in leaves]
        found, groups = self.structure.flatten_up_to(kinds), {}
        for index, (leaf, kind) in enumerate(zip(leaves, found, strict=True)):
            groups.setdefault((kind, leaf.dtype) if leaf.size <= SMALL else index, []).append(index)
        self.groups = list(groups.values())
        self.kinds = Vectors(tuple(found[group[0]] for group in self.groups))

    def join(self, tree):
        """`tree` with `Vectors` in place of every part that has the structure of the parameters."""
        return jax.tree.map(lambda part: self._join(part) if self._fits(part) else part, tree, is_leaf=self._fits)

    def split(self, tree):
        """The inverse of `join`."""
        return jax.tree.map(lambda part: self._split(part) if isinstance(part, Vectors) else part, tree,
                            is_leaf=lambda part: isinstance(part, Vectors))

    def _fits(self, part):
        return jax.tree.structure(part) == self.structure

    def _join(self, part):
        leaves = jax.tree.leaves(part)
        return Vectors(tuple(leaves[group[0]] if len(group) == 1 else
                             jnp.concatenate([leaves[index].reshape(-1) for index in group]) for group in self.groups))

    def _split(self, vectors):
        leaves: list[Any] = [None] * len(self.shapes)
        for group, array in zip(self.groups, vectors.arrays, strict=True):
            start = 0
            for index in group:
                shape = self.shapes[index]
                size = math.prod(shape)
                leaves[index] = array if len(group) == 1 else array[start:start + size].reshape(shape)
                start += size
        return jax.tree.unflatten(self.structure, leaves)


class Apart:
    """Joins nothing: what stands for `Joining` where parameters stay as they are."""

    kinds = None

    def join(self, tree):
        return tree

    split = join
