"""Layouts and meshes: two tables from axis names to mesh axes, and the devices in order. Model files never see a device.

Of the tables of a layout one is for parameters (optimiser state carries their names and follows), one for activations.
Packed runs lie along the mesh axis `run` under every layout.

Axis types are Auto: the compiler's partitioner decides what no table names. With Explicit ones every operation of a
model would have to say how it treats a contraction over a divided axis.
"""

import dataclasses
import math
import os

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from scaling.devices import chips
from scaling.fields import ConfigError, nearest

MESH_AXES = ("run", "data", "fsdp", "sequence", "tensor")  # outermost first: neighbours in `tensor` are nearest
RESERVED = {"expert": "mixtures of experts", "stage": "pipelines"}


@dataclasses.dataclass(frozen=True)
class Layout:
    params: dict  # axis name -> mesh axis, or several
    activations: dict
    fill: str  # the mesh axis that takes the devices which the user leaves open


BATCH = {"batch": ("data", "fsdp")}
FSDP = {"embed": "fsdp", "channels_in": "fsdp"}
TENSOR = {"mlp": "tensor", "heads": "tensor", "kv_heads": "tensor", "vocab": "tensor", "channels_out": "tensor"}
WITHIN = {"mlp": "tensor", "heads": "tensor", "kv_heads": "tensor", "vocab": "tensor", "channels": "tensor"}
LONG = {"embed": ("fsdp", "sequence"), "channels_in": ("fsdp", "sequence")}
LAYOUTS = {
    "data": Layout({}, BATCH, "data"),
    "fsdp": Layout(FSDP, BATCH, "fsdp"),  # ZeRO-3 (Rajbhandari et al. 1910.02054)
    "tensor": Layout(TENSOR, BATCH | WITHIN, "tensor"),  # Megatron (Shoeybi et al. 1909.08053, figure 3)
    "fsdp_tensor": Layout(FSDP | TENSOR, BATCH | WITHIN, "fsdp"),
    # queries stay where their positions are, keys and values are gathered (Llama 3, 2407.21783, section 3.3.2)
    "sequence": Layout(LONG, BATCH | {"length": "sequence", "height": "sequence"}, "sequence"),
    "run": Layout({}, {}, "run"),  # every device trains runs of its own
    "replicated": Layout({}, {}, "data"),  # every device does all of it: to find out what a layout changes
}


def one_cpu_device_per_core():
    """Set XLA to one single-threaded CPU device a core; call before JAX starts. Accelerators are not affected.

    A mesh of such devices keeps every core busy at all times, which one device with many threads does not
    when the matrices are small.
    """
    chips.leave_absent_tpus_alone()
    if "JAX_PLATFORMS" in os.environ:
        jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])  # which JAX has read when it was imported
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        flags += f" --xla_force_host_platform_device_count={cores}"
    if "xla_cpu_multi_thread_eigen" not in flags:
        flags += " --xla_cpu_multi_thread_eigen=false"
    os.environ["XLA_FLAGS"] = flags.strip()


# -------------------------------------------------------------------------------------------- meshes


def find(layout: str) -> Layout:
    if layout not in LAYOUTS:
        raise ConfigError(f"layout={layout!r} is not known; {nearest(layout, LAYOUTS)}")
    return LAYOUTS[layout]


def parse_mesh(text: str) -> dict[str, int]:
    """`"data=4,tensor=2"` as a dict; one size may be -1, which is inferred from the number of devices."""
    sizes = {}
    for part in filter(None, text.replace(" ", "").split(",")):
        name, _, size = part.partition("=")
        if name in RESERVED:
            raise ConfigError(f"mesh axis {name!r} is reserved for {RESERVED[name]}, which no family has yet; leave it out")
        if name not in MESH_AXES:
            raise ConfigError(f"mesh axis {name!r} is not known; {nearest(name, MESH_AXES)}")
        if name in sizes:
            raise ConfigError(f"mesh={text!r} names {name} twice; write it once")
        if not size.lstrip("-").isdigit() or int(size) == 0 or int(size) < -1:
            raise ConfigError(f"mesh={text!r}: write sizes as {name}=4, or {name}=-1 for what is left")
        sizes[name] = int(size)
    if list(sizes.values()).count(-1) > 1:
        raise ConfigError(f"mesh={text!r} leaves two sizes open; write -1 once")
    return sizes


def mesh_sizes(devices: int, runs: int, mesh: str = "", layout: str = "data", slices: int = 1) -> dict[str, int]:
    """{mesh axis: size} for so many devices. What the text leaves open is filled: packed runs first, then data
    over the slices, then the layout's own axis, then the batch."""
    sizes, fill = parse_mesh(mesh), find(layout).fill
    fixed = math.prod(s for s in sizes.values() if s > 0)
    left, rest = divmod(devices, fixed)
    if rest:
        raise ConfigError(f"mesh={mesh!r} asks for a multiple of {fixed} devices, but there are {devices}")
    if -1 not in sizes.values():
        if "run" not in sizes:
            sizes["run"] = left if fill == "run" else math.gcd(runs, left)
            left //= sizes["run"]
        if slices > 1 and "data" not in sizes and sizes["run"] % slices and left % slices == 0:
            sizes["data"] = slices
            left //= slices
        if left > 1:
            free = next((axis for axis in (fill, "data") if axis not in sizes), None)
            if free is None and not parse_mesh(mesh).get("data"):
                free, left = "data", left * sizes["data"]
            if free is None:
                raise ConfigError(f"mesh={mesh!r} uses {devices // left} of {devices} devices; write {fill}=-1 to use them all")
            sizes[free] = left
    sizes = {axis: left if size == -1 else size for axis, size in sizes.items()}
    if runs % sizes.get("run", 1):
        raise ConfigError(f"{runs} packed runs cannot be divided among run={sizes['run']}; pack a multiple of it")
    return {axis: sizes.get(axis, 1) for axis in MESH_AXES}


def runs_at_once(devices: int, mesh: str = "", layout: str = "data") -> int:
    """How many runs a program trains unless the user says: what `run` is in the mesh; else one for each part of the devices
    that the other axes leave; and one in all where the layout divides models, or the batch (a -1) takes what is left."""
    sizes, fill = parse_mesh(mesh), find(layout).fill
    left = devices // math.prod(s for s in sizes.values() if s > 0)
    if "run" in sizes:
        return sizes["run"] if sizes["run"] > 0 else max(1, left)
    alone = -1 in sizes.values() or fill not in ("run", "data", *sizes)
    return 1 if alone else max(1, left)


def make_mesh(runs: int, mesh: str = "", layout: str = "data", devices=None) -> Mesh:
    """A mesh over the devices, see `mesh_sizes`. Several slices are joined along `data`, or along `run`: what crosses
    the network between them is as little as can be."""
    devices = list(jax.devices() if devices is None else devices)
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    sizes = mesh_sizes(len(devices), runs, mesh, layout, slices)
    shape = tuple(sizes.values())
    if slices > 1:
        across = next((axis for axis in ("data", "run") if sizes[axis] % slices == 0), None)
        if across is None:
            raise ConfigError(f"{slices} slices are joined along data or run; write data={slices} in the mesh, or a multiple")
        outer = tuple(slices if axis == across else 1 for axis in MESH_AXES)
        inner = tuple(n // over for n, over in zip(shape, outer))
        array = mesh_utils.create_hybrid_device_mesh(inner, outer, devices, allow_split_physical_axes=True)
    elif devices[0].platform == "tpu" and len(devices) > 1:  # neighbours in the mesh should be in the torus
        array = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    else:
        array = np.asarray(devices).reshape(shape)
    return Mesh(array, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def size(mesh: Mesh, entry) -> int:
    """Into how many parts an entry of a table (None, a mesh axis, or several) cuts a dimension."""
    return math.prod(mesh.shape[axis] for axis in several(entry))


def batch_shards(mesh: Mesh, layout: str) -> int:
    return size(mesh, find(layout).activations.get("batch"))


def several(entry) -> tuple[str, ...]:
    """An entry of a table as a tuple of mesh axes."""
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)
