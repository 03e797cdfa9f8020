"""Every optimiser learns, schedules have their shape, and learning rates follow the axes of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sources import ExampleSource, tiny

from scaling.experiment import SCHEDULES
from scaling.training import optim
from scaling.training.program import Program
from scaling.training.step import TRUNK, init_state, run_span, train_step


@pytest.mark.parametrize("name", ["adamw", "muon", "lion", "sgd", "adan"])
def test_any_optimiser_learns(name):
    rate = {"sgd": 1.0, "lion": 1e-3}.get(name, 1e-2)
    e = tiny("transformer", **{"optim.name": name, "optim.learning_rate": rate, "optim.weight_decay": 0.0})
    source = ExampleSource(e.family, e.data.batch)
    source.slice = lambda arrays, seed, step: e.family.example_batch(8, jax.random.key(1))  # one batch to memorise
    run = Program(e, source, 1, steps_per_call=32, devices=jax.devices()[:1])
    _, metrics = run.advance(run.init([e]), [e], [TRUNK], 32)
    losses = np.asarray(metrics["loss"])[0]
    assert np.isfinite(losses).all() and losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_warm_up_never_exceed_the_peak_and_end_low(name):
    e = tiny("transformer", **{"optim.schedule": name, "optim.warmup": 10, "data.tokens": 8 * 16 * 100})
    rate = jax.vmap(optim.schedule(e, run_span(e)))(jnp.arange(100))
    peak = e.optim.learning_rate
    assert (np.diff(rate[:10]) > 0).all() and float(rate.max()) == pytest.approx(peak)
    assert (np.diff(rate[10:]) <= 1e-9).all()
    assert float(rate[-1]) == pytest.approx(peak) if name == "constant" else 0 <= float(rate[-1]) < 0.12 * peak


@pytest.mark.parametrize("changes", [{"family.disc_steps": 2}, pytest.param({"optim.skip": 1e-9}, marks=pytest.mark.slow)])
def test_schedules_go_by_the_step_of_the_run(changes):
    """Whether a player moves twice in a step, or never, each update has the rate of the step."""
    e = tiny("gan", **{"optim.warmup": 8, **changes})
    state = jax.jit(lambda: init_state(e))()
    step = jax.jit(lambda state, batch: train_step(e, run_span(e), state, batch))
    for index in range(3):
        state, metrics = step(state, dict(e.family.example_batch(8, jax.random.key(index))))
        assert float(metrics["learning_rate"]) == pytest.approx(e.optim.learning_rate * (index + 1) / 8)
    moves = {name: [int(x.count) for x in jax.tree.leaves(state.opt[name], is_leaf=is_count) if is_count(x)]
             for name in ("disc", "gen")}
    assert moves == ({"disc": [6], "gen": [3]} if "family.disc_steps" in changes else {"disc": [0], "gen": [0]})


def is_count(node):
    return type(node).__name__ == "ScaleByScheduleState"


def test_an_update_has_the_rate_of_the_step_it_is_given():
    e = tiny("transformer", **{"optim.name": "sgd", "optim.warmup": 8, "optim.weight_decay": 0.0, "optim.clip": 0.0,
                               "optim.parametrization": "standard"})
    ones = jax.tree.map(jnp.ones_like, e.family.init(jax.random.key(0))["model"])
    for step in (0, 3, 5):
        tx = optim.make_optimiser(e, run_span(e), step=jnp.int32(step))
        update, _ = tx.update(ones, tx.init(ones), ones)
        np.testing.assert_allclose(jax.tree.leaves(update)[0], -e.optim.learning_rate * (step + 1) / 8, rtol=1e-6)
