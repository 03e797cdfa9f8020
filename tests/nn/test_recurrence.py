"""Recurrences: the loop with its own backward pass is its steps in turn, and the parallel scan is the sequential one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from scaling import cost
from scaling.devices import sharding
from scaling.nn import recurrence

B, S, H = 3, 7, 5


def two_states(states, x, recurrent):
    h, c = states
    c = jnp.tanh(c + x[:, 0] + recurrent[:, 0])
    return c * jax.nn.sigmoid(x[:, 1] * recurrent[:, 1] + h), c


def plainly(step, inputs, weight, bias, states, unroll):
    """Every step in Python."""
    after = []
    for t in range(S):
        found = jnp.tensordot(states[0], weight, 1)
        states = step(states, inputs[:, t], found if bias is None else found + bias[None])
        after.append(states)
    return tuple(jnp.stack(each, 1) for each in zip(*after))


def of_plain_programs(*arguments):
    with sharding.as_on("cpu", plain=True):
        return recurrence.recur(*arguments)


@pytest.mark.parametrize("unroll,with_bias", [(1, True), (3, False), (S, True)])
def test_loops_and_their_gradients_are_those_of_the_steps(unroll, with_bias):
    rng = np.random.default_rng(0)
    inputs, weight, bias, first, second = (rng.normal(size=shape).astype(np.float32) for shape in (
        (B, S, 2, H), (H, 2, H), (2, H), (B, H), (B, H)))

    @functools.partial(jax.jit, static_argnums=0)
    def both(recur, inputs, weight, bias, states):
        def value(*arguments):
            after = recur(two_states, *arguments, unroll)
            return sum(jnp.sin(jnp.arange(x.size).reshape(x.shape) * x).sum() for x in after), after
        differentiated = (0, 1, 3) if bias is None else (0, 1, 2, 3)
        return jax.value_and_grad(value, differentiated, has_aux=True)(inputs, weight, bias, states)

    arguments = inputs, weight, bias if with_bias else None, (first, second)
    wanted = both(plainly, *arguments)
    for recur in (recurrence.recur, of_plain_programs):
        jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=2e-4, atol=2e-5), both(recur, *arguments), wanted)


def test_the_backward_pass_executes_two_products_for_each_of_the_forward_pass():
    inputs, weight = jnp.zeros((B, S, 2, H)), jnp.zeros((H, 2, H))

    def value(weight):
        return recurrence.recur(two_states, inputs, weight, None, (jnp.zeros((B, H)),) * 2)[0].sum()

    forward = cost.flops(value, weight)
    assert forward == 2 * B * S * H * 2 * H and cost.flops(jax.grad(value), weight) == 3 * forward


@pytest.mark.parametrize("start", [False, True])
def test_the_parallel_scan_is_the_sequential_recurrence(start):
    rng = np.random.default_rng(1)
    keep, new = rng.uniform(0, 1, (B, 50, H)), rng.uniform(0, 3, (B, 50, H))
    h, wanted = rng.uniform(0, 2, (B, H)) * start, []
    log_state = jnp.log(jnp.float32(h)) if start else None
    for t in range(50):
        h = keep[:, t] * h + new[:, t]
        wanted.append(h)
    found = recurrence.linear_scan(jnp.log(jnp.float32(keep)), jnp.log(jnp.float32(new)), log_state)
    assert_allclose(jnp.exp(found), np.stack(wanted, 1), rtol=1e-5)


def test_the_parallel_scan_survives_what_underflows():
    """256 steps that each keep a thousandth: products of so many are below every float32."""
    log_keep = jnp.full((1, 256, 1), jnp.log(1e-3))
    value, slope = jax.jit(jax.value_and_grad(lambda x: recurrence.linear_scan(x, jnp.zeros_like(x)).mean()))(log_keep)
    assert_allclose(value, 255 / 256 * np.log(1 / (1 - 1e-3)), rtol=1e-3)
    assert np.isfinite(slope).all()
