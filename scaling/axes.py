"""Parameters with named axes.

A parameter is an `nnx.Param` whose metadata `axes` holds one name per dimension. The sharding layout, the width
multipliers of the parametrisation, the weight-decay mask and the parameter counts all read these names, so a model file
never mentions a device or an optimiser. If an array has more dimensions than names (a batch of runs made by `jax.vmap`),
the extra dimensions come first and have no name.
"""

import contextlib
import contextvars
import itertools
import math
import re

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.fields import ConfigError

TIED = "tied_vocab"  # the rows of a table that is also the readout
NOT_COUNTED = ("vocab", TIED, "position")  # lookup tables; Kaplan et al. 2020, arXiv:2001.08361, 2.1
LAYERS = "layers"  # the axis of layers that are alike
EXPERTS = "experts"  # the axis of experts, each of which is an MLP
STACKED = (LAYERS, "gates", EXPERTS)  # axes of equal parts, each of which is a parameter by itself
WIDTH_AXES = {"embed", "mlp", "heads", "kv_heads", "channels_in", "channels_out",
              "state_in", "state"}  # they grow with the model's width
LAST = re.compile(r"last:([1-9]\d{0,5})")  # a rule of `trainable_part`
ROLES = ("vector", "input", "hidden", "output", "tied")  # see `role`


class Axes(tuple):
    """The names of one array's axes. Pytree functions treat it as a leaf, since it is a subclass of tuple."""

    def __repr__(self):
        return f"Axes({', '.join(self)})"


def param(value, axes) -> nnx.Param:
    """A parameter with one axis name per dimension of `value` (an array or a `ShapeDtypeStruct`)."""
    axes = Axes(axes)
    if len(axes) != value.ndim:
        raise ValueError(f"a parameter of shape {value.shape} needs {value.ndim} names, not {tuple(axes)}")
    return nnx.Param(value, axes=axes)


class Buffer(nnx.Variable):
    """An array that a model saves and reads but that is none of its parameters: it follows from them, or indexes them."""


def buffer(value, axes) -> Buffer:
    """As `param`, for an array that no count of parameters includes."""
    return Buffer(value, axes=param(value, axes).get_metadata()["axes"])


def stack(make, keys, name="layers"):
    """The modules `drawn(make, key)` for all keys, stacked into one whose parameters have a first axis called `name`."""
    abstract = nnx.eval_shape(lambda: drawn(make, jax.random.key(0)))
    state = jax.vmap(lambda key: nnx.state(drawn(make, key)))(keys)

    def prepend(variable):
        return nnx.Param(variable.get_raw_value(), axes=Axes((name, *_names_of(variable))))

    return nnx.merge(nnx.graphdef(abstract), jax.tree.map(prepend, state, is_leaf=_is_variable))


def drawn(make, key, at_once=2**24):
    """`make(draw)`, where `draw(shape)` returns standard normals that depend on `key` and on the order of the calls.

    Up to `at_once` normals in total are one draw, cut into pieces. XLA's CPU backend takes about half a second to compile a
    random draw, so ten of them would take longer than the train step. Larger modules draw each array by itself. No array
    is then larger than a parameter, and each can be sharded.
    """
    shapes = []

    def record(shape):
        shapes.append(shape)
        return jnp.zeros(shape)

    nnx.eval_shape(lambda: make(record))
    sizes = [math.prod(shape) for shape in shapes]
    if sum(sizes) > at_once:
        keys = iter(jax.random.split(key, len(shapes)))
        return make(lambda shape: jax.random.normal(next(keys), shape))
    ends = list(itertools.accumulate(sizes))
    pieces = iter(jnp.split(jax.random.normal(key, ends[-1:]), ends[:-1]))
    return make(lambda shape: next(pieces).reshape(shape))


def names(tree):
    """The tree with each array replaced by its `Axes`. An array outside a `Param`, such as a counter, has empty ones.

    The structure is that of `tree`, so `jax.tree.map(f, tree, names(tree))` works. Optimiser states keep the names of the
    parameters they mirror, and so do trees of `ShapeDtypeStruct` or `NamedSharding`.
    """
    found = []
    for leaf in jax.tree.leaves(tree, is_leaf=_is_variable):
        if _is_variable(leaf):
            found += [_names_of(leaf)] * len(jax.tree.leaves(leaf))
        else:
            found.append(Axes())
    return jax.tree.unflatten(jax.tree.structure(tree), found)


def tree_map_with_axes(f, tree, *rest):
    """`jax.tree.map` with a function that also gets the names: `f(array, axes, *others)` for each array of `tree`."""
    return jax.tree.map(f, tree, names(tree), *rest)


# ------------------------------------------------------------------------------------------- roles


def role(names, bias: bool = False) -> str:
    """What a parameter with these axes does as the model grows wider, one of `ROLES` (Yang et al. 2203.03466, table 8):

    * "vector": a bias, a gain or any other parameter of less than two axes;
    * "input": only its outputs grow. Tables, and maps from pixels, latents or positions;
    * "hidden": both sides grow;
    * "output": only its inputs grow. Logits, pixels, the parameters of priors and posteriors, the score of a critic;
    * "tied": a table of tokens that is the readout as well.

    The parametrisation of learning rates reads nothing else: see `scaling.experiment.parametrization`.
    """
    inner = [name for name in names if name not in STACKED]
    if bias or len(inner) < 2:
        return "vector"
    if inner[0] in NOT_COUNTED:
        return "tied" if inner[0] == TIED else "input"
    inputs, outputs = (any(name in WIDTH_AXES for name in side) for side in sides(names))
    return "hidden" if inputs and outputs else "output" if inputs else "input"


def roles(tree):
    """The tree with the `role` of each parameter in its place. A bias is known by its name, "bias"."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    found = [role(own, _is_bias(path)) for path, own in zip(paths, jax.tree.leaves(names(tree)), strict=True)]
    return jax.tree.unflatten(jax.tree.structure(tree), found)


def sides(names) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(axes of the inputs, axes of the outputs) of a matrix, without stacked ones.

    It maps the axis "embed" to all others where "embed" comes first, and else all others to the last: ("embed", "heads",
    "head_dim") is embed x (heads head_dim), and a convolution (height width channels_in) x channels_out.
    """
    inner = tuple(name for name in names if name not in STACKED)
    cut = 1 if inner[0] == "embed" else len(inner) - 1
    return inner[:cut], inner[cut:]


def width(names, shape) -> int:
    """The size that says how wide the model is at a parameter: that of "embed", or else of its first growing axis with the
    dimensions of its heads; 0 where nothing grows. `shape` may have leading axes without a name, such as that of runs."""
    sizes = dict(zip(names, shape[len(shape) - len(names):], strict=True))
    growing = [name for name in names if name in WIDTH_AXES]
    if "embed" in growing or not growing:
        return sizes.get("embed", 0)
    return sizes[growing[0]] * (sizes.get("head_dim", 1) if growing[0] in ("heads", "kv_heads") else 1)


def is_matrix(names) -> bool:
    """True for the axes of parameters with two or more besides stacked ones."""
    return len([n for n in names if n not in STACKED]) >= 2


def matrices(tree):
    """The tree with True for every matrix and False for all else: weight decay applies to matrices.

    A bias is none whatever its axes: that of a map to heads has "heads" and "head_dim". It is known by its name, "bias".
    """
    found = [is_matrix(axes) and not _is_bias(path) for (path, _), axes in zip(
        jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(names(tree)), strict=True)]
    return jax.tree.unflatten(jax.tree.structure(tree), found)


def _is_bias(path) -> bool:
    return any(getattr(key, "key", getattr(key, "name", None)) == "bias" for key in path)


# ------------------------------------------------------------------------------------ trainable parts


def trainable_part(params, rule: str):
    """The part of a player's parameters that trains; the places of the rest are empty.

    * "all": everything;
    * "head": the modules that have an output (`role`) outside of stacked layers, with their biases and norms. A module is
      named by the first part of a path;
    * "last:2": the last two layers of every stack, and the head where there is one.

    Raises ConfigError for another rule, and for parameters without such a part.
    """
    if rule == "all":
        return params
    parts = [x[_last(x, own, count)] if count else x if count is None else None
             for x, own, count in _with_counts(params, rule)]
    return jax.tree.unflatten(jax.tree.structure(params), parts)


def with_trainable_part(params, part, rule: str):
    """A player's parameters with the part that trains replaced by `part`, of the form that `trainable_part` gives."""
    if rule == "all":
        return part
    new = iter(jax.tree.leaves(part))
    whole = [x.at[_last(x, own, count)].set(next(new)) if count else next(new) if count is None else x
             for x, own, count in _with_counts(params, rule)]
    return jax.tree.unflatten(jax.tree.structure(params), whole)


_LAST: contextvars.ContextVar[int | None] = contextvars.ContextVar("last", default=None)


@contextlib.contextmanager
def training(rule: str):
    """A context in which a loss is traced of which the gradients of the `trainable_part` alone are wanted."""
    last = LAST.fullmatch(rule)
    token = _LAST.set(int(last[1]) if last else None)
    try:
        yield
    finally:
        _LAST.reset(token)


def frozen_layers(count: int) -> int:
    """How many of `count` stacked layers, the first ones, are constants in the loss that is being traced."""
    last = _LAST.get()
    return 0 if last is None else max(0, count - last)


def _with_counts(params, rule) -> list[tuple]:
    """[(array, its axes, how many of its last layers train)]: 0 where it is frozen, None where all of it trains."""
    last = LAST.fullmatch(rule)
    if rule != "head" and last is None:
        raise ConfigError(f"optim.trainable={rule!r} is not known; write all, head, or last: and a number of layers, such "
                          "as last:2")
    modules = [str(path[0]) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    leaves = list(zip(modules, *map(jax.tree.leaves, (params, names(params), roles(params))), strict=True))
    stacks = [(module, x.shape[_stacked(x, own)]) for module, x, own, _ in leaves if LAYERS in own]
    heads = {module for module, _, _, found in leaves if found == "output"} - dict(stacks).keys()
    if last is None and not heads:
        raise ConfigError(f"optim.trainable={rule!r}: this model has no output of its own outside of layers, as where a "
                          "table of tokens is the readout; write all, or last: and a number of layers")
    count, least = int(last[1]) if last else 0, min((layers for _, layers in stacks), default=0)
    if count > least:
        has = f"a stack of {least} layers; write at most last:{least}" if least else "no stack of layers; write all"
        raise ConfigError(f"optim.trainable={rule!r}: this model has {has}, or head")
    return [(x, own, None if module in heads else count if LAYERS in own else 0) for module, x, own, _ in leaves]


def _stacked(x, own) -> int:
    """The dimension of an array that counts layers."""
    return x.ndim - len(own) + own.index(LAYERS)


def _last(x, own, count: int) -> tuple:
    """The place of the last `count` layers of an array."""
    at = _stacked(x, own)
    return (slice(None),) * at + (slice(x.shape[at] - count, None),)


# ------------------------------------------------------------------------------------------- counts


def count_parameters(params) -> dict:
    """Number of parameters: {"total", "non_embedding", "by_player": {name: int}, "by_axes": {"embed mlp": int}}.

    Non-embedding parameters are those without an axis of `NOT_COUNTED`, as Kaplan et al. 2020 count N. Unnamed leading
    dimensions (a batch of runs) are left out, so this is the count of one run; so are buffers. Takes arrays or abstract
    arrays.
    """
    by_player, by_axes, non_embedding = {}, {}, 0
    for player, subtree in params.items():
        subtree = [x for x in jax.tree.leaves(subtree, is_leaf=_is_variable) if not isinstance(x, Buffer)]
        arrays = zip(jax.tree.leaves(subtree), jax.tree.leaves(names(subtree)), strict=True)
        for array, axes in arrays:
            size = math.prod(array.shape[array.ndim - len(axes):])
            by_player[player] = by_player.get(player, 0) + size
            by_axes[" ".join(axes)] = by_axes.get(" ".join(axes), 0) + size
            if not set(axes) & set(NOT_COUNTED):
                non_embedding += size
    total = sum(by_player.values())
    return {"total": total, "non_embedding": non_embedding, "by_player": by_player, "by_axes": by_axes}


def _is_variable(leaf):
    return isinstance(leaf, nnx.Variable)


def _names_of(variable):
    axes = variable.get_metadata().get("axes")
    if axes is None:
        raise ValueError(f"{type(variable).__name__} of shape {variable.shape} has no axis names; make "
                         "parameters with scaling.axes.param(value, axes=(...))")
    return Axes(axes)
