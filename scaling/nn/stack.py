"""Stacked layers, one after another in a compiled loop."""

import jax
import jax.numpy as jnp
from jax import lax

from scaling import axes


def through_layers(layer, x, states, rows=None, unroll: int = 1):
    """(x after all layers, what each returned, stacked), by `layer(x, (state, row))` for each row of `states` and `rows`.

    The loop is `lax.scan`. Layers that are frozen have a loop of their own, in which their parameters are constants, so
    that no gradient is computed for them; see `axes.trainable_part`.
    """
    cut = axes.frozen_layers(len(jax.tree.leaves(states)[0]))
    if not cut:
        return lax.scan(layer, x, (states, rows), unroll=unroll)
    first, last = ([jax.tree.map(lambda y, part=part: y[part], tree) for tree in (states, rows)]
                   for part in (slice(cut), slice(cut, None)))
    x, found = lax.scan(layer, x, (lax.stop_gradient(first[0]), first[1]), unroll=min(unroll, cut))
    x, more = lax.scan(layer, x, tuple(last), unroll=unroll)
    return x, jax.tree.map(lambda *parts: jnp.concatenate(parts), found, more)
