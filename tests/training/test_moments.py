"""First moments in bfloat16: half of their memory, another run by name, nearly the same training."""

import jax
import numpy as np
import pytest
from sources import ExampleSource, tiny

from scaling import cost
from scaling import experiment as experiments
from scaling.experiment import names
from scaling.fields import ConfigError
from scaling.training.program import Program
from scaling.training.step import TRUNK, init_state


def of(moments, optimiser="adamw"):
    return tiny("transformer", **{"optim.moments": moments, "optim.name": optimiser, "optim.learning_rate": 1e-2})


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_first_moments_take_half_of_their_memory(optimiser):
    held = {m: jax.eval_shape(lambda m=m: init_state(of(m, optimiser))) for m in ("float32", "bfloat16")}
    low = [x for x in jax.tree.leaves(held["bfloat16"].opt) if x.dtype == "bfloat16"]
    assert sum(x.size for x in low) == sum(x.size for x in jax.tree.leaves(held["float32"].params))
    assert cost.nbytes(held["float32"]) - cost.nbytes(held["bfloat16"]) == cost.nbytes(low)


@pytest.mark.slow
def test_training_is_nearly_that_of_float32():
    losses = []
    for e in (of("float32"), of("bfloat16")):
        run = Program(e, ExampleSource(e.family, e.data.batch), 1, steps_per_call=16, devices=jax.devices()[:1])
        losses.append(np.asarray(run.advance(run.init([e]), [e], [TRUNK], 16)[1]["loss"])[0])
    assert (losses[0] != losses[1]).any()
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.01)


def test_it_is_part_of_the_name_only_where_it_is_not_the_default():
    e, low = of("float32"), of("bfloat16")
    assert names.unnamed(e) - names.unnamed(low) == {"optim.moments"}
    assert experiments.fingerprint(e, "data") != experiments.fingerprint(low, "data")
    assert experiments.program_key(e) != experiments.program_key(low)


def test_an_optimiser_without_such_moments_refuses():
    with pytest.raises(ConfigError, match="optim.moments='bfloat16' has no effect, since only adamw and muon"):
        of("bfloat16", "sgd")
