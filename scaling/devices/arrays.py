"""Arrays that span several processes: made from what each process holds, and read back as NumPy values."""

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding


def place(tree, shardings):
    """Global arrays from host values that are the same in every process. `shardings` is one sharding or a tree of them."""
    if isinstance(shardings, jax.sharding.Sharding):
        one = shardings
        shardings = jax.tree.map(lambda _: one, tree)

    def make(x, sharding):
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])
    return jax.tree.map(make, tree, shardings)


def local_ranges(sharding: NamedSharding, shape) -> tuple[range, ...]:
    """For each dimension of an array of this shape, the smallest range that covers the shards of this process."""
    indices = sharding.addressable_devices_indices_map(tuple(shape)).values()
    spans = [[index[i].indices(length)[:2] for index in indices] for i, length in enumerate(shape)]
    return tuple(range(min(a for a, _ in span), max(b for _, b in span)) for span in spans)


def place_local(x, sharding: NamedSharding, shape):
    """The global array of which this process holds `x`: the part at `local_ranges(sharding, shape)` in the leading
    dimensions, whose global sizes are `shape`, and all of the other dimensions."""
    starts = [r.start for r in local_ranges(sharding, shape)]

    def read(index):
        leading = [slice(s.indices(n)[0] - start, s.indices(n)[1] - start) for s, n, start in zip(index, shape, starts)]
        return x[(*leading, *index[len(starts):])]
    return jax.make_array_from_callback((*shape, *x.shape[len(starts):]), sharding, read)


def fetch(tree):
    """The arrays of a tree as NumPy values, the same in every process. All processes must make this call together."""
    def one(x):
        if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
            return np.asarray(x)
        return multihost_utils.process_allgather(x, tiled=True)
    return jax.tree.map(one, tree)
