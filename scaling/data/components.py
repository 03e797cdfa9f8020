"""Connected components of a graph whose nodes are numbered."""
from collections.abc import Iterable

import numpy as np
from scipy.sparse import coo_array, csgraph


def least_members(count: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """The least node of the connected component of each of `count` nodes, given the edges as `pairs`: int64 [count]."""
    edges = np.array(list(pairs), np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, component = csgraph.connected_components(graph, directed=False)
    _, first, number = np.unique(component, return_index=True, return_inverse=True)
    return first[number]  # the first node of a component is its least
