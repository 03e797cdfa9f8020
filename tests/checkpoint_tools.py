"""Checkpoints for the tests of the checkpoint tools, and what their errors look like."""

import functools
import pathlib

import jax
import numpy as np

from scaling import experiment as experiments
from scaling.families.transformer import Transformer
from scaling.store import checkpoint
from tools import _checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[1]
TINY = Transformer(vocab=16, length=8, width=8, layers=2, heads=2)


def refused(result, *parts, code=1):
    """True if a command ended with this status and one sentence that has all `parts`; else an AssertionError."""
    assert result[0] == code, result
    # The reader of a torn array may print something of its own some calls later.
    errors = [line for line in result[2].splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and result[2].endswith(f"{errors[0]}\n"), result[2]
    for part in parts:
        assert str(part) in errors[0]
    return True


def experiment(family=TINY, **changes) -> experiments.Experiment:
    return experiments.Experiment(family=family, data=experiments.kind_read(family)()).replace(changes)


@functools.cache
def shapes(family) -> dict:
    """{path: shape} of a family's parameters."""
    abstract = jax.eval_shape(family.init, jax.random.key(0))
    return {name: variable.shape for name, variable in _checkpoints._variables(abstract)}


def drawn(family=TINY, seed=0, scale=1.0) -> dict:
    """Random arrays by path, with the shapes of a family's parameters."""
    rng = np.random.default_rng(seed)
    return {name: np.float32(scale * rng.standard_normal(shape)) for name, shape in shapes(family).items()}


def nested(arrays) -> dict:
    tree = {}
    for name, array in arrays.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = array
    return tree


def save(directory, arrays, meta, *steps):
    """Saves arrays by path, or `arrays(step)`, as a checkpoint of each step; returns the directory."""
    saved = checkpoint.Checkpoints(directory, keep=5)
    for step in steps or (10,):
        saved.save(step, {"params": nested(arrays(step) if callable(arrays) else arrays)}, meta)
    saved.close()
    return directory


def of(run) -> dict:
    """The meta of a checkpoint of `run`."""
    return {"experiment": experiments.to_dict(run)}
