"""Program: a pack of runs that differ only in knobs, compiled once.

It batches the functions of `scaling.training.step` over the pack with `vmap`, loops over steps inside one call, and places
the arrays on the mesh.
"""

import functools
from collections.abc import Mapping
from concurrent import futures
from functools import partial
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from scaling import cost, families
from scaling import experiment as experiments
from scaling.devices import arrays, sharding
from scaling.devices.divisibility import check_divisible
from scaling.devices.layouts import make_mesh
from scaling.fields import ConfigError
from scaling.training import accumulation, evaluation, step
from scaling.training.compiled import Compiled, traced_once
from scaling.training.evaluator import Evaluator
from scaling.training.feeds import ResidentFeed, StreamedFeed
from scaling.training.solving import solve_pack
from scaling.training.step import TRUNK, Span, State, init_state


class Program:
    """Compiled functions for a pack of `runs` experiments that differ only in knobs.

    States, knobs and spans carry the pack as their first axis. Every function is compiled at its first call, or in other
    threads by `compile`. In a job of several processes all of them make the same calls in the same order: common values go
    in as host values, and results are read with `arrays.fetch`. The devices may belong to a topology that is not at hand,
    and `source` may be None; then only `lower` can be called.
    """

    def __init__(self, experiment, source, runs: int, mesh: str = "", steps_per_call: int = 256, devices=None):
        self.experiment, self.runs = experiment, runs
        self.mesh = make_mesh(runs, mesh, experiment.layout, devices)
        check_divisible(experiment, self.mesh)
        with sharding.within(self.mesh, experiment.layout, not experiment.fast):
            once, often = (options_for_one_call(), options_for_many_calls()) if experiment.fast else ({}, {})
            self.accumulation_steps = accumulation.accumulation_steps(experiment, self.mesh, runs)
            # XLA's CPU backend runs lax.conv inside a compiled loop about 30 times slower than outside it.
            self.loop = sharding.platform() != "cpu" or not cost.convolves(experiment.family)
        if experiment.data.feed == "resident":
            self.feed = ResidentFeed(source, self.mesh)
        else:
            self.feed = StreamedFeed(experiment, source, self.mesh, runs)
        self.steps_per_call = steps_per_call
        self.step_seconds: float | None = None  # as last measured by those who call it
        self.compiled_steps = min(steps_per_call, self.feed.most_steps) if self.loop else 1
        abstract = jax.eval_shape(self._init, self._knobs([experiment] * runs), {})
        self.shardings = sharding.shardings(abstract, self.mesh, experiment.layout)
        self.abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
                                     abstract, self.shardings)
        everywhere, what = sharding.replicated(self.mesh), self._what(source, data=False)
        self.init_call = Compiled(self._init, what, out_shardings=self.shardings, compiler_options=once)
        self.advance_call = Compiled(self._advance, self._what(source), donate_argnums=0, compiler_options=often,
                                     out_shardings=(self.shardings, everywhere))
        self.evaluator = Evaluator(experiment, runs, self.mesh, self.loop, often, what)
        self.copy_call = Compiled(partial(jax.tree.map, jnp.copy), what, out_shardings=self.shardings,
                                  compiler_options=once)
        self.split_call = Compiled(self._split, what, compiler_options=once)

    # ---- for callers

    def init(self, pack, given: Mapping[str, list] = MappingProxyType({})) -> State:
        """The state before the first step of every run of the pack.

        `given` are parameters that are taken from other runs, {path: [an array for each run]}; see `step.init_state`.
        """
        return self.init_call(self._knobs(pack), dict(given))

    def advance(self, state: State, pack, spans, steps: int) -> tuple[State, dict[str, jax.Array]]:
        """(the state after `steps` more steps, metrics). Donates `state`, and returns before the device is done.

        Metrics have the shape [runs, at least steps]; only the first `steps` columns count. The call of a solved family
        takes all steps of its runs, and its metrics have one column.
        """
        if families.is_solved(self.experiment.family):
            return self._solve(state, pack, steps)
        if steps <= self.compiled_steps:
            return self._call(state, pack, spans, steps)
        parts, done = [], 0
        while done < steps:
            count = min(steps - done, self.compiled_steps)
            state, metrics = self._call(state, pack, spans, count)
            parts.append({name: values[:, :count] for name, values in metrics.items()})
            done += count
        return state, {name: jnp.concatenate([part[name] for part in parts], 1) for name in parts[0]}

    def _solve(self, state, pack, steps):
        params = arrays.place(solve_pack(pack, self.feed.source), self.shardings.params)
        return state._replace(step=state.step + steps, params=params), {"diverged": state.diverged[:, None]}

    def _call(self, state, pack, spans, steps):
        data = self.feed.data(state, pack, steps, self.compiled_steps)
        state, metrics = self.advance_call(state, self._knobs(pack), self._spans(spans), np.int32(steps), data)
        self.feed.advanced(state)
        return state, metrics

    def lower(self) -> jax.stages.Lowered:
        """`advance`, traced and lowered for the mesh but not run. A streamed feed needs no source for it. Raises
        ConfigError for a solved family."""
        if families.is_solved(self.experiment.family):
            named = families.name(self.experiment.family)
            raise ConfigError(f"family.name={named} is solved from its data, so there is no train step to compile; write "
                              "another family")
        knobs, spans = self._knobs([self.experiment] * self.runs), self._spans([TRUNK] * self.runs)
        return self.advance_call.lower(self.abstract, knobs, spans, np.int32(1), self.feed.abstract(self.compiled_steps))

    def compile(self, pool: futures.Executor, evaluated=(), samples=None) -> None:
        """Compiles in the threads of `pool` what the training of a pack calls, the step first; returns before it is done.

        `evaluated` are the sets of examples that it will be evaluated on, and `samples` the arguments of `sample`.
        """
        knobs, state = self._knobs([self.experiment] * self.runs), self.abstract
        spans = self._spans([TRUNK] * self.runs)
        if not families.is_solved(self.experiment.family):
            self.advance_call.ahead(pool, state, knobs, spans, np.int32(1), self.feed.abstract(self.compiled_steps))
        self.init_call.ahead(pool, knobs, {})
        self.evaluator.compile(pool, state, evaluated, samples)
        self.split_call.ahead(pool, state.ema or state.params)
        self.copy_call.ahead(pool, state)

    def await_trace(self) -> None:
        """Waits until the step is traced, if it is compiled ahead."""
        self.advance_call.await_trace()

    @property
    def ready(self) -> bool:
        """Whether training can begin without waiting for a compilation that is under way."""
        return self.advance_call.ready and self.init_call.ready

    def resized(self, rows: int):
        """(abstract state of a pack of `rows` runs, the function that makes a state of this pack from it).

        Runs that are too many are left out, and the last one fills the places of those that are missing.
        """
        def resize(x):
            everywhere = NamedSharding(self.mesh, PartitionSpec(None, *x.sharding.spec[1:]))
            return jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype, sharding=everywhere)

        places = np.minimum(np.arange(self.runs), rows - 1)
        fit = jax.jit(lambda state: jax.tree.map(lambda x: x[places], state), out_shardings=self.shardings)
        return jax.tree.map(resize, self.abstract), fit

    def copy(self, state: State) -> State:
        """A state that can be donated while `state` is kept."""
        return self.copy_call(state)

    def parameters(self, state: State) -> list:
        """The evaluated parameters of each run."""
        return self.split_call(state.ema or state.params)

    def evaluate(self, state: State, examples) -> dict[str, np.ndarray]:
        """{metric: [runs]} over all `examples`, arrays that lead with the example axis.

        Sums over examples are float64. The noise of an example depends on its number alone, not on its batch.
        """
        found = self.evaluator.evaluating(state, examples)()
        return evaluation.metrics_of(self.experiment.family, found, examples.get(evaluation.CLUSTER))

    def sample(self, state: State, examples, count: int) -> np.ndarray:
        """`count` samples of every run, [runs, count, ...], under the conditions of the examples in turn."""
        return self.evaluator.sampling(state, examples, count)()

    def _what(self, source, data: bool = True) -> str | None:
        """All that determines the functions beside the shapes of their arguments; None where code of others does. Without
        `data`, of the functions that no batch is read in: programs on other data share what is compiled of them."""
        parts = self.experiment.family, self.experiment.data, source
        if not all(type(part).__module__.startswith("scaling.") for part in parts):
            return None
        chosen = self.runs, dict(self.mesh.shape), self.accumulation_steps, self.compiled_steps, self.loop
        read = source.fingerprint if data else type(self.experiment.data).__name__
        return f"{experiments.program_key(self.experiment, data)} {read} {chosen}"

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

    def _init(self, knobs, given):
        with sharding.within(self.mesh, self.experiment.layout, not self.experiment.fast):
            given = {path: jnp.stack(rows) for path, rows in given.items()}
            return self._vmap(lambda k, taken: init_state(self.experiment.replace(k), taken))(self._over_runs(knobs), given)

    def _advance(self, state, knobs, spans, count, data):
        with sharding.within(self.mesh, self.experiment.layout, not self.experiment.fast):
            return self._steps(state, knobs, spans, count, data)

    def _steps(self, state, knobs, spans, count, data):
        knobs, spans = self._over_runs(knobs), self._over_runs(spans)

        def one(state, knobs, span, index, data):
            bound = self.experiment.replace(knobs)
            batch = self.feed.batch(data, index, bound.seed, state.step)
            batch = sharding.shard_batch(batch, self.mesh, self.experiment.layout)
            return step.train_step(bound, span, state, batch, self.accumulation_steps, self.loop)

        pack = self._vmap(one, (0, 0, 0, None, self.feed.run_axis))
        # Tracing it anew in the loop would take as long as compiling a small program.
        pack, (_, shapes) = traced_once(pack, state, knobs, spans, jnp.int32(0), data)
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

    def _split(self, params):
        return [jax.tree.map(lambda x, run=run: x[run], params) for run in range(self.runs)]


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
