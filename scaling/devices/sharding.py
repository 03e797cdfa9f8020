"""Where arrays lie on a mesh: specs of parameters, and constraints on activations inside a traced program.

The tables of the layouts are in `scaling.devices.layouts`.
"""

import contextlib
import contextvars

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scaling import axes
from scaling.devices.layouts import EXAMPLES, Layout, find_layout, mesh_axes, shard_count

# ------------------------------------------------------------------- inside a program being traced


class Placement:
    """Decides where named activations of the program being traced lie. This base class is in force outside `within`:
    there is no mesh, and arrays lie where JAX puts them."""

    divided = False  # whether more than the batch and the packed runs is divided
    plain = False  # whether models take their plain form, whatever is fast

    def constrain(self, x, names):
        """x [one name a dimension], constrained to lie where the layout puts these axes."""
        return x

    def constrain_parameters(self, tree):
        """A tree of arrays with named axes, constrained to lie as parameters of the same names do."""
        return tree

    def shards(self, name: str) -> int:
        """The number of parts into which activations are divided along this axis."""
        return 1

    def on_each_device(self, function, arguments, names, out):
        """`function(*arguments)`, called by every device for its own part of arrays with these names of dimensions."""
        return function(*arguments)

    def parameter_spec(self, names, shape) -> tuple:
        """The mesh axes that divide each dimension of a parameter, None for a whole one."""
        return (None,) * len(names)

    def copies(self, names, shape) -> tuple[str, ...]:
        """The mesh axes along which devices hold copies of a parameter and divide the batch."""
        return ()

    def divide_first(self, x, over: tuple[str, ...], *rest):
        """x with its first dimension divided over these mesh axes, whole for none of them, and the others over `rest`."""
        return x

    def platform(self) -> str:
        return jax.default_backend()

    def batch_axes(self) -> tuple[str, ...]:
        """The mesh axes that divide the batch and no parameter."""
        return ()

    def parts(self, over=None) -> int:
        """The number of parts that these axes, or the mesh axes `over`, divide something into."""
        return 1


class MeshPlacement(Placement):
    """Activations and gradients lie where a layout puts their axes on a mesh, and `lead` divides what no model sees."""

    def __init__(self, mesh: Mesh, layout: Layout, lead: tuple[str, ...] = (), plain: bool = False):
        self.mesh, self.layout, self.lead, self.plain = mesh, layout, lead, plain
        entries = [*layout.params.values(), *(e for name, e in layout.activations.items() if name not in EXAMPLES)]
        self.divided = any(shard_count(mesh, entry) > 1 for entry in entries)

    def constrain(self, x, names):
        if not self.divided:
            return x
        if len(names) != x.ndim:
            raise ValueError(f"an activation of shape {x.shape} needs {x.ndim} names, not {names}")
        return self._constrain(self.layout.activations, x, names)

    def constrain_parameters(self, tree):
        if not (self.divided or self.lead):
            return tree
        return axes.tree_map_with_axes(lambda x, names: self._constrain(self.layout.params, x, names), tree)

    def shards(self, name):
        return shard_count(self.mesh, _free(self.layout.activations.get(name), self.lead))

    def on_each_device(self, function, arguments, names, out):
        uneven = any(length % self.shards(name) for name, length in zip(names[0], arguments[0].shape) if name)
        if self.mesh.size == 1 or uneven:  # one example, whose memory is measured, has no parts
            return function(*arguments)
        *specs, of = (_spec(self.mesh, self.layout.activations, n, x.shape, self.lead)
                      for n, x in zip((*names, out), (*arguments, arguments[0]), strict=True))
        return jax.shard_map(function, mesh=self.mesh, in_specs=tuple(specs), out_specs=of, check_vma=False)(*arguments)

    def parameter_spec(self, names, shape):
        return tuple(_spec(self.mesh, self.layout.params, names, shape))

    def copies(self, names, shape):
        used = {axis for entry in self.parameter_spec(names, shape) for axis in mesh_axes(entry)}
        return tuple(axis for axis in mesh_axes(self.layout.activations.get("batch"))
                     if axis not in used and self.mesh.shape[axis] > 1)

    def divide_first(self, x, over, *rest):
        rest = rest or [PartitionSpec.UNCONSTRAINED] * (x.ndim - 1)
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, PartitionSpec(over or None, *rest)))

    def platform(self):
        return self.mesh.devices.flat[0].platform

    def batch_axes(self):
        divided = {axis for entry in self.layout.params.values() for axis in mesh_axes(entry)}
        return tuple(axis for axis in mesh_axes(self.layout.activations.get("batch"))
                     if axis not in divided and self.mesh.shape[axis] > 1)

    def parts(self, over=None):
        return shard_count(self.mesh, self.batch_axes() if over is None else over)

    def _constrain(self, table, x, names):
        sharding = NamedSharding(self.mesh, _spec(self.mesh, table, names, x.shape, self.lead))
        return jax.lax.with_sharding_constraint(x, sharding)


class RecordingPlacement(Placement):
    """Moves nothing and records the largest size of each axis that activations name."""

    divided = True  # models take the path that names their activations

    def __init__(self):
        self.sizes: dict[str, int] = {}

    def constrain(self, x, names):
        self.record(names, x.shape)
        return x

    def record(self, names, shape):
        for name, length in zip(names, shape, strict=True):
            self.sizes[name] = max(self.sizes.get(name, 0), length)


class PlatformPlacement(Placement):
    """One device of a platform, which this machine need not have."""

    def __init__(self, platform: str, plain: bool = False):
        self._platform, self.plain = platform, plain

    def platform(self):
        return self._platform


_NO_MESH = Placement()
_PLACEMENT = contextvars.ContextVar("placement", default=_NO_MESH)


@contextlib.contextmanager
def placed(placement: Placement):
    """A context in which this placement is in force."""
    token = _PLACEMENT.set(placement)
    try:
        yield
    finally:
        _PLACEMENT.reset(token)


def within(mesh: Mesh, layout: str, plain: bool = False):
    """A context in which a program for this mesh is traced: `activation`, `divided`, `platform`, `plain` follow from it."""
    return placed(MeshPlacement(mesh, find_layout(layout), plain=plain))


def as_on(platform: str, plain: bool = False):
    """A context in which models are traced in the form that they have on one device of this platform: the fast one, or the
    plain one, in which no product is computed twice."""
    return placed(PlatformPlacement(platform, plain))


def divided() -> bool:
    """Whether the layout in force divides models. They then leave it to the partitioner how products are computed."""
    return _PLACEMENT.get().divided


def plain() -> bool:
    """Whether the program being traced takes its plain form: it is only counted, or its experiment is not `fast`."""
    return _PLACEMENT.get().plain


def shards(name: str) -> int:
    """The number of parts into which the layout in force divides activations along this axis, if its length divides."""
    return _PLACEMENT.get().shards(name)


def cuts(name: str) -> bool:
    """Whether the layout in force divides activations along this axis."""
    return shards(name) > 1


def platform() -> str:
    """The platform that the program being traced will run on, "cpu", "gpu" or "tpu"; this machine need not have it."""
    found = _PLACEMENT.get().platform()
    return {"cuda": "gpu", "rocm": "gpu"}.get(found, found)


def activation(x, *names):
    """x [one name a dimension], constrained to lie where the layout in force puts these axes."""
    return _PLACEMENT.get().constrain(x, names)


def on_each_device(function, arguments, names, out):
    """`function(*arguments)` where the compiler cannot divide it: every device calls it for its own part of the arguments,
    whose dimensions have the given names (None: whole). The result has the names `out` and the shape of the first one."""
    return _PLACEMENT.get().on_each_device(function, arguments, names, out)
def parameter_spec(names, shape) -> tuple:
    """The mesh axes that divide each dimension of a parameter with these axes in the layout in force."""
    return _PLACEMENT.get().parameter_spec(names, shape)


def copies(names, shape) -> tuple[str, ...]:
    """The mesh axes along which devices hold copies of a parameter with these axes and divide the batch."""
    return _PLACEMENT.get().copies(names, shape)


def divide_first(x, over: tuple[str, ...], *rest):
    """x with its first dimension divided over these mesh axes, or whole for none. It need not be a multiple of them. `rest`
    are those of the other dimensions, None for whole ones; without it the compiler chooses."""
    return _PLACEMENT.get().divide_first(x, over, *rest)


def like_parameters(tree):
    """A tree such as gradients, constrained to lie as parameters of the same names do."""
    return _PLACEMENT.get().constrain_parameters(tree)


def parts(over: tuple[str, ...] | None = None) -> int:
    """The number of parts that the mesh axes `over` make, or those along which a batch is divided and no parameter."""
    return _PLACEMENT.get().parts(over)


def map_parts(function, in_axes):
    """`function`, mapped over an axis of `parts()` parts of a batch. Every part stays on its own devices, so nothing of
    it is summed over the mesh before the caller sums over the axis of the results."""
    placement = _PLACEMENT.get()
    if not isinstance(placement, MeshPlacement):
        return jax.vmap(function, in_axes)
    lead = placement.batch_axes()

    def inside(*arguments):
        with placed(MeshPlacement(placement.mesh, placement.layout, lead, placement.plain)):
            return function(*arguments)
    return jax.vmap(inside, in_axes, spmd_axis_name=lead)


# ----------------------------------------------------------------------------- specs and shardings


def _free(entry, lead) -> tuple[str, ...]:
    """The mesh axes of an entry of a table that are not in `lead`."""
    return tuple(axis for axis in mesh_axes(entry) if axis not in lead)


def _spec(mesh, table, names, shape, lead=()) -> PartitionSpec:
    """A dimension is divided if the table names its axis and its size divides. A mesh axis divides one dimension only, and
    those of `lead` none of these."""
    used, out = set(), []
    for name, length in zip(names, shape, strict=True):
        wanted = _free(table.get(name), lead)
        if used & set(wanted) or length % shard_count(mesh, wanted):
            wanted = ()
        used |= set(wanted)
        out.append(wanted[0] if len(wanted) == 1 else wanted or None)
    return PartitionSpec(*out)


def spec(names, shape, mesh: Mesh, layout: str, packed: bool = True) -> PartitionSpec:
    """The spec of a parameter with these named axes. Dimensions before the named ones are those of packed runs."""
    lead = len(shape) - len(names)
    runs = ["run"] + [None] * (lead - 1) if packed and lead else [None] * lead
    return PartitionSpec(*runs, *_spec(mesh, find_layout(layout).params, names, shape[lead:]))


def shardings(tree, mesh: Mesh, layout: str, packed: bool = True):
    """NamedShardings for a tree of (abstract) arrays with named axes, such as a train state."""
    return axes.tree_map_with_axes(lambda x, names: NamedSharding(mesh, spec(names, x.shape, mesh, layout, packed)), tree)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def over_runs(mesh: Mesh) -> NamedSharding:
    """For arrays [runs, ...] of packed runs."""
    return NamedSharding(mesh, PartitionSpec("run"))


def over_batch(mesh: Mesh, layout: str, *lead) -> NamedSharding:
    """For arrays [*lead, batch, ...]; `lead` gives the mesh axis, or None, of each leading dimension."""
    return NamedSharding(mesh, PartitionSpec(*lead, find_layout(layout).activations.get("batch")))


def shard_batch(batch, mesh: Mesh, layout: str = "data"):
    """Every array of a batch, constrained to be divided along the batch. For use inside a traced function."""
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, over_batch(mesh, layout)), batch)
