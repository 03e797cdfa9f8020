"""Every optimiser learns, schedules have their shape, and learning rates follow the axes of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sources import ExampleSource, tiny

from scaling import axes
from scaling.experiment import SCHEDULES
from scaling.training import optim
from scaling.training.program import Program
from scaling.training.step import TRUNK, run_span


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


def test_learning_rates_of_matrices_fall_with_width_and_others_do_not():
    at = {w: optim.multiplier((w, 4 * w), ("embed", "mlp"), 64) for w in (64, 128)}
    assert at == {64: 1.0, 128: 0.5}
    assert optim.multiplier((256, 128), ("vocab", "embed"), 64) == 1.0
    assert optim.multiplier((128, 256), ("embed", "vocab"), 64) == 0.5
    assert optim.multiplier((128,), ("embed",), 64) == 1.0
    assert optim.multiplier((3, 7, 128, 512), ("layers", "embed", "mlp"), 64) == 0.5  # a run axis leads
    assert axes.is_matrix(("layers", "embed", "mlp")) and not axes.is_matrix(("layers", "embed"))
