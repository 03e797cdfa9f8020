"""Muon (Jordan et al. 2024): the momentum of a matrix is orthogonalised by five Newton-Schulz iterations.

The products of these iterations are most of Muon's work. `optim.orthogonalise` says how they are computed, never what:

* "plain" is optax's: every parameter by itself, and on every device that holds a copy of it;
* "auto" stacks the matrices of equal shape, divides the stack among the devices that hold copies, and gathers the results.
  Devices that hold parts of matrices exchange them for whole ones and back, instead of gathering in every iteration. Where
  products are exact to float32 and matrices are oblong, it iterates on the small matrices X X^T (see `_by_grams`).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from scaling import axes
from scaling.devices import sharding
from scaling.devices.layouts import mesh_axes

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # a, b, c of X <- a X + (b A + c A^2) X with A = X X^T
STEPS = 5
RESTART = 2  # the iteration before which X X^T is computed anew
# Matrices of a stack for each row from which on devices exchange parts for whole matrices. One device then iterates on one
# matrix, and others may have none. In that time a v5p gathers n/600 matrices of n rows as often as iterations need them.
EXCHANGED = 1 / 512
LARGE = 2**24  # elements of a parameter; XLA takes minutes to divide a concatenation of several such
RMS = 0.2  # root mean square of an update, that of Adam's (Liu et al. 2502.16982, equation 4)


class Matrices(NamedTuple):
    """How an array holds matrices: its dimensions, sorted into stacked ones, those of the input and those of the output."""

    stacked: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def matrices_of(names) -> Matrices | None:
    """The matrices of a parameter with these axes, or None for one that Muon leaves to Adam: all but hidden ones."""
    if axes.role(names) != "hidden":
        return None
    sides = [tuple(map(names.index, side)) for side in axes.sides(names)]
    return Matrices(tuple(i for i, name in enumerate(names) if name in axes.STACKED), *sides)


def make_muon(o) -> optax.GradientTransformation:
    """Muon for hidden matrices (`axes.role`), Adam for everything else, at a learning rate of 1.

    The orthogonalised update is scaled to the root mean square of Adam's, so that one learning rate serves both at the base
    width. `o` are the `Optim` fields of an experiment. The state does not depend on `o.orthogonalise`.
    """
    plain = optax.contrib.muon(1.0, beta=o.beta1, eps=o.epsilon, adam_b1=o.beta1, adam_b2=o.beta2, adam_learning_rate=1.0,
                               muon_weight_dimension_numbers=_dimensions, consistent_rms=RMS,
                               mu_dtype=o.moments)
    if o.orthogonalise == "plain" or sharding.plain():
        return plain
    # With no iterations, optax's is the momentum over its norm, and with the same parts around it the state is the same.
    momentum = optax.contrib.scale_by_muon(ns_steps=0, beta=o.beta1, eps=o.epsilon, mu_dtype=o.moments,
                                           weight_dimension_numbers=_dimensions)
    of_matrices = optax.chain(_then(momentum, orthogonalise), optax.identity(), optax.identity(), optax.scale(-1.0))
    of_others = optax.adamw(1.0, b1=o.beta1, b2=o.beta2, eps=o.epsilon, mu_dtype=o.moments, weight_decay=0.0,
                            nesterov=True)
    return optax.partition({"muon": of_matrices, "adam": of_others}, _labels)


def _dimensions(tree):
    def one(x, names):
        found = matrices_of(names)
        return found and optax.contrib.MuonDimensionNumbers(found.inputs, found.outputs)
    return axes.tree_map_with_axes(one, tree)


def _labels(tree):
    return axes.tree_map_with_axes(lambda x, names: "muon" if matrices_of(names) else "adam", tree)


def _then(transformation, function):
    """A transformation whose updates go through `function`."""
    def update(updates, state, params=None):
        updates, state = transformation.update(updates, state, params)
        return function(updates), state
    return optax.GradientTransformation(transformation.init, update)


# --------------------------------------------------------------------------------- orthogonalisation


def orthogonalise(tree):
    """Every parameter of a tree, whose matrices have a Frobenius norm of at most 1, orthogonalised and scaled to `RMS`.

    Matrices of equal shape, transposed ones included, are one stack. A large parameter, such as the matrices of all layers
    of a model of a billion parameters, is a stack by itself.
    """
    leaves, names = jax.tree.leaves(tree), jax.tree.leaves(axes.names(tree))
    stacks: dict = {}
    for index, (x, own) in enumerate(zip(leaves, names, strict=True)):
        found = matrices_of(own)
        order, cut, rows, columns = _smaller_side_first(x.shape, found)
        place = sharding.parameter_spec(own, x.shape)
        divided = _places(place, order, len(found.stacked), cut) if any(place) else ()
        alone = index if x.size > LARGE else None
        stacks.setdefault((rows, columns, divided, sharding.copies(own, x.shape), alone), []).append((index, order))
    out = list(leaves)
    for (rows, columns, divided, copies, _), members in stacks.items():
        parts = [leaves[index].transpose(order).reshape(-1, rows, columns) for index, order in members]
        done = jnp.concatenate(parts) if len(parts) > 1 else parts[0]
        if divided and divided[0] and len(done) >= EXCHANGED * rows:
            done = _exchanged(done, divided, copies)
        elif copies:
            done = sharding.divide_first(newton_schulz(sharding.divide_first(done, copies)), ())
        else:
            done = newton_schulz(done)
        ends = [sum(len(part) for part in parts[:i + 1]) for i in range(len(parts))]
        for (index, order), part in zip(members, jnp.split(done, ends[:-1])):
            shape = [leaves[index].shape[i] for i in order]
            inverse = sorted(range(len(order)), key=order.__getitem__)
            out[index] = part.reshape(shape).transpose(inverse) * (RMS * math.sqrt(columns))
    return jax.tree.unflatten(jax.tree.structure(tree), out)


def _smaller_side_first(shape, found: Matrices):
    """(order of the dimensions, where the columns begin, rows, columns) of matrices that have no more rows than columns."""
    rows, columns = (math.prod(shape[i] for i in side) for side in (found.inputs, found.outputs))
    if rows > columns:
        return (*found.stacked, *found.outputs, *found.inputs), len(found.stacked + found.outputs), columns, rows
    return (*found.stacked, *found.inputs, *found.outputs), len(found.stacked + found.inputs), rows, columns


def _places(place, order, stacked: int, cut: int):
    """((mesh axes of the rows, of the columns) or None, mesh axes of every dimension) of matrices of this order.

    A side of several dimensions is divided as one where only its first dimension is.
    """
    each = [place[i] for i in order]
    sides = each[stacked:cut], each[cut:]
    as_one = not any(each[:stacked]) and not any(entry for side in sides for entry in side[1:])
    return tuple(side[0] for side in sides) if as_one else None, tuple(each[stacked:])


def _exchanged(x, divided, copies):
    """Orthogonalised matrices [K, n, m] of which devices hold parts: every device computes some whole ones of them."""
    places, _ = divided
    holders = tuple(axis for entry in places for axis in mesh_axes(entry))
    every = holders + copies if len(x) > sharding.parts(holders) else holders
    more = -len(x) % sharding.parts(every)  # zeros, which stay zeros: a stack that divides is exchanged and not gathered
    # In one step from `places` to `every` or back, XLA would gather all of it on every device.
    whole = sharding.divide_first(jnp.pad(x, ((0, more), (0, 0), (0, 0))), holders, None, None)
    done = newton_schulz(sharding.divide_first(whole, every, None, None))
    return sharding.divide_first(sharding.divide_first(done, holders, None, None), (), *places)[:len(x)]


def newton_schulz(x):
    """Five quintic iterations of matrices [K, n, m], n <= m, with singular values of at most 1.

    Iterations on X take 20 n^2 m + 10 n^3 FLOPs, those on X X^T 8 n^2 m + 28 n^3.
    """
    rows, columns = x.shape[-2:]
    fewer = 8 * columns + 28 * rows < 20 * columns + 10 * rows
    return _by_grams(x) if fewer and sharding.platform() == "cpu" else _on_matrices(x)


def _on_matrices(x):
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x


def _by_grams(x):
    """The same iterations, X <- P X with P = a I + b A + c A^2, on A = X X^T <- P A P and on the product Q of all P alone.

    Eigenvalues of A that are zero become noise of the rounding, which every iteration makes twelve times larger. So Q is
    multiplied into X after two iterations and A is computed anew. The error in float32 is then that of iterations on X, as
    much as 3e-5 of matrices of low rank. With TF32 products it would be 0.06, so accelerators iterate on X.
    """
    a, b, c = COEFFICIENTS
    identity = jnp.eye(x.shape[-2], dtype=x.dtype)[None]
    for steps in (RESTART, STEPS - RESTART):
        gram, total = x @ x.mT, None
        for step in range(steps):
            factor = a * identity + b * gram + c * (gram @ gram)
            total = factor if total is None else factor @ total
            if step < steps - 1:
                gram = factor @ (gram @ factor)
        x = total @ x
    return x
