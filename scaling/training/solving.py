"""Solving for the parameters of a run, in place of training steps (see `scaling.families.Family`)."""

from collections.abc import Iterator

import jax
import numpy as np

TOGETHER = 256  # steps whose batches are read at once


def examples_once(experiment, source) -> int:
    """The number of different examples that a run sees."""
    data = experiment.data
    return min(experiment.steps * data.batch, (data.unique or data.available(source)) // data.per_example)


def batches_once(experiment, source) -> Iterator[dict[str, np.ndarray]]:
    """The batches of a run in their order, several as one, without examples that were in one before."""
    size, left, step = experiment.data.batch, examples_once(experiment, source), 0
    while left > 0:
        stop = step + min(TOGETHER, -(-left // size))
        found = source.batches(experiment.seed, step, stop)
        yield {name: x.reshape(-1, *x.shape[2:])[:left] for name, x in found.items()}
        left, step = left - (stop - step) * size, stop


def solve_pack(pack, source):
    """The parameters of every experiment of a pack, stacked along an axis of runs; equal experiments are solved once."""
    solved = {e: e.family.solve(batches_once(e, source)) for e in dict.fromkeys(pack)}
    return jax.tree.map(lambda *x: np.stack(x), *(solved[e] for e in pack))
