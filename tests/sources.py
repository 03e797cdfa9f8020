"""A source for any family: it draws the family's own example batches from (seed, step)."""

import jax
import numpy as np

from scaling import experiment as experiments
from scaling import families
from scaling.experiment import Pairs, Text, kind_read

# Families that an optimiser trains, and those that are solved.
TRAINED = [families.name(cls) for cls in families.all() if not families.is_solved(cls)]
SOLVED = [families.name(cls) for cls in families.all() if families.is_solved(cls)]


class ExampleSource:
    name, fingerprint, splits = "examples", "examples", ("iid",)
    unique_tokens = unique_examples = 2**30

    def __init__(self, family, batch):
        self.family, self.batch_size = family, batch

    def arrays(self):
        return {}

    def slice(self, arrays, seed, step):
        return self.family.example_batch(self.batch_size, jax.random.fold_in(jax.random.key(7), step))

    def batch(self, seed, step, rows=None):
        rows = slice(None) if rows is None else np.asarray(rows)
        return jax.tree.map(lambda x: np.asarray(x)[rows], self.slice({}, seed, step))

    def batches(self, seed, start, stop, rows=None):
        return jax.tree.map(lambda *x: np.stack(x), *(self.batch(seed, step, rows) for step in range(start, stop)))

    def evaluation(self, split, tokens=0):
        return self.batch(0, 10**6)


def tiny(name, **changes):
    """An experiment with the smallest model of a family, small enough for eight devices and many tests."""
    cls = families.find(name)
    data = kind_read(cls)
    own = {"data.length": 16, "data.tokens": 8 * 16 * 12} if data is Text else {"data.examples": 8 * 12}
    small = {"length": 16, "vocab": 32} | ({"layers": 1} if hasattr(cls, "layers") else {}) if data is Text else {}
    if data is Pairs:
        own, small = own | {"data.source_length": 12, "data.length": 10}, {"source_length": 12, "length": 10, "layers": 1}
    small |= {"width": 16} if "layers" in small else {}
    small |= {"radius": 0.1, "steps": 2, "test_steps": 2} if hasattr(cls, "radius") else {}  # trains on attacked images
    own |= {"data.caption": 8} if name == "multimodal" else {}
    e = experiments.Experiment(family=cls.ladder(cls.sizes()[0], **small), data=data())
    warmup = {} if families.is_solved(e.family) else {"optim.warmup": 2}
    return e.replace({"data.batch": 8, **warmup, **own, **changes})
