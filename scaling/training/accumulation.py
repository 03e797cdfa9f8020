"""Gradient accumulation: the size of a microbatch, chosen so that its activations fit into fast memory."""

import functools

import jax

from scaling.devices import chips, compilation, hosts, remembered
from scaling.devices.layouts import batch_shards
from scaling.fields import ConfigError

CPU_MEMORY = 2 * 2**30  # bytes per core that an evaluation may use
CPU_CACHE = 16 * 2**20  # bytes per core; set `microbatch` where the last level of cache is smaller
CPU_LEAST = 2  # examples, whatever fits: products of fewer rows lose more than the cache saves (S2 of tools.bench: 1.13)
SHARE_OF_MEMORY = 0.5  # of an accelerator's memory; the rest is for parameters and optimiser state


def accumulation_steps(experiment, mesh, runs: int) -> int:
    """The number of microbatches that a step accumulates gradients over.

    A microbatch has `experiment.microbatch` sequences per device. When that is 0, it has as many as were measured to be
    fastest (see `scaling.sweeps.measuring`), else as many as fit into the cache of a core on a CPU, but two at least, or
    into half of the memory of an accelerator. Raises ConfigError when the microbatch does not divide the batch.
    """
    rows = experiment.data.batch // batch_shards(mesh, experiment.layout)
    chosen = known_microbatch(experiment, mesh, runs)
    if chosen:
        if rows % chosen:
            fits = [n for n in range(1, rows + 1) if rows % n == 0]
            raise ConfigError(f"microbatch={chosen} does not divide the {rows} sequences of a device; "
                              f"write one of {', '.join(map(str, fits))}, or 0 for an automatic choice")
        return rows // chosen
    fit = max(_examples(experiment.family, mesh, runs, CPU_CACHE),
              CPU_LEAST if mesh.devices.flat[0].platform == "cpu" else 1)
    return rows // max(n for n in range(1, rows + 1) if rows % n == 0 and n <= fit)


def known_microbatch(experiment, mesh, runs: int) -> int:
    """The microbatch that the experiment names or that was measured for its shape, else 0."""
    return experiment.microbatch or measured(_microbatch_key(experiment, mesh, runs))


def measured(key: str) -> int:
    """A number that was measured on this machine, or 0; always 0 in jobs of several processes, which compile together."""
    return (remembered.recall(key) or 0) if hosts.process_count() == 1 else 0


def keep_microbatch(experiment, mesh, runs: int, found: int) -> None:
    """Keeps the microbatch that was measured to be fastest, for later programs of this shape on such devices."""
    remembered.remember(_microbatch_key(experiment, mesh, runs), found)


def _microbatch_key(experiment, mesh, runs) -> str:
    sizes = {axis: size for axis, size in mesh.shape.items() if size > 1}
    return f"microbatch {shape_key(experiment)} {runs} {sizes} {devices_key(mesh.devices.flat)}"


def shape_key(experiment) -> str:
    """Names what the speed of a step depends on: the model, the batch, the layout and the kind of optimiser."""
    e = experiment
    return f"{e.family!r} {e.data.batch} {e.data.feed} {e.layout} {e.optim.name} {'fast' if e.fast else 'plain'}"


def devices_key(devices) -> str:
    """Names the kind and the number of some devices; all CPUs are of one kind to JAX, so their processor is named too."""
    devices = list(devices)
    kind = f"cpu {compilation.processor()}" if devices[0].platform == "cpu" else devices[0].device_kind
    return f"{len(devices)} {kind}"


def examples_in_memory(family, mesh, runs: int) -> int:
    """The number of examples whose activations fit into the memory of a device, for all packed runs that it holds."""
    return _examples(family, mesh, runs, CPU_MEMORY)


def _examples(family, mesh, runs, on_cpu) -> int:
    each = activation_bytes(family) * runs // mesh.shape["run"] // mesh.shape["sequence"]
    return max(1, int(_budget(mesh.devices.flat[0], on_cpu) // max(1, each)))


@functools.lru_cache(maxsize=256)
def activation_bytes(family) -> int:
    """Bytes that one example keeps between its forward and its backward pass, for the largest player."""
    key = jax.random.key(0)
    params = jax.eval_shape(family.init, key)
    batch = dict(jax.eval_shape(lambda: family.example_batch(1, key)))
    batch |= {name: jax.ShapeDtypeStruct((1,), "int32") for name in ("example", "step")}

    held = {(x.shape, x.dtype) for x in jax.tree.leaves(params)}

    def residuals(name, loss):
        def kept(params, batch):
            return jax.vjp(lambda own: loss({**params, name: own}, batch, key)[0], params[name])[1]

        saved = jax.tree.leaves(jax.eval_shape(kept, params, batch))
        return sum(x.size * x.dtype.itemsize for x in saved if (x.shape, x.dtype) not in held)

    return max((residuals(name, loss) for name, loss in family.players()), default=0)


def _budget(device, on_cpu: float) -> float:
    if device.platform == "cpu":
        return on_cpu
    known = chips.memory(device.device_kind)
    return SHARE_OF_MEMORY * (known or (device.memory_stats() or {}).get("bytes_limit", 16 * 2**30))
