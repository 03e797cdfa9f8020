"""An optimiser that moves joined parameters does what it does to them one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sources import tiny

from scaling.training import joined, optim
from scaling.training.step import TRUNK, init_state, train_step


def moved(e, state, name, grads, joining):
    """(updates, optimiser state) of a player, with its parameters held as `joining` says."""
    tx = optim.make_optimiser(e, TRUNK, joining.kinds)
    arguments = (joining.join(part) for part in (grads, state.opt[name], state.params[name]))
    return joining.split(tx.update(*arguments))


@pytest.mark.parametrize("member,small", [("transformer", joined.SMALL), ("transformer", 50), ("gan", joined.SMALL)])
def test_joined_parameters_move_as_they_do_one_by_one(monkeypatch, member, small):
    monkeypatch.setattr(joined, "SMALL", small)
    e = tiny(member, **{"optim.clip": 0.5, "optim.weight_decay": 0.3, "optim.table_rate": 3.0})
    state = jax.eval_shape(lambda: init_state(e))
    draw = np.random.default_rng(0)
    state = jax.tree.map(lambda x: jnp.asarray(draw.uniform(1, 2, x.shape), x.dtype), state)
    for name, own in state.params.items():
        grads = jax.tree.map(lambda x: jnp.asarray(draw.normal(size=x.shape), x.dtype), own)
        joining = optim.joining(e, own)
        arrays = len(joining.groups)
        assert arrays < len(jax.tree.leaves(own)) and (small > 50 or arrays > 4)
        ways = [jax.jit(functools.partial(moved, e, state, name, joining=how))(grads) for how in (joining, joined.Apart())]
        assert jax.tree.structure(ways[0]) == jax.tree.structure(ways[1])
        for a, b in zip(*map(jax.tree.leaves, ways), strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=2e-6)


def test_only_elementwise_optimisers_on_whole_parameters_are_joined():
    e = tiny("transformer")
    params = jax.eval_shape(lambda: init_state(e)).params["model"]
    assert isinstance(optim.joining(e, params), joined.Joining)
    assert isinstance(optim.joining(e.replace({"optim.name": "muon"}), params), joined.Apart)


def test_a_program_is_no_larger_for_a_model_of_64_layers_than_for_one_of_5():
    def lines(layers):
        e = tiny("transformer", **{"family.layers": layers, "family.scan": True, "family.length": 16})
        state = jax.eval_shape(lambda: init_state(e))
        batch = jax.eval_shape(lambda: {"tokens": e.family.example_batch(8, jax.random.key(0))["tokens"]})
        return jax.jit(functools.partial(train_step, e, TRUNK)).lower(state, batch).as_text().count("\n")

    assert lines(64) == lines(5)
