"""`optim.trainable`: what is frozen keeps its bits, has no optimiser state and costs no gradients, in every family."""

import functools

import jax
import numpy as np
import pytest
from sources import ExampleSource, tiny
from test_train import close, pick, program_of, quick, train_pack

from scaling import axes, cost, families
from scaling.fields import ConfigError
from scaling.training.step import TRUNK, init_state, train_step

FAMILIES = [families.name(cls) for cls in families.all()]
E = tiny("transformer", **{"optim.trainable": "last:1", "optim.ema": 0.5})


def trains(family, rule):
    """Whether all players of a family have such a part; each that has none says so in one sentence."""
    said = []
    for own in family.init(jax.random.key(0)).values():
        try:
            axes.trainable_part(own, rule)
        except ConfigError as error:
            said.append(str(error))
    assert all(text.startswith(f"optim.trainable={rule!r}: this model has ") and "; write " in text for text in said)
    return not said


def entries(params, rule):
    """{path: (array, whether each of its entries trains)} of one player."""
    part = jax.tree.map(lambda x: np.full(x.shape, True), axes.trainable_part(params, rule))
    marks = axes.with_trainable_part(jax.tree.map(lambda x: np.full(x.shape, False), params), part, rule)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    return dict(zip(paths, zip(jax.tree.leaves(params), map(np.asarray, jax.tree.leaves(marks)))))


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
        for tree in (after.params, after.ema):
            now = entries(tree[player], rule)
            for path, (x, trained) in entries(own, rule).items():
                moved = np.asarray(x) != np.asarray(now[path][0])
                assert not moved[~trained].any(), path
                assert moved[trained].any() or not trained.any(), path
        part = sum(x.size for x in jax.tree.leaves(axes.trainable_part(own, rule)))
        assert part < sum(x.size for x in jax.tree.leaves(own)) or name == "associative"
        assert sum(x.size for x in jax.tree.leaves(after.opt[player]) if x.ndim) == 2 * part


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("rule", ["head", "last:1", "last:2", "last:999999"])
def test_parts_are_put_back_where_they_were_taken_from(name, rule):
    family = families.find(name).ladder(3e4)
    if not trains(family, rule):
        return
    for own in family.init(jax.random.key(0)).values():
        same = axes.with_trainable_part(own, axes.trainable_part(own, rule), rule)
        assert jax.tree.structure(same) == jax.tree.structure(own)
        assert all((np.asarray(x) == np.asarray(y)).all() for x, y in zip(jax.tree.leaves(same), jax.tree.leaves(own)))


def test_what_head_and_last_mean_follows_from_the_names_of_axes():
    deep = families.find("transformer")(vocab=32, length=16, width=16, layers=3)
    head, last = (entries(deep.init(jax.random.key(0))["model"], rule) for rule in ("head", "last:2"))
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


@pytest.mark.parametrize("changes, options", [({"microbatch": 2}, {"devices": 1}), ({}, {"mesh": "data=4"}),
                                              ({"layout": "fsdp"}, {"mesh": "data=8"})])
def test_accumulated_and_sharded_equal_plain(changes, options):
    wanted, plain = train_pack([E], devices=1)
    found, state = train_pack([E.replace(changes)], **options)
    close(wanted, found)
    close(plain.params, state.params, 1e-4)


def test_packed_equals_plain():
    pack = [E.replace({"seed": seed}) for seed in (0, 1)]
    losses, state = train_pack(pack, devices=1)
    alone, single = train_pack(pack[:1], devices=1)
    close(losses[0], alone[0])
    close(pick(state.params, 0), pick(single.params, 0), 1e-4)
    before = program_of(E, 2, devices=1).init(pack).params["model"]["embed"]["weight"]
    assert (np.asarray(state.params["model"]["embed"]["weight"]) == np.asarray(before)).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_flops_of_a_step_are_those_of_the_gradients_that_are_computed(name):
    family = families.find(name).ladder(families.find(name).sizes()[0])
    count = functools.partial(cost.train_flops, family, 4)
    if trains(family, "head") and name != "associative":
        head = count("head")
        assert sum(cost.trainable_count(family, rule) for rule in ("head", "all")) > 0 and head < 0.7 * count("all")
    if name == "transformer":  # the products of the forward pass, and of the gradient of the readout's weight
        forward = cost.flops(family.loss, *cost._abstract(family, 4))
        assert head == pytest.approx(forward + 2 * 4 * family.length * family.width * family.vocab, rel=0.1)
