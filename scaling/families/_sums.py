"""The sums from which a metric and its standard error follow; see `scaling.training.step.means`.

Examples are taken as independent of each other. They are drawn at random from the evaluation split, so this holds but for
windows of one document.
"""

import jax.numpy as jnp


def mean_sums(x):
    """(sum, count, sum of squares) of x [B], one number for each example: sums of a mean over examples."""
    x = x.astype(jnp.float32)
    return x.sum(), jnp.float32(x.size), jnp.square(x).sum()


def ratio_sums(a, b):
    """Sums of the ratio of two totals, such as bits over bytes, from a and b [B], one pair for each example.

    They are the sums of a and of b, the count, and the sums of a squared, of a b and of b squared.
    """
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return a.sum(), b.sum(), jnp.float32(a.size), jnp.square(a).sum(), (a * b).sum(), jnp.square(b).sum()
