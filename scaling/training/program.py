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
from scaling.devices.divisibility import check_divisible
from scaling.devices.layouts import batch_shards, make_mesh
from scaling.training import accumulation, evaluation
from scaling.training.feeds import ResidentFeed, StreamedFeed
from scaling.training.step import TRUNK, Span, State, evaluate_batch, init_state, means, sample_batch, train_step


class Program:
    """Compiled functions for a pack of `runs` experiments that differ only in knobs.

    States, knobs and spans carry the pack as their first axis. Every function is compiled at its first call. In a job
    of several processes all of them make the same calls in the same order: common values go in as host values, and
    results are read with `arrays.fetch`. The devices may belong to a topology that is not at hand, and `source` may be
    None; then only `lower` can be called.
    """

    def __init__(self, experiment, source, runs: int, mesh: str = "", steps_per_call: int = 256, devices=None):
        self.experiment, self.runs = experiment, runs
        self.mesh = make_mesh(runs, mesh, experiment.layout, devices)
        check_divisible(experiment, self.mesh)
        with sharding.within(self.mesh, experiment.layout):
            once, often = options_for_one_call(), options_for_many_calls()
            self.accumulation_steps = accumulation.accumulation_steps(experiment, self.mesh, runs)
            # XLA's CPU backend runs convolutions inside a compiled loop about 30 times slower than outside it.
            self.loop = sharding.platform() != "cpu" or not cost.convolves(experiment.family)
        if experiment.data.feed == "resident":
            self.feed = ResidentFeed(source, self.mesh)
        else:
            self.feed = StreamedFeed(experiment, source, self.mesh, runs)
        self.steps_per_call = steps_per_call
        self.compiled_steps = min(steps_per_call, self.feed.most_steps) if self.loop else 1
        abstract = jax.eval_shape(self._init, self._knobs([experiment] * runs))
        self.shardings = sharding.shardings(abstract, self.mesh, experiment.layout)
        self.abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
                                     abstract, self.shardings)
        everywhere = sharding.replicated(self.mesh)
        self.init_call = jax.jit(self._init, out_shardings=self.shardings, compiler_options=once)
        self.advance_call = jax.jit(self._advance, donate_argnums=0, out_shardings=(self.shardings, everywhere),
                                    compiler_options=often)
        on_batch = partial(jax.jit, out_shardings=everywhere, compiler_options=often)
        self.evaluate_call = on_batch(partial(self._on_batch, evaluate_batch))
        self.sample_call = on_batch(partial(self._on_batch, sample_batch))

    # ---- for callers

    def init(self, pack) -> State:
        """The state before the first step of every run of the pack."""
        return self.init_call(self._knobs(pack))

    def advance(self, state: State, pack, spans, steps: int) -> tuple[State, dict[str, jax.Array]]:
        """(the state after `steps` more steps, metrics). Donates `state`, and returns before the device is done.

        Metrics have the shape [runs, at least steps]; only the first `steps` columns count.
        """
        if steps <= self.compiled_steps:
            return self._call(state, pack, spans, steps)
        parts, done = [], 0
        while done < steps:
            count = min(steps - done, self.compiled_steps)
            state, metrics = self._call(state, pack, spans, count)
            parts.append({name: values[:, :count] for name, values in metrics.items()})
            done += count
        return state, {name: jnp.concatenate([part[name] for part in parts], 1) for name in parts[0]}

    def _call(self, state, pack, spans, steps):
        data = self.feed.data(state, pack, steps, self.compiled_steps)
        state, metrics = self.advance_call(state, self._knobs(pack), self._spans(spans), np.int32(steps), data)
        self.feed.advanced(state)
        return state, metrics

    def lower(self) -> jax.stages.Lowered:
        """`advance`, traced and lowered for the mesh but not run. A streamed feed needs no source for it."""
        knobs, spans = self._knobs([self.experiment] * self.runs), self._spans([TRUNK] * self.runs)
        return self.advance_call.lower(self.abstract, knobs, spans, np.int32(1), self.feed.abstract(self.compiled_steps))

    def evaluate(self, state: State, examples) -> dict[str, np.ndarray]:
        """{metric: [runs]} over all `examples`, arrays that lead with the example axis.

        Sums over batches are float64. The noise of an example depends on its number alone, not on its batch.
        """
        parts = [self.evaluate_call(state, np.int32(rows.start), _rows(examples, rows))
                 for rows in self._cut(_length(examples), self.experiment.data.evaluated_together)]
        return means(jax.tree.map(_total, *parts))

    def sample(self, state: State, examples, count: int) -> np.ndarray:
        """`count` samples of every run, [runs, count, ...], under the conditions of the examples in turn."""
        rounded = -(-count // self.shards) * self.shards
        size = len(self._cut(rounded, self.experiment.data.at_once[1])[0])
        parts = [np.asarray(self.sample_call(state, np.int32(start), _rows(examples, range(start, start + size))))
                 for start in range(0, count, size)]
        return np.concatenate(parts, 1)[:, :count]

    def _cut(self, count: int, together: int) -> list[range]:
        return evaluation.cut(count, together, self.shards, self._fits)

    @property
    def shards(self) -> int:
        """The number of parts that a batch is divided into."""
        return batch_shards(self.mesh, self.experiment.layout)

    @functools.cached_property
    def _fits(self) -> int:
        """Examples that a device has room for in an evaluation, a gradient's activations counted for each."""
        with sharding.within(self.mesh, self.experiment.layout):
            return accumulation.examples_in_memory(self.experiment.family, self.mesh, self.runs)

    # ---- traced

    def _knobs(self, pack):
        values = [experiments.knobs(e) for e in pack]
        # The bits of a seed are what counts, and a key reads int32 as it reads uint32: 3,000,000,000 has its sign bit set.
        return {path: np.asarray([v[path] for v in values], np.int64).astype(np.int32) if path == "seed" else
                np.asarray([v[path] for v in values], np.float32)
                for path in values[0] if path != self.experiment.data.length_knob}  # the span holds the length of a run

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
            batch = self.feed.batch(data, index, bound.seed, state.step)
            batch = sharding.shard_batch(batch, self.mesh, self.experiment.layout)
            return train_step(bound, span, state, batch, self.accumulation_steps, self.loop)

        pack = self._vmap(one, (0, 0, 0, None, self.feed.run_axis))
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

    def _on_batch(self, function, state, first, batch):
        with sharding.within(self.mesh, self.experiment.layout):
            if _length(batch) % self.shards == 0:
                batch = sharding.shard_batch(batch, self.mesh, self.experiment.layout)
            return self._vmap(partial(function, self.experiment), (0, None, None))(state, first, batch)


def _length(examples) -> int:
    return jax.tree.leaves(examples)[0].shape[0]


def _rows(examples, rows: range):
    """These rows of `examples`, which are repeated without end."""
    numbers = np.asarray(rows) % _length(examples)
    return jax.tree.map(lambda x: np.asarray(x)[numbers], examples)


def _total(*parts):
    return np.sum([np.asarray(part) for part in parts], axis=0, dtype=np.float64)


# --------------------------------------------------------------------- options of XLA's compiler


def options_for_many_calls() -> dict:
    """Compiler options for programs that run many times.

    XLA's YNNPACK kernels are fast for matrix products but slower than XLA's own loops for the reductions of a small
    model. With this option a step of a small Transformer takes 0.8 of the time.
    """
    return _known({"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"})


def options_for_one_call() -> dict:
    """Compiler options for programs that run once, such as an initialisation: they compile in a third of the time and run
    slowly."""
    return _known({"xla_backend_optimization_level": 0})


def _known(options: dict) -> dict:
    on_cpu = sharding.platform() == jax.default_backend() == "cpu"
    return {name: value for name, value in options.items() if on_cpu and _accepted(name, value)}


@functools.cache
def _accepted(name, value) -> bool:
    try:
        jax.jit(lambda x: x + 1, compiler_options={name: value})(jnp.zeros(()))
        return True
    except Exception:  # an XLA without the option raises an error of its own
        return False
