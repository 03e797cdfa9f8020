"""Numbers of half the bytes, bfloat16, between and within steps: what each of the fields of `Optim` about types changes.

* `parameters`: the losses get a copy of the parameters in this type, made once a step. The optimiser moves the float32
  ones, which are also what is averaged, evaluated and saved (Micikevicius et al. 1710.03740, section 3.1). The copy is made
  of the part of a parameter that a device holds, so that layouts that divide parameters gather half as many bytes.
* `second_moments`: the type in which Adam's are kept between steps; the step itself is float32.
* `reduction`: the type in which the gradients of the devices that divide a batch, and no parameter, are summed. "auto"
  sums what the products give, in the family's `dtype`, or float32 sums of microbatches.

`moments`, the type of first moments, is an argument of optax.
"""

import jax
import jax.numpy as jnp
import optax
from jax import lax


def lowered(params, kind: str):
    """A tree with its floating-point arrays in the type `kind`."""
    return jax.tree.map(lambda x: x.astype(kind) if jnp.issubdtype(x.dtype, jnp.floating) else x, params)


def raised(grads):
    """Gradients in float32, in which they are added up and given to the optimiser."""
    return lowered(grads, "float32")


def sum_of_parts(x, reduction: str):
    """x [parts, ...] summed over the parts, which lie on different devices; one part stays as it is."""
    if reduction != "bfloat16" or len(x) == 1:
        return x.sum(0)
    zero = jnp.zeros((), jnp.bfloat16)  # `jnp.sum` would add in float32 and send that
    return lax.reduce(x.astype(jnp.bfloat16), zero, lax.add, (0,)).astype(jnp.float32)


def keep_second_moments(tx: optax.GradientTransformation, kind: str) -> optax.GradientTransformation:
    """`tx`, whose state holds second moments under Adam's name `nu`, with these kept in the type `kind`."""
    if kind == "float32":
        return tx

    def kept(state, kind):
        return optax.tree_utils.tree_set(state, nu=lowered(optax.tree_utils.tree_get(state, "nu"), kind))

    def update(updates, state, params=None):
        updates, state = tx.update(updates, kept(state, "float32"), params)
        return updates, kept(state, kind)

    return optax.GradientTransformation(lambda params: kept(tx.init(params), kind), update)
