"""The buffers of the train state are donated: the compiled step writes every leaf of the new state over the old one."""

import re

import jax
import pytest

from scaling import cost
from scaling import experiment as experiments
from scaling.training.program import Program


def program(layout, mesh="", runs=1, **changes):
    changes = {"family.size": 5e3, "data.batch": 8, "data.length": 16, "data.tokens": 2**16, "data.feed": "streamed",
               "layout": layout, **changes}
    e = experiments.from_config(experiments.config("transformer", **changes))
    return Program(e, None, runs, mesh, devices=jax.devices())


def donated(text) -> set[int]:
    """The numbers of the arguments over which a compiled program writes a result."""
    found = re.search(r"input_output_alias=\{(.*?) \}, ", text)
    return {int(n) for n in re.findall(r"\((\d+), \{\}", found[1])} if found else set()


@pytest.mark.parametrize("layout,mesh,runs,changes", [
    ("fsdp_tensor", "data=2,fsdp=2,tensor=2", 1, {"optim.ema": 0.9, "family.heads": 2}), ("data", "run=2,data=4", 2, {}),
    pytest.param("data", "", 1, {"optim.name": "muon"}, marks=pytest.mark.slow)], ids=["divided", "packed", "muon"])
def test_every_leaf_of_the_state_is_donated(layout, mesh, runs, changes):
    p = program(layout, mesh, runs, **changes)
    compiled = p.lower().compile()
    leaves = jax.tree.leaves(p.abstract)
    assert donated(compiled.as_text()) >= set(range(len(leaves)))
    held = cost.nbytes([jax.ShapeDtypeStruct(x.sharding.shard_shape(x.shape), x.dtype) for x in leaves])
    assert compiled.memory_analysis().alias_size_in_bytes >= held
