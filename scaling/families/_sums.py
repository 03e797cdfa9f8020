"""What `evaluate` returns for a metric: two numbers for each example, from which follow the metric, its standard error and
that of its difference between two runs; see `scaling.training.evaluation.means`.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp


class Each(NamedTuple):
    """A metric is the ratio of the totals of `over` and `under`, float32 [B], one number for each example."""

    over: Any
    under: Any


def mean_of(x) -> Each:
    """The mean over examples of x [B]."""
    x = x.astype(jnp.float32)
    return Each(x, jnp.ones_like(x))


def ratio_of(a, b) -> Each:
    """The ratio of two totals, such as bits over bytes, from a and b [B]."""
    return Each(a.astype(jnp.float32), b.astype(jnp.float32))
