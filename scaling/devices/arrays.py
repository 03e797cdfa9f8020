"""Arrays that span several processes: made from what each process holds, and read back as NumPy values."""

import math

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding

ALIGNMENT = 64  # bytes, of XLA's buffers on CPU


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
    dimensions, whose global sizes are `shape`, and all of the other dimensions.

    Where `x` is shorter than its part, the rest of the array holds anything.
    """
    ranges = local_ranges(sharding, shape)

    def read(index):
        spans = [s.indices(n)[:2] for s, n in zip(index, shape)]
        found = x[tuple(slice(low - r.start, high - r.start) for (low, high), r in zip(spans, ranges))]
        shard = _aligned_empty((*(high - low for low, high in spans), *x.shape[len(spans):]), x.dtype)
        shard[tuple(map(slice, found.shape))] = found
        return shard
    return jax.make_array_from_callback((*shape, *x.shape[len(shape):]), sharding, read)


def _aligned_empty(shape, dtype):
    """`np.empty` at an address that JAX needs not copy on CPU. Pages that nobody writes to cost nothing."""
    size = math.prod(shape) * dtype.itemsize
    buffer = np.empty(size + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start:start + size].view(dtype).reshape(shape)


def fetch(tree):
    """The arrays of a tree as NumPy values, the same in every process. All processes must make this call together."""
    def one(x):
        if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
            return np.asarray(x)
        return multihost_utils.process_allgather(x, tiled=True)
    return jax.tree.map(one, tree)
