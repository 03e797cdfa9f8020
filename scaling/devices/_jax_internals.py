"""The private parts of JAX that this package needs. No other file of the package may import `jax._src`.

JAX has no public name for the key-value store of its coordination service (Orbax uses the same private one), nor for its
detection of clusters, nor for another kind of cache of compiled programs than its own.
"""

import jax

try:
    import jax._src.distributed as _distributed
    from jax._src.clusters import ClusterEnv

    _CLUSTER_TYPES = ClusterEnv._cluster_types
    _distributed.global_state.client  # noqa: B018 - raises AttributeError if it is gone
except (ImportError, AttributeError) as error:
    raise ImportError(f"JAX {jax.__version__} lacks a private part that jobs of several processes need ({error}); "
                      "install an older JAX, or adapt scaling/devices/_jax_internals.py to the new name") from error


def distributed_state():
    """The state of `jax.distributed`: `client` of the coordination service (None in a process on its own), `num_processes`,
    `process_id`.

    The client has a key-value store and barriers. It does not touch the devices, so it works before a backend starts.
    """
    return _distributed.global_state


def detect_cluster(known) -> tuple[str, int] | None:
    """(name, number of processes) of the first kind of cluster among the names `known` that this process runs in."""
    for kind in _CLUSTER_TYPES:
        if kind.name in known and kind.is_env_present():
            return kind.name, kind.get_process_count()
    return None


def use_program_cache(make) -> bool:
    """Lets JAX keep compiled programs in `make(directory)`, which has `get` and `put`. False where this JAX cannot."""
    try:
        from jax._src import compilation_cache
        compilation_cache.get_file_cache  # noqa: B018 - raises AttributeError if it is gone
    except (ImportError, AttributeError):
        return False
    compilation_cache.get_file_cache = lambda path: (make(path), path)  # pyrefly: ignore[bad-assignment]
    return True
