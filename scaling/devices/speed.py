"""The speed of matrix products on this machine, measured."""

import platform
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from scaling.devices import remembered

HOUR = 3600  # seconds for which a measured rate is kept


def known_matmul_rate() -> float:
    """`matmul_rate`, measured at most once an hour on these devices, since every study asks before it begins."""
    devices = jax.local_devices()
    key = f"matmul_rate {platform.node()} {len(devices)} of {jax.device_count()} {devices[0].device_kind} {jax.__version__}"
    rate, measured = remembered.recall(key) or (0.0, 0.0)
    if not 0 <= time.time() - measured < HOUR:
        rate = matmul_rate()
        remembered.remember(key, [rate, time.time()])
    return rate


def matmul_rate(size: int = 1024, seconds: float = 0.3, clock: Callable[[], float] = time.perf_counter) -> float:
    """FLOP/s of matrix products on all devices together, float32 on CPU and bfloat16 elsewhere: that of the best call.

    Other work on the machine slows single calls down; `time.process_time` as the clock leaves it out, on one core.
    """
    devices = jax.local_devices()  # the devices of other hosts are assumed to be as fast
    dtype = jnp.float32 if devices[0].platform == "cpu" else jnp.bfloat16
    mesh = jax.make_mesh((len(devices),), ("all",), devices=devices, axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("all"))
    x = jax.device_put(jnp.ones((len(devices), size, size), dtype), sharding)
    repeat = jax.jit(lambda x: jax.lax.fori_loop(0, 4, lambda _, y: jnp.einsum("dij,djk->dik", y, x) / size, x))
    jax.block_until_ready(repeat(x))
    took, start = [], clock()
    while sum(took) < seconds:
        jax.block_until_ready(repeat(x))
        start, before = clock(), start
        took.append(start - before)
    return 4 * 2 * size**3 * jax.device_count() / min(took)
