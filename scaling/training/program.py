"""Program: a pack of runs that differ only in knobs, compiled once.

It batches the functions of `scaling.training.step` over the pack with `vmap`, loops over steps inside one call, and places
the arrays on the mesh.
"""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from scaling import cost
from scaling import experiment as experiments
from scaling.devices import sharding
from scaling.devices.layouts import batch_shards, make_mesh
from scaling.training import accumulation
from scaling.training.step import NEVER, TRUNK, Span, State, evaluate_batch, init_state, means, sample_batch, train_step

STREAMED = 2**28  # bytes of streamed batches that a device holds for one call


class Program:
    """Compiled functions for a pack of `runs` experiments that differ only in knobs.

    States, knobs and spans carry the pack as their first axis. Every function is compiled at its first call. In a job
    of several processes all of them make the same calls in the same order; what they hold in common goes in as host
    values, and what comes out is read with `sharding.fetch`. The devices may be those of a topology that is not at
    hand, and `source` None: then only `lower` is of use.
    """

    def __init__(self, experiment, source, runs: int, mesh: str = "", steps_per_call: int = 256, devices=None):
        self.experiment, self.source, self.runs = experiment, source, runs
        self.mesh = make_mesh(runs, mesh, experiment.layout, devices)
        sharding.check(experiment, self.mesh)
        with sharding.within(self.mesh, experiment.layout):
            once, often = options_for_one_call(), options_for_many_calls()
            self.accumulation_steps = accumulation.accumulation_steps(experiment, self.mesh, runs)
            # XLA's CPU backend runs convolutions inside a compiled loop about 30 times slower than outside one
            self.loop = sharding.platform() != "cpu" or not cost.convolves(experiment.family)
        self.steps_per_call = steps_per_call
        self.resident = experiment.data.feed == "resident"
        self.compiled_steps = min(steps_per_call, self._streamed()) if self.loop else 1
        abstract = jax.eval_shape(self._init, self._knobs([experiment] * runs))
        self.shardings = sharding.shardings(abstract, self.mesh, experiment.layout)
        self.abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
                                     abstract, self.shardings)
        everywhere = sharding.replicated(self.mesh)
        self.init_call = jax.jit(self._init, out_shardings=self.shardings, compiler_options=once)
        self.advance_call = jax.jit(self._advance, donate_argnums=0, out_shardings=(self.shardings, everywhere),
                                    compiler_options=often)
        self.evaluate_call, self.sample_call = (
            jax.jit(partial(self._on_batch, function), out_shardings=everywhere, compiler_options=often)
            for function in (evaluate_batch, sample_batch))
        self.data = None
        self.streams, self.reading = [], None

    # ---- for callers

    def init(self, pack) -> State:
        return self.init_call(self._knobs(pack))

    def advance(self, state: State, pack, spans, steps: int) -> tuple[State, dict[str, jax.Array]]:
        """The state `steps` later, and metrics of shape [runs, at least steps], of which the first `steps` columns
        count. The state given is donated. Returns before the device is done."""
        if steps <= self.compiled_steps:
            return self._call(state, pack, spans, steps)
        found, at = [], 0
        while at < steps:
            now = min(steps - at, self.compiled_steps)
            state, metrics = self._call(state, pack, spans, now)
            found, at = [*found, jax.tree.map(lambda x: x[:, :now], metrics)], at + now
        return state, jax.tree.map(lambda *x: jnp.concatenate(x, 1), *found)

    def _call(self, state, pack, spans, steps):
        if self.resident and self.data is None:
            self.data = sharding.place(self.source.arrays(), sharding.replicated(self.mesh))
        data = self.data if self.resident else self._read(state, pack, steps)
        return self.advance_call(state, self._knobs(pack), self._spans(spans), np.int32(steps), data)

    def lower(self) -> jax.stages.Lowered:
        """`advance`, traced and lowered for the mesh and not run. Streamed batches are the family's example batches."""
        e, head = self.experiment, (self.runs, self.compiled_steps)
        if self.resident:
            data = jax.eval_shape(self.source.arrays)
            lies = sharding.replicated(self.mesh)
        else:
            data = jax.tree.map(lambda x: jax.ShapeDtypeStruct((*head, *x.shape), x.dtype), self._example())
            lies = self._over_streams()
        data = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=lies), data)
        spans = self._spans([TRUNK] * self.runs)
        return self.advance_call.lower(self.abstract, self._knobs([e] * self.runs), spans, np.int32(1), data)

    def evaluate(self, state: State, batches) -> dict[str, np.ndarray]:
        """{metric: [runs]} over batches stacked on the first axis."""
        found = [self.evaluate_call(state, np.int32(index), batch) for index, batch in enumerate(_unstacked(batches))]
        return means(jax.tree.map(lambda *x: np.sum([np.asarray(y) for y in x], axis=0, dtype=np.float64), *found))

    def sample(self, state: State, batches, count: int) -> np.ndarray:
        """`count` samples of every run, [runs, count, ...], under the conditions of the batches in turn."""
        found, turns = [], list(_unstacked(batches))
        size = jax.tree.leaves(turns[0])[0].shape[0]
        for index in range(-(-count // size)):
            found.append(np.asarray(self.sample_call(state, np.int32(index), turns[index % len(turns)])))
        return np.concatenate(found, 1)[:, :count]

    # ---- traced

    def _knobs(self, pack):
        values = [experiments.knobs(e) for e in pack]
        return {path: np.asarray([v[path] for v in values], np.int32 if path == "seed" else np.float32)
                for path in values[0] if path != self.experiment.data.length_knob}  # the length of a run is in its span

    def _spans(self, spans):
        return Span(*(np.asarray(x, np.int32) for x in zip(*spans, strict=True)))

    def _over_runs(self, tree):
        over = sharding.over_runs(self.mesh)
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, over), tree)

    def _vmap(self, function, in_axes=0):
        return jax.vmap(function, in_axes, spmd_axis_name="run")

    def _init(self, knobs):
        with sharding.within(self.mesh, self.experiment.layout):
            return self._vmap(lambda k: init_state(self.experiment.replace(k)))(self._over_runs(knobs))

    def _advance(self, state, knobs, spans, count, data):
        with sharding.within(self.mesh, self.experiment.layout):
            return self._steps(state, knobs, spans, count, data)

    def _steps(self, state, knobs, spans, count, data):
        knobs, spans = self._over_runs(knobs), self._over_runs(spans)

        def one(state, knobs, span, index, data):
            bound = self.experiment.replace(knobs)
            if self.resident:
                batch = self.source.slice(data, bound.seed, state.step)
            else:
                batch = jax.tree.map(lambda x: x[index], data)
            batch = sharding.shard_batch(batch, self.mesh, self.experiment.layout)
            return train_step(bound, span, state, batch, self.accumulation_steps, self.loop)

        pack = self._vmap(one, (0, 0, 0, None, None if self.resident else 0))
        shapes = jax.eval_shape(pack, state, knobs, spans, jnp.int32(0), data)[1]
        rows = {k: jnp.zeros((self.compiled_steps, *v.shape), v.dtype) for k, v in shapes.items()}

        def body(index, carry):
            state, rows = carry
            state, metrics = pack(state, knobs, spans, index, data)
            return state, {k: rows[k].at[index].set(v) for k, v in metrics.items()}

        if self.compiled_steps == 1:  # no loop at all
            state, rows = body(0, (state, rows))
        else:
            state, rows = jax.lax.fori_loop(0, count, body, (state, rows))
        return state, {k: v.swapaxes(0, 1) for k, v in rows.items()}

    def _on_batch(self, function, state, index, batch):
        with sharding.within(self.mesh, self.experiment.layout):
            batch = sharding.shard_batch(batch, self.mesh, self.experiment.layout)
            return self._vmap(partial(function, self.experiment), (0, None, None))(state, index, batch)

    def _read(self, state, pack, steps):
        """Batches [runs, compiled_steps, batch, ...], of which each host reads what its devices hold; steps after
        `steps` are never looked at."""
        start = int(sharding.fetch(state.step)[0])
        lies, shape = self._over_streams(), (self.runs, self.compiled_steps, self.experiment.data.batch)
        runs, _, rows = sharding.local(lies, shape)
        seeds = [pack[run].seed for run in runs]
        if (seeds, start) != self.reading:  # a resumed run or another segment; else the streams are where they should be
            self.streams = [self.source.stream(seed, start, NEVER, rows) for seed in seeds]
        self.reading = (seeds, start + steps)
        runs = [[next(stream) for _ in range(steps)] for stream in self.streams]
        stacked = jax.tree.map(lambda *x: np.stack(x), *[jax.tree.map(lambda *x: np.stack(x), *r) for r in runs])
        pad = [(0, 0), (0, self.compiled_steps - steps)]
        padded = jax.tree.map(lambda x: np.pad(x, pad + [(0, 0)] * (x.ndim - 2)), stacked)
        return jax.tree.map(lambda x: sharding.place_local(x, lies, shape), padded)

    def _example(self):
        e = self.experiment
        return dict(jax.eval_shape(lambda: e.family.example_batch(e.data.batch, jax.random.key(0))))

    def _streamed(self) -> int:
        """Steps whose batches a device has room for."""
        if self.resident:
            return NEVER
        whole = self.runs * sum(x.size * x.dtype.itemsize for x in self._example().values())
        each = whole / self.mesh.shape["run"] / batch_shards(self.mesh, self.experiment.layout)
        return max(1, int(STREAMED / each))

    def _over_streams(self):
        return sharding.over_batch(self.mesh, self.experiment.layout, "run", None)


def _unstacked(batches):
    for index in range(jax.tree.leaves(batches)[0].shape[0]):
        yield jax.tree.map(lambda x: x[index], batches)


# --------------------------------------------------------------------- options of XLA's compiler


def options_for_many_calls() -> dict:
    """For programs that run many times. XLA's YNNPACK kernels are fast for matrix products and slow for reductions of
    the size of a small model's, which its own loops do better: a step of a small Transformer took 0.8 of the time."""
    return _known({"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"})


def options_for_one_call() -> dict:
    """For programs that run once, such as an initialisation: compiled in a third of the time and slow to run."""
    return _known({"xla_backend_optimization_level": 0})


def _known(options: dict) -> dict:
    on_cpu = sharding.platform() == jax.default_backend() == "cpu"
    return {name: value for name, value in options.items() if on_cpu and _accepted(name, value)}


@functools.cache
def _accepted(name, value) -> bool:
    try:
        jax.jit(lambda x: x + 1, compiler_options={name: value})(jnp.zeros(()))
        return True
    except Exception:  # whatever an XLA without the option makes of it
        return False
