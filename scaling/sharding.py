"""Meshes and layouts: where each named axis lies. Model files never see a device.

A layout is two tables from axis names to mesh axes, one for parameters (optimiser state carries their names and
follows) and one for activations. Packed runs lie along the mesh axis `run` under every layout.

Axis types are Auto: the compiler's partitioner decides what no table names. With Explicit ones every operation of a
model would have to say how it treats a contraction over a divided axis.
"""

import contextlib
import contextvars
import dataclasses
import functools
import math
import os

import jax
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from scaling import axes
from scaling.fields import ConfigError, nearest

MESH_AXES = ("run", "data", "fsdp", "sequence", "tensor")  # outermost first: neighbours in `tensor` are nearest
RESERVED = {"expert": "mixtures of experts", "stage": "pipelines"}
LEFT_WHOLE = 0.1  # of the parameters with an axis that a layout divides, so much may have sizes that it cannot divide


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
    return math.prod(mesh.shape[axis] for axis in _tuple(entry))


def batch_shards(mesh: Mesh, layout: str) -> int:
    return size(mesh, find(layout).activations.get("batch"))


def _tuple(entry):
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)


# -------------------------------------------------------------------------------- what fits a mesh


def check(experiment, mesh: Mesh):
    """Raise a ConfigError where a size does not divide, with what would: sizes for the batch, else layouts."""
    shards, batch = batch_shards(mesh, experiment.layout), experiment.data.batch
    if batch % shards:
        down = batch // shards * shards
        raise ConfigError(f"data.batch={batch} cannot be divided among {shards} devices; write data.batch={down + shards}"
                          + (f" or {down}" if down else "") + ", or a mesh whose data and fsdp axes divide it")
    wrong = _indivisible(experiment.family, mesh, experiment.layout)
    if wrong is None:
        return
    name, length, entry, what = wrong
    runs, work = mesh.shape["run"], []
    for layout in LAYOUTS:
        try:
            other = make_mesh(runs, "", layout, mesh.devices.flat)
        except ConfigError:
            continue
        if batch % batch_shards(other, layout) == 0 and _indivisible(experiment.family, other, layout) is None:
            work.append(layout)
    cut = " x ".join(f"{axis}={mesh.shape[axis]}" for axis in _tuple(entry))
    raise ConfigError(f"axis {name!r} of {what}, of size {length}, cannot be divided among {cut} under layout="
                      f"{experiment.layout!r}; layouts that divide everything on {mesh.size} devices (mesh left out): "
                      f"{', '.join(work) or 'none'}; or give a mesh in which {' x '.join(_tuple(entry))} divides {length}")


def _indivisible(family, mesh, layout):
    """(axis name, size, mesh axes, "parameters" or "activations") of what a layout cannot divide, or None.

    Image channels or classes are few where features are many: a parameter's dimension that does not divide is left
    whole as long as little of the model is. Coarse grids are left whole where the finest divides.
    """
    found, held, whole = find(layout), {}, {}
    for shape, names in _parameters(family):
        for name, length in zip(names, shape):
            if name in found.params:
                held[name] = held.get(name, 0) + math.prod(shape)
                if length % size(mesh, found.params[name]):
                    count, _ = whole.get(name, (0, 0))
                    whole[name] = count + math.prod(shape), length
    for name, (count, length) in whole.items():
        if count > LEFT_WHOLE * held[name]:
            return name, length, found.params[name], "parameters"
    if set(found.activations) - {"batch"}:
        for name, length in _activations(family):
            entry = found.activations.get(name)
            if name != "batch" and length % size(mesh, entry):
                return name, length, entry, "activations"
    return None


@functools.lru_cache(maxsize=256)
def _parameters(family) -> tuple:
    params = jax.eval_shape(family.init, jax.random.key(0))
    named = zip(jax.tree.leaves(params), jax.tree.leaves(axes.names(params)), strict=True)
    return tuple((x.shape, names) for x, names in named)


@functools.lru_cache(maxsize=256)
def _activations(family) -> tuple[tuple[str, int], ...]:
    """The largest size of each axis of activations that the losses of the family name."""
    found: dict[str, int] = {}
    token = _HERE.set(functools.partial(_note, found))
    try:
        key = jax.random.key(0)
        batch = dict(jax.eval_shape(lambda: family.example_batch(2, key)))
        batch |= {name: jax.ShapeDtypeStruct((2,), "int32") for name in ("example", "step")}
        for _, loss in family.players():
            # a function of its own, so that no trace without names is found in a cache
            jax.eval_shape(lambda params, batch, loss=loss: loss(params, batch, key), jax.eval_shape(family.init, key), batch)
    finally:
        _HERE.reset(token)
    return tuple(found.items())


def _note(found, x, names):
    for name, length in zip(names, x.shape, strict=True):
        found[name] = max(found.get(name, 0), length)
    return x


# ------------------------------------------------------------------- inside a program being traced

_HERE = contextvars.ContextVar("what becomes of named activations", default=None)
_MESH = contextvars.ContextVar("the mesh in force", default=None)


@contextlib.contextmanager
def within(mesh: Mesh, layout: str):
    """While a program for this mesh is traced: `activation` and `platform` go by it."""
    mesh_token = _MESH.set((mesh, find(layout)))
    here = functools.partial(_constrain, mesh, find(layout)) if divides(mesh, layout) else None
    token = _HERE.set(here)
    try:
        yield
    finally:
        _HERE.reset(token)
        _MESH.reset(mesh_token)


def divides(mesh: Mesh, layout: str) -> bool:
    """Whether the layout cuts more than the batch and the packed runs on this mesh."""
    found = find(layout)
    entries = [*found.params.values(), *(e for name, e in found.activations.items() if name != "batch")]
    return any(size(mesh, entry) > 1 for entry in entries)


def divided() -> bool:
    """`divides` of what is in force: models then leave it to the partitioner how products are done."""
    return _HERE.get() is not None


def cuts(name: str) -> bool:
    """Whether the layout in force divides activations along this axis."""
    here = _MESH.get()
    return here is not None and size(here[0], here[1].activations.get(name)) > 1


def platform() -> str:
    """"cpu", "gpu" or "tpu": what the program being traced will run on, which need not be at hand."""
    here = _MESH.get()
    found = jax.default_backend() if here is None else here[0].devices.flat[0].platform
    return {"cuda": "gpu", "rocm": "gpu"}.get(found, found)


def activation(x, *names):
    """x [one name a dimension], lying where the layout in force puts these axes; x itself where there is none."""
    here = _HERE.get()
    return x if here is None else here(x, names)


def like_parameters(tree):
    """The tree, gradients for instance, lying as parameters of the same names do."""
    if not divided():
        return tree
    mesh, layout = _MESH.get()

    def one(x, names):
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, _spec(mesh, layout.params, names, x.shape)))
    return axes.tree_map_with_axes(one, tree)


def _constrain(mesh, layout, x, names):
    if len(names) != x.ndim:
        raise ValueError(f"an activation of shape {x.shape} needs {x.ndim} names, not {names}")
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, _spec(mesh, layout.activations, names, x.shape)))


def _spec(mesh, table, names, shape) -> PartitionSpec:
    """A dimension is cut where the table names its axis and the size divides; a mesh axis cuts one dimension only."""
    used, out = set(), []
    for name, length in zip(names, shape, strict=True):
        wanted = _tuple(table.get(name))
        if used & set(wanted) or length % size(mesh, wanted):
            wanted = ()
        used |= set(wanted)
        out.append(wanted[0] if len(wanted) == 1 else wanted or None)
    return PartitionSpec(*out)


def spec(names, shape, mesh: Mesh, layout: str, packed: bool = True) -> PartitionSpec:
    """Where a parameter of these named axes lies. Dimensions before the named ones are the packed runs'."""
    lead = len(shape) - len(names)
    runs = ["run"] + [None] * (lead - 1) if packed and lead else [None] * lead
    return PartitionSpec(*runs, *_spec(mesh, find(layout).params, names, shape[lead:]))


def shardings(tree, mesh: Mesh, layout: str, packed: bool = True):
    """NamedShardings for a tree of (abstract) arrays with named axes, a train state for instance."""
    return axes.tree_map_with_axes(lambda x, names: NamedSharding(mesh, spec(names, x.shape, mesh, layout, packed)), tree)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def over_runs(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec("run"))


def over_batch(mesh: Mesh, layout: str, *lead) -> NamedSharding:
    """For arrays [*lead, batch, ...]; `lead` says along which mesh axes, or None, the leading dimensions lie."""
    return NamedSharding(mesh, PartitionSpec(*lead, find(layout).activations.get("batch")))


def shard_batch(batch, mesh: Mesh, layout: str = "data"):
    """Constrain every array of a batch to lie along the batch axes, inside a traced function."""
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, over_batch(mesh, layout)), batch)


# ------------------------------------------------------------------------ hosts and their devices


def place(tree, lies):
    """Global arrays from host values that every process holds alike. `lies` is a sharding, or a tree of them."""
    lies = jax.tree.map(lambda _: lies, tree) if isinstance(lies, jax.sharding.Sharding) else lies
    return jax.tree.map(lambda x, s: jax.make_array_from_callback(x.shape, s, lambda index: x[index]), tree, lies)


def local(lies: NamedSharding, shape) -> tuple[range, ...]:
    """For each dimension, what this process's devices hold of an array of that shape: the range around all of it."""
    indices = lies.addressable_devices_indices_map(tuple(shape)).values()
    spans = [[index[i].indices(length)[:2] for index in indices] for i, length in enumerate(shape)]
    return tuple(range(min(a for a, _ in span), max(b for _, b in span)) for span in spans)


def place_local(x, lies: NamedSharding, shape):
    """The global array of which this process holds `x`, what `local(lies, shape)` says in the leading dimensions."""
    starts = [r.start for r in local(lies, shape)]

    def read(index):
        here = [slice(s.indices(n)[0] - start, s.indices(n)[1] - start) for s, n, start in zip(index, shape, starts)]
        return x[(*here, *index[len(starts):])]
    return jax.make_array_from_callback((*shape, *x.shape[len(starts):]), lies, read)


def fetch(tree):
    """NumPy values of arrays that may lie on several hosts, the same in every process; all must call it together."""
    def one(x):
        if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
            return np.asarray(x)
        return multihost_utils.process_allgather(x, tiled=True)
    return jax.tree.map(one, tree)
