"""Layers in a loop: depth costs nothing to trace and compile."""

import functools

import jax
from sources import tiny

from scaling.training.step import TRUNK, init_state, train_step


def test_a_program_is_no_larger_for_a_model_of_64_layers_than_for_one_of_5():
    def lines(layers):
        e = tiny("transformer", **{"family.layers": layers, "family.scan": True, "family.length": 16})
        state = jax.eval_shape(lambda: init_state(e))
        batch = jax.eval_shape(lambda: {"tokens": e.family.example_batch(8, jax.random.key(0))["tokens"]})
        return jax.jit(functools.partial(train_step, e, TRUNK)).lower(state, batch).as_text().count("\n")

    assert lines(64) == lines(5)
