"""Stacked layers, one after another in a compiled loop."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from scaling import axes
from scaling.nn.taps import tap, tapping


def through_layers(layer, x, states, rows=None, unroll: int = 1):
    """(x after all layers, what each returned, stacked), by `layer(x, (state, row))` for each row of `states` and `rows`.

    The loop is `lax.scan`. Layers that are frozen have a loop of their own, in which their parameters are constants, so
    that no gradient is computed for them; see `axes.trainable_part`. Where taps are open, layers run one after another.
    """
    if tapping():
        return _one_by_one(layer, x, states, rows)
    cut = axes.frozen_layers(len(jax.tree.leaves(states)[0]))
    if not cut:
        return lax.scan(layer, x, (states, rows), unroll=unroll)
    first, last = ([jax.tree.map(lambda y, part=part: y[part], tree) for tree in (states, rows)]
                   for part in (slice(cut), slice(cut, None)))
    x, found = lax.scan(layer, x, (lax.stop_gradient(first[0]), first[1]), unroll=min(unroll, cut))
    x, more = lax.scan(layer, x, tuple(last), unroll=unroll)
    return x, jax.tree.map(lambda *parts: jnp.concatenate(parts), found, more)


def _one_by_one(layer, x, states, rows) -> tuple[Any, Any]:
    """The same without a loop, with the place "residual" before the first layer and after each; see `taps`."""
    x, found = (x if x is None else tap("residual", x)), []
    for number in range(len(jax.tree.leaves(states)[0])):
        x, more = layer(x, jax.tree.map(lambda y, number=number: y[number], (states, rows)))
        x = x if x is None else tap("residual", x)
        found.append(more)
    return x, jax.tree.map(lambda *parts: jnp.stack(parts), *found)
