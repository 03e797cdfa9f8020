"""Recurrences over the steps of a sequence: one with a matrix, step by step, and a linear one, as a parallel scan."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from scaling.devices import sharding


def recur(step, inputs, weight, bias, states, unroll=1):
    """The states after every step of `states = step(states, input, states[0] @ weight + bias)`: a tuple of [B, S, *state].

    `inputs` [B, S, *input] are what the steps read, `weight` is [H, *recurrent], `bias` [*recurrent] or None, and `states`
    a tuple of float32 arrays, the first of which is [B, H]. `step` is a function of its arguments alone. The product has
    the type of `weight`, and its result is float32. `unroll` steps are one iteration of the compiled loop.

    The backward pass takes the gradient of `weight` as one product over all steps (Appleyard et al. 2016,
    arXiv:1604.01946), where JAX's own would add a product to a sum in every step. The plain form
    (`sharding.plain`) is a loop with JAX's own.
    """
    return (_plain if sharding.plain() else _fast)(step, inputs, weight, bias, states, unroll)


def _plain(step, inputs, weight, bias, states, unroll):
    def one(states, x):
        states = step(states, x, _product(states[0], weight, bias))
        return states, states

    after = lax.scan(one, states, inputs.swapaxes(0, 1), unroll=unroll)[1]
    return jax.tree.map(lambda x: x.swapaxes(0, 1), after)


def _product(state, weight, bias):
    found = jnp.tensordot(state.astype(weight.dtype), weight, 1, preferred_element_type=jnp.float32)
    return found if bias is None else found + bias.astype(jnp.float32)[None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 5))
def _fast(step, inputs, weight, bias, states, unroll):
    return _forward(step, inputs, weight, bias, states, unroll)[0]


def _forward(step, inputs, weight, bias, states, unroll):
    def one(carry, t):
        states, after, products = carry
        found = _product(states[0], weight, bias)
        states = step(states, _at(inputs, t), found)
        return (states, jax.tree.map(functools.partial(_put, t), after, states), _put(t, products, found)), None

    batch, length = inputs.shape[:2]
    after = jax.tree.map(lambda x: jnp.zeros((batch, length, *x.shape[1:])), states)
    products = jnp.zeros((batch, length, *weight.shape[1:]))
    (_, after, products), _ = lax.scan(one, (states, after, products), jnp.arange(length), unroll=unroll)
    return after, (inputs, weight, bias, states, after, products)


def _backward(step, unroll, saved, d_after):
    inputs, weight, bias, states, after, products = saved
    before = jax.tree.map(lambda first, rest: jnp.concatenate([first[:, None], rest[:, :-1]], 1), states, after)
    transposed = _laid_out(jnp.moveaxis(weight, 0, -1))  # once, and not in every step

    def one(carry, t):
        d_states, d_inputs, d_products = carry
        states, x, found, d_here = (jax.tree.map(lambda x: _at(x, t), tree) for tree in (before, inputs, products, d_after))
        _, backward = jax.vjp(step, states, x, found)
        (d_first, *d_rest), d_x, d_found = backward(jax.tree.map(jnp.add, d_states, d_here))
        d_found = d_found.astype(weight.dtype)
        d_first += jnp.tensordot(d_found, transposed, weight.ndim - 1, preferred_element_type=jnp.float32)
        return ((d_first, *d_rest), _put(t, d_inputs, d_x), _put(t, d_products, d_found)), None

    start = jax.tree.map(jnp.zeros_like, states), jnp.zeros_like(inputs), jnp.zeros(products.shape, weight.dtype)
    (d_states, d_inputs, d_products), _ = lax.scan(one, start, jnp.arange(inputs.shape[1]), reverse=True, unroll=unroll)
    read = _laid_out(jnp.moveaxis(before[0].astype(weight.dtype), -1, 0))
    d_weight = jnp.tensordot(read, d_products, 2)
    d_bias = None if bias is None else d_products.sum((0, 1), dtype=bias.dtype)
    return d_inputs, d_weight, d_bias, d_states


_fast.defvjp(_forward, _backward)


def _at(x, t):
    """Step t of x [B, S, ...]."""
    return lax.dynamic_index_in_dim(x, t, 1, keepdims=False)


def _put(t, x, new):
    """x [B, S, ...] with `new` as step t."""
    return lax.dynamic_update_index_in_dim(x, new.astype(x.dtype), t, 1)


def _laid_out(x):
    """A transposed array, written to memory on CPU, where products with transposes folded into them are slow."""
    return lax.optimization_barrier(x) if sharding.platform() == "cpu" else x


def linear_scan(log_keep, log_new, log_state=None):
    """The logarithm of the states h_t = keep_t h_(t-1) + new_t, all positive, as a parallel scan: float32 [B, S, H].

    `log_keep` and `log_new` are float32 [B, S, H]. `log_state` [B, H] is the logarithm of the state before the first step;
    without it that state is 0. Sums are of logarithms, so that products of many small numbers do not underflow (Heinsen
    2023, arXiv:2311.06281; Feng et al. 2024, arXiv:2410.01201, appendix B).
    """
    def joined(first, second):
        (keep, new), (next_keep, next_new) = first, second
        return keep + next_keep, jnp.logaddexp(next_keep + new, next_new)

    kept, found = lax.associative_scan(joined, (log_keep, log_new), axis=1)
    return found if log_state is None else jnp.logaddexp(kept + log_state[:, None], found)
