"""Evaluation and sampling of a pack of runs, which the devices carry out while the host goes on."""

import dataclasses
import functools
from collections.abc import Callable
from concurrent import futures
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from scaling.devices import sharding
from scaling.devices.layouts import batch_shards
from scaling.training import accumulation, evaluation
from scaling.training.compiled import Compiled
from scaling.training.step import State, evaluate_batch, sample_batch

AHEAD = 8  # calls for one evaluation that wait for the devices
BATCHES = 2**28  # bytes of the examples that one call evaluates


@dataclasses.dataclass(frozen=True)
class Pending:
    """A result of calls that the devices have been given; calling it waits for the result."""

    parts: list  # of arrays on the devices, in the order of the calls
    join: Callable  # makes the result from them

    def __call__(self):
        return self.join(self.parts)

    @property
    def last(self):
        """The arrays that the devices compute last."""
        return self.parts[-1]


class Evaluator:
    """Evaluates a pack of `runs` experiments that differ only in knobs; `loop` says whether programs may have loops."""

    def __init__(self, experiment, runs: int, mesh, loop: bool, options: dict, what: str | None):
        self.experiment, self.runs, self.mesh, self.loop = experiment, runs, mesh, loop
        compiled = partial(Compiled, what=what, out_shardings=sharding.replicated(mesh), compiler_options=options)
        self.evaluate_call = compiled(self._evaluate)
        self.sample_call = compiled(partial(self._on_batch, sample_batch))

    def evaluating(self, state: State, examples) -> Pending:
        """Starts an evaluation on all `examples`: {metric: what the family gives, [runs, examples] or sums [runs]}.

        The devices evaluate the state as it is now, also where it is donated afterwards.
        """
        parts = _in_turn(self.evaluate_call(state, *arguments) for arguments in self._evaluated(examples))
        return Pending(parts, lambda parts: jax.tree.map(_joined, *parts))

    def sampling(self, state: State, examples, count: int) -> Pending:
        """Starts to draw `count` samples of every run: [runs, count, ...]."""
        parts = _in_turn(self.sample_call(state, *arguments) for arguments in self._sampled(examples, count))
        return Pending(parts, lambda parts: np.concatenate([np.asarray(part) for part in parts], 1)[:, :count])

    def compile(self, pool: futures.Executor, state, evaluated, samples) -> None:
        """Compiles in threads of `pool` what is called for these sets of examples and these arguments of `sampling`."""
        calls = [arguments for examples in evaluated for arguments in self._evaluated(examples)]
        for arguments in {str(jax.tree.map(np.shape, each)): each for each in calls}.values():
            self.evaluate_call.ahead(pool, state, *arguments)
        if samples is not None:
            self.sample_call.ahead(pool, state, *next(iter(self._sampled(*samples))))

    # ---- arguments of the calls

    def _evaluated(self, examples):
        """(number of the first example, batches [batches, size, ...]) of each call.

        Batches of equal size that follow each other are evaluated by one call, where programs may have loops.
        """
        count = _length(examples)
        most = BATCHES // (sum(x.nbytes for x in jax.tree.leaves(examples)) // count) if self.loop else 1
        for rows, size in evaluation.join(self._cut(count, self.experiment.data.evaluated_together), most):
            batches = jax.tree.map(lambda x, size=size: x.reshape(-1, size, *x.shape[1:]), _rows(examples, rows))
            yield np.int32(rows.start), batches

    def _sampled(self, examples, count):
        """(number of the first example, examples) of each call."""
        rounded = -(-count // self.shards) * self.shards
        size = len(self._cut(rounded, self.experiment.data.at_once[1])[0])
        return ((np.int32(start), _rows(examples, range(start, start + size))) for start in range(0, count, size))

    def _cut(self, count: int, together: int) -> list[range]:
        return evaluation.cut(count, together, self.shards, self._fits)

    @property
    def shards(self) -> int:
        """The number of parts that a batch is divided into."""
        return batch_shards(self.mesh, self.experiment.layout)

    @functools.cached_property
    def _fits(self) -> int:
        """Examples that a device has room for in an evaluation, a gradient's activations counted for each."""
        with sharding.within(self.mesh, self.experiment.layout, not self.experiment.fast):
            return accumulation.examples_in_memory(self.experiment.family, self.mesh, self.runs)

    # ---- traced

    def _evaluate(self, state, first, batches):
        """What the family finds for each batch."""
        count, size = jax.tree.leaves(batches)[0].shape[:2]
        if count == 1:
            found = self._on_batch(evaluate_batch, state, first, jax.tree.map(lambda x: x[0], batches))
            return jax.tree.map(lambda x: x[None], found)
        starts = first + size * jnp.arange(count, dtype=jnp.int32)
        return jax.lax.map(lambda each: self._on_batch(evaluate_batch, state, *each), (starts, batches))

    def _on_batch(self, function, state, first, batch):
        with sharding.within(self.mesh, self.experiment.layout, not self.experiment.fast):
            if _length(batch) % self.shards == 0:
                batch = sharding.shard_batch(batch, self.mesh, self.experiment.layout)
            return jax.vmap(partial(function, self.experiment), (0, None, None), spmd_axis_name="run")(state, first, batch)


def _in_turn(calls) -> list:
    """The results of some calls, of which at most `AHEAD` wait for the devices.

    CPU devices wait for each other in the threads of one pool, and wait for ever where too many calls fill it.
    """
    found: list = []
    for result in calls:
        found.append(result)
        if len(found) >= AHEAD:
            jax.block_until_ready(found[-AHEAD])
    return found


def _length(examples) -> int:
    return jax.tree.leaves(examples)[0].shape[0]


def _rows(examples, rows: range):
    """These rows of `examples`, which are repeated without end."""
    numbers = np.asarray(rows) % _length(examples)
    return jax.tree.map(lambda x: np.asarray(x)[numbers], examples)


def _joined(*parts):
    """Numbers of examples, [batches, runs, size, ...] in each part, as [runs, examples, ...]; sums, [batches, runs], as
    [runs]."""
    arrays = [np.asarray(part) for part in parts]
    if arrays[0].ndim == 2:
        return np.concatenate(arrays).sum(0, dtype=np.float64)
    return np.concatenate([np.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:]) for x in arrays], axis=1)
