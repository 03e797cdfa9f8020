"""Named axes survive transforms and optimisers, and counts read them."""

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

from scaling import axes, families


class Table(nnx.Module):
    def __init__(self, draw):
        self.weight = axes.param(draw((3, 2)), ("vocab", "embed"))
        self.scale = axes.param(jnp.ones(2), ("embed",))


def params():
    return {name: nnx.state(axes.drawn(Table, jax.random.key(i))) for i, name in enumerate("ab")}


def test_names_have_the_structure_of_the_arrays():
    tree = params()
    assert jax.tree.structure(axes.names(tree)) == jax.tree.structure(tree)
    assert jax.tree.leaves(axes.names(tree)) == [("embed",), ("vocab", "embed")] * 2


def test_every_family_names_every_dimension_once():
    for cls in families.all():
        for array, names in _pairs(jax.eval_shape(cls.ladder(cls.sizes()[0]).init, jax.random.key(0))):
            assert len(names) == array.ndim and len(set(names)) == len(names), names


def test_optimiser_states_keep_the_names_and_counters_have_none():
    tree = params()
    for abstract in (False, True):
        state = jax.eval_shape(optax.adam(1e-3).init, tree) if abstract else optax.adam(1e-3).init(tree)
        seen = [(array.shape, names) for array, names in _pairs(state)]
        assert ((), ()) in seen
        assert seen.count(((3, 2), ("vocab", "embed"))) == 4  # two moments of two players


def test_names_survive_jit_grad_and_vmap():
    tree = params()
    out = jax.jit(jax.vmap(jax.grad(lambda p: sum(jnp.square(x).sum() for x in jax.tree.leaves(p)))))(
        jax.tree.map(lambda x: jnp.stack([x, x]), tree))
    assert axes.names(out) == axes.names(tree)
    assert axes.count_parameters(out) == axes.count_parameters(tree)  # the unnamed leading axis is a batch of runs


def test_map_sees_names_and_other_trees():
    tree = params()
    out = axes.tree_map_with_axes(lambda x, names, y: x - y + len(names), tree, tree)
    assert {float(x.max()) for x in jax.tree.leaves(out)} == {1.0, 2.0}
    assert axes.names(out) == axes.names(tree)


def test_count():
    assert axes.count_parameters(params()) == {"total": 16, "non_embedding": 4, "by_player": {"a": 8, "b": 8},
                                    "by_axes": {"vocab embed": 12, "embed": 4}}
    assert axes.count_parameters(jax.eval_shape(params)) == axes.count_parameters(params())


def test_stacking_equals_making_each():
    keys = jax.random.split(jax.random.key(0), 3)
    stacked = nnx.state(axes.stack(Table, keys))
    assert jax.tree.leaves(axes.names(stacked)) == [("layers", "embed"), ("layers", "vocab", "embed")]
    for i in range(3):
        single = nnx.state(axes.drawn(Table, keys[i]))
        for a, b in zip(jax.tree.leaves(stacked), jax.tree.leaves(single), strict=True):
            assert jnp.array_equal(a[i], b)


@pytest.mark.parametrize("at_once", [0, 10**6])
def test_drawn_numbers_are_standard_normal_and_all_different(at_once):
    made = axes.drawn(lambda draw: [draw((50, 20)), draw((1000,)), draw(())], jax.random.key(0), at_once)
    assert [x.shape for x in made] == [(50, 20), (1000,), ()]
    values = jnp.concatenate([x.ravel() for x in made])
    assert len(jnp.unique(values)) > 1990
    assert abs(float(values.mean())) < 0.1 and abs(float(values.std()) - 1) < 0.1


def test_a_wrong_number_of_names_and_a_nameless_parameter_are_refused():
    with pytest.raises(ValueError, match="needs 2 names"):
        axes.param(jnp.ones((2, 2)), ("embed",))
    with pytest.raises(ValueError, match="no axis names"):
        axes.names({"a": nnx.Param(jnp.ones(2))})


def test_an_unknown_family_is_refused_with_the_nearest_name():
    for cls in families.all():
        assert families.find(cls.__name__.upper()) is cls
    with pytest.raises(ValueError, match="nearest: transformer"):
        families.find("transfomer")


def _pairs(tree):
    found = []
    axes.tree_map_with_axes(lambda array, names: found.append((array, tuple(names))), tree)
    return found
