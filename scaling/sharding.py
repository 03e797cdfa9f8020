"""Meshes and layouts: where each named axis lies. Model files never see this.

A layout is a table from axis name to mesh axis. Optimiser state follows the parameters, because it carries
their names. Batches lie along `data` and `fsdp`, packed runs along `run`.
"""

import math
import os

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from scaling import axes
from scaling.experiment import ConfigError, nearest

MESH_AXES = ("run", "data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")
FSDP = {"embed": "fsdp", "channels_in": "fsdp"}
TENSOR = {"mlp": "tensor", "heads": "tensor", "kv_heads": "tensor", "vocab": "tensor", "channels_out": "tensor"}
LAYOUTS = {"replicated": {}, "fsdp": FSDP, "tensor": TENSOR, "fsdp_tensor": FSDP | TENSOR}


def one_cpu_device_per_core():
    """Set XLA to one single-threaded CPU device a core; call before JAX starts. Accelerators are not affected.

    A mesh of such devices keeps every core busy at all times, which one device with many threads does not
    when the matrices are small.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        flags += f" --xla_force_host_platform_device_count={cores}"
    if "xla_cpu_multi_thread_eigen" not in flags:
        flags += " --xla_cpu_multi_thread_eigen=false"
    os.environ["XLA_FLAGS"] = flags.strip()


def parse_mesh(text: str) -> dict[str, int]:
    """`"data=4,tensor=2"` as a dict; one size may be -1, which is inferred from the number of devices."""
    sizes = {}
    for part in filter(None, text.replace(" ", "").split(",")):
        name, _, size = part.partition("=")
        if name not in MESH_AXES:
            raise ConfigError(f"mesh axis {name!r} is not known; {nearest(name, MESH_AXES)}")
        if not size.lstrip("-").isdigit() or int(size) == 0 or int(size) < -1:
            raise ConfigError(f"mesh={text!r}: write sizes as {name}=4, or {name}=-1 for what is left")
        sizes[name] = int(size)
    return sizes


def make_mesh(runs: int, mesh: str = "", layout: str = "replicated", devices=None) -> Mesh:
    """A mesh over the devices. What the text leaves open is filled: packed runs first, then what the layout
    shards parameters over, then the batch."""
    devices = jax.devices() if devices is None else devices
    sizes = parse_mesh(mesh)
    if layout not in LAYOUTS:
        raise ConfigError(f"layout={layout!r} is not known; {nearest(layout, LAYOUTS)}")
    fixed = math.prod(s for s in sizes.values() if s > 0)
    left, rest = divmod(len(devices), fixed)
    if rest:
        raise ConfigError(f"mesh={mesh!r} asks for a multiple of {fixed} devices, but there are {len(devices)}")
    if "run" not in sizes and -1 not in sizes.values():
        sizes["run"] = math.gcd(runs, left)
        left //= sizes["run"]
    open_axis = next((a for a, s in sizes.items() if s == -1), None)
    if open_axis is None and left > 1:
        wanted = [a for a in LAYOUTS[layout].values() if a not in sizes] + ["data"]
        open_axis = wanted[0]
        if open_axis in sizes:
            raise ConfigError(f"mesh={mesh!r} uses {len(devices) // left} of {len(devices)} devices; write "
                              f"{open_axis}=-1 to use them all")
    if open_axis:
        sizes[open_axis] = left
    shape = [sizes.get(a, 1) for a in MESH_AXES]
    if runs % shape[0]:
        raise ConfigError(f"{runs} packed runs cannot be divided among run={shape[0]}; pack a multiple of it")
    return Mesh(np.asarray(devices).reshape(shape), MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def check(experiment, mesh: Mesh):
    """Raise a ConfigError where a size does not divide, with the sizes that would."""
    shards = math.prod(mesh.shape[a] for a in BATCH_AXES)
    if experiment.data.batch % shards:
        down = experiment.data.batch // shards * shards
        raise ConfigError(f"data.batch={experiment.data.batch} cannot be divided among {shards} devices; write "
                          f"data.batch={down + shards}" + (f" or {down}" if down else "")
                          + ", or a mesh whose data and fsdp axes divide it")
    params = jax.eval_shape(lambda: experiment.family.init(jax.random.key(0)))

    def one(x, names):
        for name, size in zip(names, x.shape):
            axis = LAYOUTS[experiment.layout].get(name)
            if axis and size % mesh.shape[axis]:
                fits = [k for k, v in LAYOUTS.items() if v.get(name) is None or size % mesh.shape[v[name]] == 0]
                raise ConfigError(f"axis {name!r} of size {size} cannot be divided among {axis}={mesh.shape[axis]} under "
                                  f"layout={experiment.layout!r}; layouts that divide it: {', '.join(fits)}")
    axes.tree_map_with_axes(one, params)


def spec(names, ndim, layout: str, packed: bool) -> PartitionSpec:
    """Where an array of these named axes lies. Dimensions before the named ones are the packed runs'."""
    table, used, out = LAYOUTS[layout], set(), []
    for name in names:
        axis = table.get(name)
        out.append(axis if axis not in used else None)  # a mesh axis can shard one dimension only
        used.add(axis)
    lead = ndim - len(names)
    return PartitionSpec(*(["run"] if packed and lead else []), *[None] * (lead - (packed and lead > 0)), *out)


def shardings(tree, mesh: Mesh, layout: str, packed: bool = True):
    """NamedShardings for a tree of (abstract) arrays with named axes, a train state for instance."""
    return axes.tree_map_with_axes(
        lambda x, names: NamedSharding(mesh, spec(names, len(x.shape), layout, packed)), tree)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def over_runs(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec("run"))


def shard_batch(batch, mesh: Mesh):
    """Constrain every array of a batch to lie along the batch axes, inside a traced function."""
    def one(x):
        return jax.lax.with_sharding_constraint(
            x, NamedSharding(mesh, PartitionSpec(BATCH_AXES, *[None] * (x.ndim - 1))))
    return jax.tree.map(one, batch)
