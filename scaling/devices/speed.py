"""How fast matrix products are here."""

import time

import jax
import jax.numpy as jnp


def matmul_rate(size: int = 1024, seconds: float = 0.3) -> float:
    """FLOP/s that float32 (on CPU) or bfloat16 matrix products reach on all devices together."""
    devices = jax.local_devices()  # those of other hosts are taken to be like these
    dtype = jnp.float32 if devices[0].platform == "cpu" else jnp.bfloat16
    mesh = jax.make_mesh((len(devices),), ("all",), devices=devices, axis_types=(jax.sharding.AxisType.Auto,))
    lies = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("all"))
    x = jax.device_put(jnp.ones((len(devices), size, size), dtype), lies)
    repeat = jax.jit(lambda x: jax.lax.fori_loop(0, 4, lambda _, y: jnp.einsum("dij,djk->dik", y, x) / size, x))
    jax.block_until_ready(repeat(x))
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        jax.block_until_ready(repeat(x))
        calls += 1
    return calls * 4 * 2 * size**3 * jax.device_count() / (time.perf_counter() - start)
