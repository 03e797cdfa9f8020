"""What `evaluate` returns for a metric: two numbers for each example, from which follow the metric, its standard error and
that of its difference between two runs; see `scaling.training.evaluation`. `Whole` is a metric that is no such ratio.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp


class Each(NamedTuple):
    """A metric is the ratio of the totals of `over` and `under`, float32 [B], one number for each example."""

    over: Any
    under: Any


class Whole(NamedTuple):
    """A metric of all examples together, which `conclude` makes of their numbers: its value, float [...], and what each
    example adds to its error, float [..., examples], whose sum is zero; None for a metric without a standard error."""

    value: Any
    influence: Any = None


def mean_of(x) -> Each:
    """The mean over examples of x [B]."""
    x = x.astype(jnp.float32)
    return Each(x, jnp.ones_like(x))


def ratio_of(a, b) -> Each:
    """The ratio of two totals, such as bits over bytes, from a and b [B]."""
    return Each(a.astype(jnp.float32), b.astype(jnp.float32))


def excess_of(nats, batch, units) -> dict[str, Each]:
    """{"excess": bits beyond the true distribution, per unit}, or {} where the batch does not know the true distribution.

    `nats` [B] are the model's of each example, `units` [B] its bytes or dimensions, and batch["nats"], [B, ...], what the
    true distribution gives it, to be summed. The difference of the two on the same examples has hardly any noise.
    """
    if "nats" not in batch:
        return {}
    true = batch["nats"].astype(jnp.float32).reshape(len(nats), -1).sum(-1)
    return {"excess": ratio_of((nats - true) / math.log(2), units)}
