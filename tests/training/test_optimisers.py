"""Optimisers by name do what the experiment writes, or are refused with a sentence; biases are never decayed."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sources import tiny

from scaling import axes
from scaling import experiment as experiments
from scaling.experiment import optimisers
from scaling.fields import ConfigError, is_traced
from scaling.training import optim
from scaling.training.step import TRUNK, init_state, train_step

CHANGED = {"beta1": 0.4, "beta2": 0.4, "epsilon": 0.5}
QUICK = ("adamw", "muon", "lion", "rmsprop", "sgd")
RESTLESS = {  # move without a gradient, and why
    "noisy_sgd": "its steps have noise of their own", "yogi": "its moments begin above zero",
    "prodigy": "it estimates its step from gradients, and without any that is 0 / 0"}
LATE = {"radam": ("beta2", "epsilon")}  # its first steps do not read the second moment (Liu et al. 1908.03265, algorithm 2)


def experiment(name, **changes):
    return tiny("transformer", **{"optim.name": name, "optim.weight_decay": 0.0, "optim.clip": 0.0, "optim.warmup": 0,
                                  "optim.schedule": "constant", **{f"optim.{k}": v for k, v in changes.items()}})


@functools.cache
def parts():
    params = tiny("transformer").family.init(jax.random.key(0))["model"]
    noise = [jax.tree.map(lambda x, i=i: jax.random.normal(jax.random.key(x.size + i), x.shape), params) for i in range(3)]
    return params, noise


def updates(e, gradients=None):
    """All updates of three steps, one after another."""
    params, noise = parts()

    def steps(knobs):
        bound = e.replace(knobs)
        assert is_traced(bound.optim.beta1)
        tx = optim.make_optimiser(bound, TRUNK)
        state, found = tx.init(params), []
        for g in noise if gradients is None else [gradients] * 3:
            update, state = tx.update(g, state, params)
            found.append(update)
        return found
    knobs = {f"optim.{name}": getattr(e.optim, name) for name in ("beta1", "beta2", "epsilon", "learning_rate")}
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(jax.jit(steps)(knobs))])


def works_as_written(name):
    """The property of every name: refused in one sentence, or each field that the optimiser takes is used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            plain = experiment(name)
        except ConfigError as error:
            assert f"optim.name={name!r}" in str(error) and "\n" not in str(error)
            return False
        base = updates(plain)
        assert np.isfinite(base).all() and np.abs(base).max() > 0
        np.testing.assert_allclose(updates(experiment(name, learning_rate=1e-3)), base / 4, rtol=2e-3,
                                   atol=1e-5 * np.abs(base).max())  # 4e-3 is the default
        for field, value in CHANGED.items():
            try:
                other = experiment(name, **{field: value})
            except ConfigError as error:
                assert f"optim.{field}={value}" in str(error) and "has no effect" in str(error)
                continue
            if field not in LATE.get(name, ()):
                assert not np.allclose(updates(other), base, rtol=1e-5, atol=0), field
        _, noise = parts()
        gradients = np.concatenate([np.ravel(x) for g in noise for x in jax.tree.leaves(g)])
        assert np.vdot(base, gradients) < 0  # it goes down the gradient
        if name not in RESTLESS:  # without a gradient and without decay nothing moves, norms included
            still = updates(plain, jax.tree.map(jnp.zeros_like, parts()[0]))
            assert np.abs(still).max() == 0
    return True


@pytest.mark.parametrize("name", QUICK)
def test_an_optimiser_uses_what_is_written(name):
    assert works_as_written(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in optimisers.usable() if name not in QUICK])
def test_every_optimiser_of_optax_uses_what_is_written_or_is_refused(name):
    if works_as_written(name):
        e = experiment(name)
        batch = jax.eval_shape(lambda: e.family.example_batch(8, jax.random.key(0)))
        state = jax.eval_shape(lambda: init_state(e))
        after, _ = jax.eval_shape(lambda state, batch: train_step(e, TRUNK, state, batch), state, dict(batch))
        assert jax.tree.structure(after) == jax.tree.structure(state)
        assert [x.shape for x in jax.tree.leaves(after)] == [x.shape for x in jax.tree.leaves(state)]
        assert jax.tree.leaves(axes.names(state))


@pytest.mark.parametrize("name,said", [
    ("clip", "no optimiser that is made from a learning rate"), ("scale", "part of optax"), ("identity", "part of optax"),
    ("scale_by_adam", "nearest"), ("adamwx", "nearest: adamw"), ("", "adamw"), ("__name__", "optim.name"),
    ("schedule_free_adamw", "evaluated"), ("adafactor", "not shaped like the parameters"), ("sm3", "no place on a mesh"),
    ("polyak_sgd", "part of optax")])
def test_what_is_no_optimiser_is_refused_by_name(name, said):
    with pytest.raises(ConfigError, match=said) as caught:
        experiment(name)
    assert f"optim.name={name!r}" in str(caught.value)


def test_a_number_that_an_optimiser_does_not_take_is_refused():
    with pytest.raises(ConfigError, match="optim.beta2=0.9 has no effect.*'sgd'"):
        experiment("sgd", beta2=0.9)


FAMILIES = {"transformer": {"biases": True, "norm": "layernorm", "activation": "gelu", "positions": "learned"},
            "vae": {}, "gan": {}, "gan-dcgan": {"body": "dcgan"}}


@pytest.mark.parametrize("name", FAMILIES)
def test_matrices_are_decayed_and_biases_are_not(name):
    e = tiny(name.partition("-")[0])
    small = {"layers": 1, **(e.data.family_fields() if name == "transformer" else {}), **FAMILIES[name]}
    e = e.replace({"family": type(e.family).ladder(1e4, **small), "optim.weight_decay": 0.5, "optim.learning_rate": 0.5,
                   "optim.schedule": "constant", "optim.warmup": 0, "optim.parametrization": "standard"})
    abstract = jax.eval_shape(e.family.init, jax.random.key(0))
    for player in e.family.players():
        ones = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), abstract[player.name])
        tx = optim.make_optimiser(e, TRUNK)
        update = jax.jit(lambda ones, tx=tx: tx.update(jax.tree.map(jnp.zeros_like, ones), tx.init(ones), ones)[0])(ones)
        found = {jax.tree_util.keystr(path, simple=True, separator="/"): float(np.abs(x).max())
                 for path, x in jax.tree_util.tree_leaves_with_path(update)}
        for (path, decay), names in zip(found.items(), jax.tree.leaves(axes.names(ones)), strict=True):
            wanted = 0.25 if axes.is_matrix(names) and "bias" not in path.split("/") else 0.0
            assert decay == pytest.approx(wanted), path
        assert {0.0, 0.25} <= {round(v, 6) for v in found.values()}


def version(base, **changes):
    return experiments.results_version(base.replace({k.replace("__", "."): v for k, v in changes.items()}))


def test_only_runs_whose_results_were_repaired_have_new_names():
    e = tiny("transformer", **{"optim.parametrization": "standard"})
    biased = e.replace({"family": type(e.family).ladder(5e3, length=16, vocab=32, biases=True)})
    assert version(e) == 3 and version(e, optim__name="muon") == 3
    assert version(biased) == 4 and version(biased, optim__weight_decay=0.0) == 3
    assert version(e, optim__name="lion") == version(e, optim__name="sgd") == 4
    assert version(e, optim__name="sign_sgd") == 3  # it takes nothing but the learning rate
    assert version(e, data__batch=12) == 4 and version(e, data__batch=4) == 3  # 12 does not divide the evaluation set
    assert version(e, optim__learning_rate=1.0, optim__clip=0.0) == 3
    assert version(e, seed=3) == 5  # which reads the data in its own order
    assert experiments.fingerprint(biased, "d") != experiments.fingerprint(e, "d")


def test_only_runs_whose_rates_follow_other_rules_have_new_names():
    wide = tiny("transformer")  # narrower than the base width: its decay was that of its rate
    base = wide.replace({"family": type(wide.family)(width=64, layers=1, length=16, vocab=32)})
    assert version(wide) == 5 and version(base) == version(base, optim__name="muon") == 3
    assert version(wide, optim__parametrization="standard") == 3
    assert version(wide, optim__name="muon", optim__weight_decay=0.0) == 5
    assert version(wide, optim__name="sgd", optim__weight_decay=0.0) == 4  # set up by optax's defaults until version 4
    assert version(base, optim__table_rate=8.0) == 5 and version(base, optim__table_rate=8.0, optim__weight_decay=0.0) == 3
    assert version(base, optim__skip=1.0) == 5
    assert version(tiny("gan")) == 5
    tied = base.replace({"family.tied": True})
    assert version(tied) == 3 and version(tied, optim__base_width=32, optim__weight_decay=0.0) == 5
    deep = base.replace({"family.layers": 2, "family.base_layers": 1})
    assert experiments.fingerprint(deep, "d") != experiments.fingerprint(deep.replace({"family.base_layers": 0}), "d")
