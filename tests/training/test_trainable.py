"""`optim.trainable`: what is frozen keeps its bits, has no optimiser state and costs no gradients, in every family."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sources import ExampleSource, tiny

from scaling import axes, cost, families
from scaling.fields import ConfigError
from scaling.training.program import Program, options_for_one_call
from scaling.training.step import TRUNK, init_state, train_step

# One family with one player and one with two; others repeat what the paths of their parameters tell.
FAMILIES = [pytest.param(name, marks=[] if name in ("transformer", "gan") else [pytest.mark.slow])
            for name in map(families.name, families.all()) if not families.is_solved(families.find(name))]
E = tiny("transformer", **{"optim.trainable": "last:1", "optim.ema": 0.5, "optim.name": "muon"})


def quick(function):
    return jax.jit(function, compiler_options=options_for_one_call())


def train(pack, devices=1, mesh=""):
    """(losses [runs, steps], parameters) of a pack after four steps, and the parameters before."""
    e = pack[0]
    program = Program(e, ExampleSource(e.family, e.data.batch), len(pack), mesh, 4, jax.devices()[:devices])
    before = program.init(pack)
    first = jax.tree.map(np.asarray, before.params)
    state, metrics = program.advance(before, pack, [TRUNK] * len(pack), 4)
    return np.asarray(metrics["loss"]), jax.tree.map(np.asarray, state.params), first


@pytest.fixture(scope="module")
def plain():
    return train([E])


@functools.cache
def fresh(family):
    return quick(family.init)(jax.random.key(0))


def trains(family, rule):
    """Whether all players of a family have such a part; each that has none says so in one sentence."""
    said = []
    for own in fresh(family).values():
        try:
            axes.trainable_part(own, rule)
        except ConfigError as error:
            said.append(str(error))
    assert all(text.startswith(f"optim.trainable={rule!r}: this model has ") and "; write " in text for text in said)
    return not said


def entries(params, rule):
    """{path: (array, whether each of its entries trains)} of one player."""
    @quick
    def marks():
        part = jax.tree.map(lambda x: jnp.full(x.shape, True), axes.trainable_part(params, rule))
        return axes.with_trainable_part(jax.tree.map(lambda x: jnp.full(x.shape, False), params), part, rule)

    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    return dict(zip(paths, zip(jax.tree.leaves(params), map(np.asarray, jax.tree.leaves(marks())))))


@pytest.mark.parametrize("name", FAMILIES)
def test_frozen_parameters_keep_their_bits_and_have_no_state(name):
    e = tiny(name, **{"optim.ema": 0.5})
    rule = next((rule for rule in ("last:1", "head") if trains(e.family, rule)), None)
    if rule is None:
        pytest.skip("it has no part to train")
    e = e.replace({"optim.trainable": rule})
    source = ExampleSource(e.family, e.data.batch)
    before = quick(lambda: init_state(e))()
    step, after = quick(lambda state, batch: train_step(e, TRUNK, state, batch)[0]), before
    for index in range(2):
        after = step(after, source.slice({}, 0, index))
    for player, own in before.params.items():
        found = entries(own, rule)
        for tree in (after.params, after.ema):
            still = 0  # such as the bias of a score of which only differences count
            for (path, (x, trained)), now in zip(found.items(), jax.tree.leaves(tree[player]), strict=True):
                moved = np.asarray(x) != np.asarray(now)
                assert not moved[~trained].any(), path
                still += trained.any() and not moved[trained].any()
            assert still <= 1
        part = sum(int(trained.sum()) for _, trained in found.values())
        assert part < sum(x.size for x in jax.tree.leaves(own)) or name == "associative"
        assert sum(x.size for x in jax.tree.leaves(after.opt[player]) if x.ndim) == 2 * part


def test_what_head_and_last_mean_follows_from_the_names_of_axes():
    deep = families.find("transformer")(vocab=32, length=16, width=16, layers=3)
    head, last = (entries(fresh(deep)["model"], rule) for rule in ("head", "last:2"))
    assert {path.split("'")[1] for path, (_, trained) in head.items() if trained.any()} == {"readout"}
    assert {path.split("'")[1] for path, (_, trained) in last.items() if trained.any()} == {"readout", "layers"}
    _, trained = next(value for path, value in last.items() if "up" in path)
    assert not trained[0].any() and trained[1:].all()
    tied = families.find("transformer")(vocab=32, length=16, width=16, layers=1, tied=True)
    assert not trains(tied, "head") and trains(tied, "last:1") and not trains(tied, "last:2")


@pytest.mark.parametrize("wrong, says", [
    ("first", "'first' is not known; write all, head, or last:"), ("last:0", "not known"),
    ("last:5", "has a stack of 1 layers; write at most last:1, or head")])
def test_rules_that_cannot_be_followed_are_refused(wrong, says):
    with pytest.raises(ConfigError, match=says):
        E.replace({"optim.trainable": wrong})


@pytest.mark.parametrize("pack, options", [
    ([E.replace({"microbatch": 2})], {}), pytest.param([E], {"devices": 4}, marks=pytest.mark.slow),
    ([E.replace({"layout": "fsdp"})], {"devices": 4}), ([E, E.replace({"seed": 1})], {})],
    ids=["accumulated", "divided", "fsdp", "packed"])
def test_accumulated_sharded_and_packed_equal_plain(pack, options, plain):
    losses, params, before = train(pack, **options)
    np.testing.assert_allclose(losses[0], plain[0][0], rtol=2e-5, atol=2e-5)
    for x, wanted in zip(*map(jax.tree.leaves, (params, plain[1])), strict=True):
        np.testing.assert_allclose(x[0], wanted[0], rtol=1e-4, atol=1e-4)
    table, first = (tree["model"]["embed"]["weight"].get_value() for tree in (params, before))
    assert table.tobytes() == first.tobytes()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_flops_of_a_step_are_those_of_the_gradients_that_are_computed(name):
    """A layer that trains costs two products for each of its forward pass, and one that is frozen below it none."""
    family = tiny(name).family
    count = functools.partial(cost.train_flops, family, 4)
    rules = [rule for rule in ("head", "last:1") if trains(family, rule)] + ["all"]
    found = [count(rule) for rule in rules]
    assert found == sorted(found) and (name in ("associative", "hmm") or found[0] < 0.8 * found[-1])
    if name == "transformer":
        deep = dataclasses.replace(family, layers=4)
        head, one, two, whole = (cost.train_flops(deep, 4, rule) for rule in ("head", "last:1", "last:2", "all"))
        readout = 2 * 4 * deep.length * deep.width * deep.vocab
        layer = (whole // 3 - readout) // deep.layers  # of a forward pass
        assert head == 4 * layer + 2 * readout
        assert [one, two, whole] == [(4 + 2 * layers) * layer + 3 * readout for layers in (1, 2, 4)]
