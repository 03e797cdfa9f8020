"""Every seed of 32 bits works, and names the same keys and the same order of data in programs as on the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sources import ExampleSource, tiny

from scaling.data import order
from scaling.experiment.experiment import SEEDS
from scaling.training.program import Program
from scaling.training.step import init_state

LARGE = (2**31 - 1, 2**31, 3_000_000_000, SEEDS - 1)


@pytest.fixture(scope="module")
def program():
    e = tiny("transformer")
    return Program(e, ExampleSource(e.family, e.data.batch), len(LARGE), devices=jax.devices()[:1])


def test_large_seeds_start_a_pack_as_they_start_runs_alone(program):
    pack = [program.experiment.replace({"seed": seed}) for seed in LARGE]
    together = program.init(pack)
    alone = jax.jit(lambda: init_state(pack[2]))()
    for many, one in zip(jax.tree.leaves(together.params), jax.tree.leaves(alone.params), strict=True):
        np.testing.assert_allclose(many[2], one, rtol=1e-6)
        assert len({float(x.ravel()[0]) for x in np.asarray(many)}) in (1, len(LARGE))  # gains are equal, weights differ


def test_the_order_of_data_is_that_of_the_host(program):
    traced = program._knobs([program.experiment.replace({"seed": seed}) for seed in LARGE])["seed"]
    for seed, bits in zip(LARGE, traced, strict=True):
        np.testing.assert_array_equal(order.key(3, seed, 1), jax.jit(lambda s: order.key(3, s, 1, xp=jnp))(bits))
