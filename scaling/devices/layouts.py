"""Layouts and meshes. A layout is two tables from axis names to mesh axes; a mesh is the devices in order.

One table is for parameters (optimiser state has the same axis names and follows them), the other for activations. Packed
runs lie along the mesh axis `run` under every layout. Model files never see a device.

Axis types are Auto: the compiler's partitioner decides about everything that no table names. With Explicit ones every
operation of a model would have to say how it treats a contraction over a divided axis.
"""

import dataclasses
import math

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from scaling.devices.cores import one_cpu_device_per_core as one_cpu_device_per_core  # notebooks find it here
from scaling.fields import ConfigError, nearest

MESH_AXES = ("run", "data", "fsdp", "expert", "sequence", "tensor")  # outermost first: neighbours in `tensor` are nearest
RESERVED = {"stage": "pipelines"}
EXAMPLES = ("batch", "routed")  # axes of activations that count examples: everywhere, and where experts compute


@dataclasses.dataclass(frozen=True)
class Layout:
    params: dict  # axis name -> mesh axis, or several
    activations: dict
    fill: str  # the mesh axis that takes the devices that the user does not assign


# Devices along `expert` have their own examples, and their own experts, to which the examples of all of them go.
BATCH = {"batch": ("data", "fsdp", "expert"), "routed": ("data", "fsdp"), "experts": "expert"}
EXPERT = {"experts": "expert"}
FSDP = {"embed": "fsdp", "channels_in": "fsdp", "state_in": "fsdp", "states": "fsdp"}
TENSOR = {"mlp": "tensor", "heads": "tensor", "kv_heads": "tensor", "vocab": "tensor", "tied_vocab": "tensor",
          "answer": "tensor", "channels_out": "tensor", "state": "tensor", "next_states": "tensor"}
WITHIN = {"mlp": "tensor", "heads": "tensor", "kv_heads": "tensor", "vocab": "tensor", "tied_vocab": "tensor",
          "answer": "tensor", "channels": "tensor", "state": "tensor"}
LONG = {name: ("fsdp", "sequence") for name in FSDP}
LAYOUTS = {
    "data": Layout(EXPERT, BATCH, "data"),
    "fsdp": Layout(EXPERT | FSDP, BATCH, "fsdp"),  # ZeRO-3 (Rajbhandari et al. 1910.02054)
    "tensor": Layout(EXPERT | TENSOR, BATCH | WITHIN, "tensor"),  # Megatron (Shoeybi et al. 1909.08053, figure 3)
    "fsdp_tensor": Layout(EXPERT | FSDP | TENSOR, BATCH | WITHIN, "fsdp"),
    # queries stay with their positions, keys and values are gathered (Llama 3, 2407.21783, section 3.3.2)
    "sequence": Layout(EXPERT | LONG, BATCH | {"length": "sequence", "height": "sequence"}, "sequence"),
    "run": Layout({}, {}, "run"),  # every device trains its own runs
    "replicated": Layout({}, {}, "data"),  # every device does all the work; for comparison with other layouts
}


# -------------------------------------------------------------------------------------------- meshes


def find_layout(layout: str) -> Layout:
    if layout not in LAYOUTS:
        raise ConfigError(f"layout={layout!r} is not known; {nearest(layout, LAYOUTS)}")
    return LAYOUTS[layout]


def parse_mesh(text: str) -> dict[str, int]:
    """`"data=4,tensor=2"` as a dict. One size may be -1; it is inferred from the number of devices."""
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
            raise ConfigError(f"mesh={text!r}: write sizes as {name}=4, or {name}=-1 for all remaining devices")
        sizes[name] = int(size)
    if list(sizes.values()).count(-1) > 1:
        raise ConfigError(f"mesh={text!r} leaves two sizes open; write -1 once")
    return sizes


def mesh_sizes(devices: int, runs: int, mesh: str = "", layout: str = "data", slices: int = 1) -> dict[str, int]:
    """{mesh axis: size} for a number of devices. Devices that the text `mesh` does not assign go to packed runs first, then
    to data over the slices, then to the layout's own axis, then to the batch."""
    sizes, fill = parse_mesh(mesh), find_layout(layout).fill
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
                raise ConfigError(f"mesh={mesh!r} uses {devices // left} of {devices} devices; write {fill}=-1 to "
                                  "use all of them")
            sizes[free] = left
    sizes = {axis: left if size == -1 else size for axis, size in sizes.items()}
    if runs % sizes.get("run", 1):
        raise ConfigError(f"{runs} packed runs cannot be divided among run={sizes['run']}; pack a multiple of it")
    return {axis: sizes.get(axis, 1) for axis in MESH_AXES}


def runs_at_once(devices: int, mesh: str = "", layout: str = "data") -> int:
    """How many runs one program trains if the user does not say: the size of `run` in the mesh if it is given, else the
    number of devices over the product of the other axes. It is 1 where the layout divides models, or where an axis of size
    -1 takes all remaining devices."""
    sizes, fill = parse_mesh(mesh), find_layout(layout).fill
    left = devices // math.prod(s for s in sizes.values() if s > 0)
    if "run" in sizes:
        return sizes["run"] if sizes["run"] > 0 else max(1, left)
    alone = -1 in sizes.values() or fill not in ("run", "data", *sizes)
    return 1 if alone else max(1, left)


def make_mesh(runs: int, mesh: str = "", layout: str = "data", devices=None) -> Mesh:
    """A mesh over the devices, with the sizes of `mesh_sizes`. Several slices are joined along `data` or along `run`, which
    send the least over the network between slices."""
    devices = list(jax.devices() if devices is None else devices)
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    sizes = mesh_sizes(len(devices), runs, mesh, layout, slices)
    shape = tuple(sizes.values())
    if slices > 1:
        across = next((axis for axis in ("data", "run") if sizes[axis] % slices == 0), None)
        if across is None:
            raise ConfigError(f"{slices} slices are joined along data or run; write data={slices}, or a multiple of it, in "
                              "the mesh")
        outer = tuple(slices if axis == across else 1 for axis in MESH_AXES)
        inner = tuple(n // over for n, over in zip(shape, outer))
        array = mesh_utils.create_hybrid_device_mesh(inner, outer, devices, allow_split_physical_axes=True)
    elif devices[0].platform == "tpu" and len(devices) > 1:  # neighbours in the mesh should be neighbours in the torus
        array = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    else:
        array = np.asarray(devices).reshape(shape)
    return Mesh(array, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def shard_count(mesh: Mesh, entry) -> int:
    """The number of shards that an entry of a table (None, a mesh axis, or several) cuts a dimension into."""
    return math.prod(mesh.shape[axis] for axis in mesh_axes(entry))


def batch_shards(mesh: Mesh, layout: str) -> int:
    return shard_count(mesh, find_layout(layout).activations.get("batch"))


def mesh_axes(entry) -> tuple[str, ...]:
    """An entry of a table as a tuple of mesh axes."""
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)
