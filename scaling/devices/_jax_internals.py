"""The private parts of JAX that this package needs. No other file of the package may import `jax._src`.

JAX has no public name for the key-value store of its coordination service (Orbax uses the same private one), nor for its
detection of clusters.
"""

import jax

try:
    import jax._src.distributed as _distributed
    from jax._src.clusters import ClusterEnv

    _CLUSTER_TYPES = ClusterEnv._cluster_types
    _distributed.global_state.client  # noqa: B018 - raises AttributeError where it is gone
except (ImportError, AttributeError) as error:
    raise ImportError(f"JAX {jax.__version__} lacks a private part that jobs of several processes need ({error}); "
                      "install an older JAX, or adapt scaling/devices/_jax_internals.py to the new name") from error


def coordination_client():
    """The client of JAX's coordination service, with its key-value store and barriers; None for a process on its own.

    It does not touch the devices, so it works before a backend starts.
    """
    return _distributed.global_state.client


def process_count() -> int:
    """The number of processes of the job that this process has joined."""
    return _distributed.global_state.num_processes


def process_index() -> int:
    """The number of this process in the job that it has joined, from 0."""
    return _distributed.global_state.process_id


def detect_cluster(known) -> tuple[str, int] | None:
    """(name, number of processes) of the first kind of cluster among the names `known` that this process runs in."""
    for kind in _CLUSTER_TYPES:
        if kind.name in known and kind.is_env_present():
            return kind.name, kind.get_process_count()
    return None
