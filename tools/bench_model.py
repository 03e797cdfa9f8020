"""How fast the Transformer is on this machine, as ratios measured in one run.

    python -m tools.bench_model

prints the time of JAX's own attention over ours, and the training step of each size of the ladder (one run per device) as
a share of the rate of matrix products on the same devices. On a CPU there is one XLA device per core, as in
experiments.run. Run it on an idle machine.
"""

import os
import time

if not os.environ.get("JAX_PLATFORMS", "cpu").startswith(("gpu", "cuda", "tpu")):
    os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
                               f" --xla_force_host_platform_device_count={os.cpu_count()}")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jax import lax  # noqa: E402

from scaling import cost  # noqa: E402
from scaling.families.transformer import Transformer  # noqa: E402
from scaling.nn import attention  # noqa: E402
from scaling.training.program import options_for_many_calls  # noqa: E402

DEVICES = jax.devices()
MESH = jax.make_mesh((len(DEVICES),), ("run",), axis_types=(jax.sharding.AxisType.Auto,))
RUNS = jax.NamedSharding(MESH, jax.sharding.PartitionSpec("run"))


def seconds(body, carry, flops, repeats=3, rate=30e9):
    """Seconds of one `body(carry)` on every device at once: the best of several loops of about a second each."""
    times = max(2, int(rate / flops))
    carry = jax.device_put(jax.tree.map(lambda x: jnp.stack([x] * len(DEVICES)), carry), RUNS)
    loop = jax.jit(jax.vmap(lambda c: lax.fori_loop(0, times, lambda _, c: body(c), c)),
                   in_shardings=RUNS, out_shardings=RUNS).lower(carry).compile(options_for_many_calls())
    jax.block_until_ready(loop(carry))
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(loop(carry))
        best = min(best, (time.perf_counter() - start) / times)
    return best


def matmul_rate(size=512):
    """FLOP/s of chained square products per device, with all devices busy."""
    flops = 2 * size**3
    return flops / seconds(lambda c: (c[0] @ c[1], c[1]), (jnp.ones((size, size)), 0.9 * jnp.eye(size)), flops)


def step_seconds(family, batch):
    tokens = family.example_batch(batch, jax.random.key(1))["tokens"]

    def step(carry):
        params, tokens = carry
        grads = jax.grad(lambda p: family.loss(p, {"tokens": tokens}, None)[0])(params)
        return jax.tree.map(lambda p, g: p - 1e-3 * g, params, grads), tokens

    return seconds(step, (jax.jit(family.init)(jax.random.key(0)), tokens), cost.train_flops(family, batch))


def attention_seconds(implementation, batch, length, heads, size):
    qkv = tuple(jax.random.normal(jax.random.key(i), (batch, length, heads, size)) for i in range(3))

    def value(qkv):
        return jnp.square(attention.causal(*qkv, implementation)).sum()

    def step(qkv):
        return jax.tree.map(lambda x, g: x - 1e-6 * g, qkv, jax.grad(value)(qkv))

    return seconds(step, qkv, cost.flops(jax.grad(value), qkv))


def main():
    print(f"{len(DEVICES)} x {DEVICES[0].device_kind}, matrix products {matmul_rate() / 1e9:.0f} GFLOP/s each")
    print("attention, forward and backward, batch 4: time of JAX's own / ours")
    for length, heads, size in ((128, 2, 32), (256, 1, 32), (256, 2, 32), (256, 6, 32), (512, 4, 64)):
        library = attention_seconds("xla", 4, length, heads, size)
        ours = attention_seconds("auto", 4, length, heads, size)
        print(f"  length {length} heads {heads} x {size}: {library / ours:.2f}", flush=True)
    print("training step, length 256: GFLOP/s per device, and as a share of the rate of matrix products")
    for size in (5e3, 2.5e4, 1e5, 4e5, 1.5e6, 3e6):
        family = Transformer.ladder(size)
        for batch in (2, 8):
            rate = cost.train_flops(family, batch) / step_seconds(family, batch)
            print(f"  {size:.2g} ({family.width}x{family.layers}) batch {batch}: {rate / 1e9:.1f}, "
                  f"{rate / matmul_rate():.0%}", flush=True)


if __name__ == "__main__":
    main()
