"""Where every array lies: what divides, specs of parameters, activations inside a traced program, arrays of several hosts.

The tables are in `scaling.devices.layouts`.
"""

import contextlib
import contextvars
import functools
import math

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scaling import axes
from scaling.devices.layouts import (  # noqa: F401
    LAYOUTS,
    MESH_AXES,
    batch_shards,
    find,
    make_mesh,
    mesh_sizes,
    one_cpu_device_per_core,
    parse_mesh,
    several,
    size,
)
from scaling.fields import ConfigError

LEFT_WHOLE = 0.1  # of the parameters with an axis that a layout divides, so much may have sizes that it cannot divide


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
    cut = " x ".join(f"{axis}={mesh.shape[axis]}" for axis in several(entry))
    raise ConfigError(f"axis {name!r} of {what}, of size {length}, cannot be divided among {cut} under layout="
                      f"{experiment.layout!r}; layouts that divide everything on {mesh.size} devices (mesh left out): "
                      f"{', '.join(work) or 'none'}; or give a mesh in which {' x '.join(several(entry))} divides {length}")


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
_PLATFORM = contextvars.ContextVar("the platform that models are traced for, if not that of the mesh", default=None)


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


@contextlib.contextmanager
def as_on(name: str):
    """Models traced inside take the form that they have on one device of this platform, whichever is at hand."""
    tokens = _PLATFORM.set(name), _HERE.set(None), _MESH.set(None)
    try:
        yield
    finally:
        for variable, token in zip((_PLATFORM, _HERE, _MESH), tokens, strict=True):
            variable.reset(token)


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
    if _PLATFORM.get() is not None:
        return _PLATFORM.get()
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
        wanted = several(table.get(name))
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
