"""Parameters, second moments and sums of gradients in bfloat16: options that are off by default, each nearly float32."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sources import ExampleSource, tiny

from scaling import cost
from scaling import experiment as experiments
from scaling.experiment import names, optimisers
from scaling.families.transformer import Transformer
from scaling.fields import ConfigError
from scaling.pods.attempt import attempt
from scaling.training import precision
from scaling.training.program import Program
from scaling.training.step import TRUNK, init_state, train_step

LOW = {"optim.second_moments": "bfloat16", "optim.parameters": "bfloat16", "optim.reduction": "bfloat16"}
ALL = {**LOW, "optim.moments": "bfloat16"}


def of(optimiser="adamw", **changes):
    return tiny("transformer", **{"optim.name": optimiser, "optim.learning_rate": 1e-2, **changes})


class OneBatch(ExampleSource):
    """The same batch at every step, so that the loss falls fast."""

    def slice(self, arrays, seed, step):
        return self.family.example_batch(self.batch_size, jax.random.key(7))


def losses(e, mesh):
    """Of twelve steps on eight devices."""
    run = Program(e, OneBatch(e.family, e.data.batch), 1, mesh, steps_per_call=16)
    return np.asarray(run.advance(run.init([e]), [e], [TRUNK], 12)[1]["loss"])[0, :12]


@pytest.mark.parametrize("field", ALL)
def test_each_is_part_of_the_name_only_where_it_is_not_the_default(field):
    e, low = of(), of(**{field: "bfloat16"})
    left_out = [{name for name in names.unnamed(one) if name.startswith("optim.")} for one in (e, low)]
    assert set(ALL) <= left_out[0] and left_out[0] - left_out[1] == {field}
    assert experiments.fingerprint(e, "data") != experiments.fingerprint(low, "data")
    assert experiments.program_key(e) != experiments.program_key(low)


@pytest.mark.parametrize("changes,layout,mesh", [
    (LOW, "data", "data=8"), pytest.param(ALL, "fsdp", "data=2,fsdp=4", marks=pytest.mark.slow),
    pytest.param({}, "data", "data=8", marks=pytest.mark.slow),
    *(pytest.param({field: value}, "data", "data=8", marks=pytest.mark.slow) for field, value in LOW.items())])
@pytest.mark.parametrize("optimiser", ["adamw", pytest.param("muon", marks=pytest.mark.slow)])
def test_training_on_eight_devices_is_nearly_that_of_float32(changes, layout, mesh, optimiser):
    many = {"data.batch": 32, "data.tokens": 32 * 16 * 12, "microbatch": 2 if layout == "data" else 0}
    plain = losses(of(optimiser, **many), "data=8")
    found = losses(of(optimiser, **many, **changes, layout=layout), mesh)
    assert plain[-1] < plain[0] - 0.2  # it learns
    np.testing.assert_allclose(found, plain, rtol=0.01 if changes else 1e-5)


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_second_moments_take_half_of_their_memory(optimiser):
    held = {kind: jax.eval_shape(lambda kind=kind: init_state(of(optimiser, **{"optim.second_moments": kind})))
            for kind in ("float32", "bfloat16")}
    low = [x for x in jax.tree.leaves(held["bfloat16"]) if x.dtype == jnp.bfloat16]
    assert low and cost.nbytes(held["float32"]) - cost.nbytes(held["bfloat16"]) == cost.nbytes(low)
    if optimiser == "adamw":
        assert sum(x.size for x in low) == sum(x.size for x in jax.tree.leaves(held["float32"].params))


def test_losses_see_parameters_in_bfloat16_and_the_optimiser_moves_float32_ones(monkeypatch):
    e, seen, loss = of(**{"optim.parameters": "bfloat16"}), set(), Transformer.loss

    def noting(self, params, batch, key):
        seen.update(x.dtype for x in jax.tree.leaves(params))
        return loss(self, params, batch, key)

    monkeypatch.setattr(Transformer, "loss", noting)
    batch = e.family.example_batch(8, jax.random.key(0))
    state = jax.eval_shape(lambda: init_state(e))
    for pieces in (1, 4):
        after, metrics = jax.eval_shape(lambda state, n=pieces: train_step(e, TRUNK, state, batch, n), state)
        assert seen == {jnp.dtype("bfloat16")}
        assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)
        assert metrics["grad_norm"].dtype == jnp.float32


def test_small_changes_of_a_float32_parameter_add_up():
    """A step of a thousandth is lost in bfloat16, which has a resolution of a 128th."""
    e = of(**{"optim.parameters": "bfloat16", "optim.learning_rate": 1e-4, "optim.warmup": 1, "optim.weight_decay": 0.0})
    state, batch = jax.jit(lambda: init_state(e))(), e.family.example_batch(8, jax.random.key(0))
    after, _ = jax.jit(lambda state: train_step(e, TRUNK, state, batch))(state)
    moved = [np.mean(np.asarray(a != b)) for a, b in zip(jax.tree.leaves(after.params), jax.tree.leaves(state.params))]
    assert min(moved) > 0.5


@pytest.mark.parametrize("parts", [1, 4])
def test_parts_are_summed_in_the_asked_type(parts):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(parts, 64)), jnp.float32)
    np.testing.assert_array_equal(precision.sum_of_parts(x, "auto"), x.sum(0))
    np.testing.assert_array_equal(precision.sum_of_parts(x, "float32"), x.sum(0))
    low = jax.jit(lambda x: precision.sum_of_parts(x, "bfloat16"))
    assert low(x).dtype == jnp.float32 and ("tensor<64xbf16>" in low.lower(x).as_text()) == (parts > 1)
    np.testing.assert_allclose(low(x), x.sum(0), rtol=0, atol=parts * 2**-7 if parts > 1 else 0)


@pytest.mark.parametrize("microbatch", [0, 1])
def test_a_step_sums_gradients_over_devices_in_the_asked_type(microbatch):
    def text(**changes):
        e = of(**{"microbatch": microbatch, "data.batch": 16, "data.tokens": 16 * 16 * 12, **changes})
        return Program(e, ExampleSource(e.family, 16), 1, "data=8", steps_per_call=1).lower().as_text()

    assert "bf16" not in text() and "bf16" not in text(**{"optim.reduction": "float32"})
    assert "bf16" in text(**{"optim.reduction": "bfloat16"})


def test_what_would_have_no_effect_or_never_fall_is_refused():
    with pytest.raises(ConfigError, match="optim.second_moments='bfloat16' has no effect, since only adamw and muon"):
        of("sgd", **{"optim.second_moments": "bfloat16"})
    with pytest.raises(ConfigError, match="optim.beta2=0.999 changes second moments by less than the rounding"):
        of(**{"optim.second_moments": "bfloat16", "optim.beta2": 0.999})
    of(**{"optim.second_moments": "bfloat16", "optim.beta2": 0.99})


def test_second_moments_fall_where_gradients_vanish():
    tx = precision.keep_second_moments(optax.scale_by_adam(0.9, optimisers.LARGEST_DECAY), "bfloat16")
    state = tx.init(jnp.ones(64))
    _, state = tx.update(jnp.linspace(1, 2, 64), state)
    first = np.asarray(state.nu, np.float32)
    for _ in range(400):
        _, state = tx.update(jnp.zeros(64), state)
    np.testing.assert_array_less(np.asarray(state.nu, np.float32), first)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: .[pods]")
@pytest.mark.slow
def test_gradients_cross_the_network_in_half_of_the_bytes():
    def sent(**changes):
        e = of(**{"data.batch": 32, "data.tokens": 32 * 16 * 12, "family.width": 128, "microbatch": 4, **changes})
        rows = attempt(e, "v5e:2x2", mesh="data=4")["collectives"]
        return sum(row["payload"] for row in rows if row["kind"] == "all-reduce")

    assert sent(**{"optim.reduction": "bfloat16"}) < 0.55 * sent()
