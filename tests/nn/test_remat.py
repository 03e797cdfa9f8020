"""Rematerialisation by name: the same losses and gradients, what each policy recomputes, old spellings."""

import dataclasses

import jax
import pytest
from numpy.testing import assert_allclose

from scaling import cost
from scaling import experiment as experiments
from scaling.experiment import legacy
from scaling.families.transformer import Transformer
from scaling.fields import ConfigError
from scaling.nn import remat

SMALL = Transformer(vocab=31, length=12, width=16, layers=2, heads=2)
HERE = [name for name in remat.NAMES if name != "offload"]  # a CPU has no other memory


def gradients(family, params, batch):
    return jax.jit(jax.value_and_grad(lambda p: family.loss(p, batch, None)[0]))(params)


@pytest.mark.parametrize("name", [name if name in ("dots_no_batch", "attention") else
                                  pytest.param(name, marks=pytest.mark.slow) for name in HERE[1:]])
def test_every_policy_has_the_loss_and_gradients_of_none(name):
    params, batch = jax.jit(SMALL.init)(jax.random.key(0)), SMALL.example_batch(2, jax.random.key(1))
    found = gradients(dataclasses.replace(SMALL, remat=name), params, batch)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(gradients(SMALL, params, batch)), strict=True):
        assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def executed(name, **more):
    family = dataclasses.replace(SMALL, remat=name, **more)
    return cost.flops(lambda p, b: jax.grad(lambda p: family.loss(p, b, None)[0])(p), *cost._abstract(family, 2)[:2])


def test_what_is_kept_is_not_computed_again():
    full, none = executed("full"), executed("none")
    forward = cost.forward_flops(dataclasses.replace(SMALL), 2)
    readout = 2 * 2 * SMALL.length * SMALL.width * SMALL.vocab
    down = 2 * 2 * SMALL.length * SMALL.mlp * SMALL.width * SMALL.layers  # whose result no gradient needs
    assert full - none == forward - readout - down
    assert executed("dots", attention="xla") == executed("none", attention="xla")
    scores = 2 * 2 * 2 * SMALL.heads * SMALL.head_dim * SMALL.length**2 * SMALL.layers  # of two products
    assert executed("attention") == full - scores
    assert none < executed("dots_no_batch", attention="xla") < executed("full", attention="xla")


def test_offloading_is_traced_and_recomputes_as_without():
    assert executed("offload") == executed("dots_no_batch")


def test_bools_of_old_configs_records_and_flags_are_names():
    for spelled, name in ((True, "full"), (False, "none"), ("True", "full"), ("dots", "dots")):
        assert Transformer(remat=spelled).remat == Transformer.ladder(1e4, remat=spelled).remat == name
    config = experiments.config("transformer")
    assert experiments.from_config(config).family.remat == "none"
    config.family.remat = True
    e = experiments.from_config(config)
    assert e.family.remat == "full"
    old = experiments.to_dict(e)
    old["family"]["remat"] = True
    assert experiments.from_dict(old) == e
    with pytest.raises(ConfigError, match="family.remat='everything' is not known"):
        Transformer(remat="everything")


def test_names_of_runs_do_not_depend_on_it_and_those_of_version_2_hash_the_bool():
    e = experiments.from_config(experiments.config("transformer"))
    again = e.replace({"family.remat": "full"})
    assert legacy.fingerprint(e, "data") == legacy.fingerprint(again, "data")
    also = {"family.attention": "auto", "family.scan": e.family.scan}
    for one, value in ((e, False), (again, True)):
        want = legacy.named_by(one, "data", 2, also | {"family.remat": value})
        assert legacy.fingerprint_of_version_2(one, "data") == want
