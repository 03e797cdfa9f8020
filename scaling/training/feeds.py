"""How batches reach a compiled program: the whole data set lies on the devices, or the host streams batches to them.

The program asks its feed for `data` before each call and, inside the compiled loop, for the batch of a step. It tells the
feed the state after the call.
"""

import functools

import jax

from scaling.devices import arrays, sharding
from scaling.devices.layouts import batch_shards
from scaling.training.ahead import ReadAhead
from scaling.training.step import NEVER

STREAMED = 2**28  # bytes of streamed batches that a device holds for one call


class ResidentFeed:
    """The whole data set lies on every device, and the program slices its batches from it."""

    run_axis = None  # all runs of a pack share the data
    most_steps = NEVER  # steps of one call that a device has room for

    def __init__(self, source, mesh):
        self.source, self.mesh = source, mesh

    @functools.cached_property
    def _arrays(self):
        return arrays.place(self.source.arrays(), sharding.replicated(self.mesh))

    def data(self, state, pack, steps: int, compiled_steps: int):
        """The arrays of the source, the same for every call."""
        return self._arrays

    def advanced(self, state):
        """Nothing to do: the batches of the next call are where those of this one are."""

    def abstract(self, compiled_steps: int):
        """Shapes and shardings of `data`."""
        return _abstract(jax.eval_shape(self.source.arrays), sharding.replicated(self.mesh))

    def batch(self, data, index, seed, step):
        """The batch of training step `step` of the run with this seed; traced."""
        return self.source.slice(data, seed, step)


class StreamedFeed:
    """The host reads the batches of the next call while the devices compute this one.

    `source` may be None where the program is only compiled.
    """

    run_axis = 0  # every run of a pack has its own batches

    def __init__(self, experiment, source, mesh, runs: int):
        self.experiment, self.source, self.mesh, self.runs = experiment, source, mesh, runs
        self.placing = sharding.over_batch(mesh, experiment.layout, "run", None)
        self._ahead: ReadAhead | None = None  # of the runs of which this host holds a part
        self._seeds: list[int] = []  # of those runs
        self._step: jax.Array | None = None  # that of the state after the last call, until the next one

    @functools.cached_property
    def _example(self) -> dict:
        """Shapes of one batch: those of the family's example batch."""
        e = self.experiment
        return dict(jax.eval_shape(lambda: e.family.example_batch(e.data.batch, jax.random.key(0))))

    @functools.cached_property
    def most_steps(self) -> int:
        """Steps of one call for whose batches a device has room."""
        per_step = self.runs * sum(x.size * x.dtype.itemsize for x in self._example.values())
        per_device = per_step / self.mesh.shape["run"] / batch_shards(self.mesh, self.experiment.layout)
        return max(1, int(STREAMED / per_device))

    def data(self, state, pack, steps: int, compiled_steps: int):
        """Batches [runs, compiled_steps, batch, ...], of which only the first `steps` steps count.

        Each host reads only the runs and rows that its devices hold.
        """
        shape = (self.runs, compiled_steps, self.experiment.data.batch)
        local_runs, _, local_rows = arrays.local_ranges(self.placing, shape)
        seeds = [pack[run].seed for run in local_runs]
        batches = self._reader(state, seeds, local_rows).take(steps)
        return jax.tree.map(lambda x: arrays.place_local(x, self.placing, shape), batches)

    def _reader(self, state, seeds, rows) -> ReadAhead:
        """The reader at the step of `state`: the last one if this call goes on where the last one ended."""
        # To ask the devices for the step would wait for the last call, so the state is recognised by the array itself.
        follows, self._step = state.step is self._step, None
        if self._ahead is None or not follows or seeds != self._seeds:
            start = int(arrays.fetch(state.step)[0])  # another pack or segment, or a resumed run
            if self._ahead is None or (seeds, start) != (self._seeds, self._ahead.at):
                reads = [functools.partial(self.source.batches, seed, rows=rows) for seed in seeds]
                self._ahead, self._seeds = ReadAhead(reads, start, self.most_steps), seeds
        return self._ahead

    def advanced(self, state):
        """Remembers the state after the call whose `data` were asked for last."""
        self._step = state.step

    def abstract(self, compiled_steps: int):
        """Shapes and shardings of `data`."""
        lead = (self.runs, compiled_steps)
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((*lead, *x.shape), x.dtype), self._example)
        return _abstract(shapes, self.placing)

    def batch(self, data, index, seed, step):
        """The batch of step number `index` of this call, from one run's `data`; traced."""
        return jax.tree.map(lambda x: x[index], data)


def _abstract(shapes, placing):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placing), shapes)
