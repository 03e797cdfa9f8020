"""The check that a mesh divides an experiment: its batch, its parameters and its activations."""

import functools
import math

import jax
from jax.sharding import Mesh

from scaling import axes
from scaling.devices import sharding
from scaling.devices.layouts import EXAMPLES, LAYOUTS, batch_shards, find_layout, make_mesh, mesh_axes, shard_count
from scaling.fields import ConfigError

LEFT_WHOLE = 0.1  # of the parameters with an axis that a layout divides, this share may have sizes that do not divide


def check_divisible(experiment, mesh: Mesh):
    """Raise a ConfigError if the mesh does not divide the batch or the model. It names batch sizes or layouts that work."""
    shards, batch = batch_shards(mesh, experiment.layout), experiment.data.batch
    if batch % shards:
        down = batch // shards * shards
        raise ConfigError(f"data.batch={batch} cannot be divided among {shards} devices; write data.batch={down + shards}"
                          + (f" or {down}" if down else "") + ", or a mesh whose data, fsdp and expert axes divide it")
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
    cut = " x ".join(f"{axis}={mesh.shape[axis]}" for axis in mesh_axes(entry))
    raise ConfigError(f"axis {name!r} of {what}, of size {length}, cannot be divided among {cut} under layout="
                      f"{experiment.layout!r}; layouts that divide everything on {mesh.size} devices (mesh left out): "
                      f"{', '.join(work) or 'none'}; or give a mesh whose {' x '.join(mesh_axes(entry))} divides {length}")


def _indivisible(family, mesh, layout):
    """(axis name, size, mesh axes, "parameters" or "activations") of what a layout cannot divide, or None.

    Images have few channels and classes and networks have many features. A dimension of a parameter that does not divide
    therefore stays whole, as long as such parameters are a small share of the model. Activations on a coarse grid stay
    whole if those on the finest grid divide.
    """
    found, held, whole = find_layout(layout), {}, {}
    for shape, names in _parameters(family):
        for name, length in zip(names, shape):
            if name in found.params:
                held[name] = held.get(name, 0) + math.prod(shape)
                if length % shard_count(mesh, found.params[name]):
                    count, _ = whole.get(name, (0, 0))
                    whole[name] = count + math.prod(shape), length
    for name, (count, length) in whole.items():
        if count > LEFT_WHOLE * held[name]:
            return name, length, found.params[name], "parameters"
    cut = {name: entry for name, entry in found.activations.items()
           if name not in EXAMPLES and shard_count(mesh, entry) > 1}
    if cut:
        for name, length in _activations(family):
            if name in cut and length % shard_count(mesh, cut[name]):
                return name, length, cut[name], "activations"
    return None


@functools.lru_cache(maxsize=256)
def _parameters(family) -> tuple:
    """(shape, names of the axes) of every parameter."""
    params = jax.eval_shape(family.init, jax.random.key(0))
    named = zip(jax.tree.leaves(params), jax.tree.leaves(axes.names(params)), strict=True)
    return tuple((x.shape, names) for x, names in named)


@functools.lru_cache(maxsize=256)
def _activations(family) -> tuple[tuple[str, int], ...]:
    """(name, largest size) of every axis of activations that the losses of the family name."""
    key = jax.random.key(0)
    batch = dict(jax.eval_shape(lambda: family.example_batch(2, key)))
    batch |= {name: jax.ShapeDtypeStruct((2,), "int32") for name in ("example", "step")}
    params = jax.eval_shape(family.init, key)
    recording = sharding.RecordingPlacement()
    with sharding.placed(recording):
        for _, loss in family.players():
            # A new function for each loss, so that JAX does not take a trace without names from its cache.
            jax.eval_shape(lambda params, batch, loss=loss: loss(params, batch, key), params, batch)
    return tuple(recording.sizes.items())
