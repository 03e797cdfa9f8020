"""`fast=False` computes plainly what has a fast form, and gives the same results to rounding."""

import jax
import numpy as np
import pytest
from sources import ExampleSource, tiny

from scaling import experiment as experiments
from scaling.training.counts import step_flops, step_flops_executed
from scaling.training.program import Program
from scaling.training.step import TRUNK

CASES = {"transformer": {"optim.name": "muon", "microbatch": 2, "family.heads": 2},
         "recurrent": {}, "vae": {"microbatch": 2}, "gan": {"family.layers": 2}}


def trained(e, mesh="data=2"):
    """(losses and norms of gradients in each step, the parameters, evaluations, the text of the program)."""
    source = ExampleSource(e.family, e.data.batch)
    program = Program(e, source, 1, mesh, steps_per_call=4, devices=jax.devices()[:2])
    state, metrics = program.advance(program.init([e]), [e], [TRUNK], 4)
    wanted = {name: np.asarray(x) for name, x in metrics.items() if name.endswith(("loss", "grad_norm"))}
    return wanted, state.params, program.evaluate(state, source.evaluation("iid")), program.lower().as_text()


@pytest.mark.parametrize("name", ["transformer", *(pytest.param(name, marks=pytest.mark.slow)
                                                   for name in ("recurrent", "vae", "gan"))])
def test_the_plain_form_of_everything_trains_and_evaluates_alike(name):
    e = tiny(name, **CASES[name])
    plain = e.replace({"fast": False})
    assert experiments.fingerprint(plain, "d") == experiments.fingerprint(e, "d")  # the same run
    assert experiments.program_key(plain) != experiments.program_key(e)
    assert step_flops(plain) == step_flops(e)
    fast, slow = trained(e), trained(plain)
    assert fast[3] != slow[3]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), fast[:3], slow[:3])


def test_what_is_executed_is_counted_for_either_form():
    e = tiny("transformer", **{"optim.name": "muon", "data.length": 256, "data.tokens": 2**14})
    plainer = e.replace({"optim.orthogonalise": "plain", "family.attention": "xla"})
    assert step_flops_executed(e) < step_flops_executed(e.replace({"fast": False})) == step_flops_executed(plainer)
