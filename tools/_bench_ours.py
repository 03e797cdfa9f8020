"""The package's own side of `tools.bench`: programs as sweeps compile them, on data that lie in memory."""

import dataclasses
import importlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from scaling import cost, families
from scaling import experiment as experiments
from scaling.devices import speed
from scaling.experiment import Text, kind_read
from scaling.families.transformer import Transformer
from scaling.nn import attention
from scaling.training.program import Program, options_for_many_calls
from scaling.training.step import TRUNK
from tools import _bench_cases as cases

EXAMPLES = 4096
GAME = {"optim.beta1": 0.0, "optim.beta2": 0.99, "optim.weight_decay": 0.0}
ADAM = {"gan": GAME, "textgan": GAME}


class Rows:
    """A source of random examples that lie on the devices; each step takes the next batch of them."""

    def __init__(self, case):
        self.batch = case.batch
        if isinstance(case, cases.Member) or getattr(case, "member", None) in cases.OTHER_MEMBERS:
            found = experiment(case).family.example_batch(16 * case.batch, jax.random.key(0))
            self.rows = {name: np.array(value) for name, value in found.items() if name != "bytes"}
        else:
            name, high, shape = (("tokens", case.vocab, (case.length + 1,)) if isinstance(case, cases.Text) else
                                 ("image", 256, (16, 16, 1)))
            count = max(case.batch, min(EXAMPLES, 2**22 // int(np.prod(shape)))) // case.batch * case.batch
            self.rows = {name: np.random.default_rng(0).integers(0, high, (count, *shape), dtype=np.uint8)}
        self.count = len(next(iter(self.rows.values())))

    def arrays(self):
        return self.rows

    def slice(self, arrays, seed, step):
        start = step * self.batch % self.count
        rows = {name: lax.dynamic_slice_in_dim(value, start, self.batch) for name, value in arrays.items()}
        return {name: value if name == "image" else value.astype("int32") for name, value in rows.items()}


def experiment(case, **how):
    """The experiment of a case. `how` are fields of it that do not change results, such as microbatch."""
    if isinstance(case, cases.Text):
        data = Text(batch=case.batch, length=case.length)
        matrices = 12 * case.layers * case.width**2
        family = Transformer.ladder(max(matrices, 5e3), width=case.width, layers=case.layers, heads=case.heads,
                                    **data.family_fields())
        name = "transformer"
    elif isinstance(case, cases.Member):
        name, _, variant = case.family.partition("/")
        cls = families.find(name)
        data = kind_read(cls)(batch=case.batch, length=case.length)
        family = cls.ladder(case.size, **cases.VARIANTS.get(variant, {}), **data.family_fields())
    else:
        name, _, variant = case.member.partition("/")
        cls = families.find(name)
        data = kind_read(cls)(batch=case.batch, **({"caption": cases.CAPTION} if name == "multimodal" else {}))
        known = {field.name for field in dataclasses.fields(cls)}
        read = {field: value for field, value in data.family_fields().items() if field in known}
        family = cls.ladder(case.size, **cases.VARIANTS.get(variant, {}), **read)
    e = experiments.Experiment(family=family, data=data)
    return e.replace({"optim.learning_rate": 1e-4, **ADAM.get(name, {}), **how})  # small, since random data teach nothing


class Ours:
    """One program at a time for each (case, number of packed runs)."""

    def __init__(self, clock=time.perf_counter):
        self.clock, self.ready = clock, {}

    def prepare(self, case, runs=1, how=None):
        """Compiles a program and takes two steps: {"compile": seconds, "seconds": of a step, "parameters", "flops"}."""
        e = experiment(cases.build(case), **(how or {}))
        start = self.clock()
        program = Program(e, Rows(cases.build(case)), runs)
        pack = [e.replace({"seed": seed}) for seed in range(runs)]
        made = self.clock() - start
        state = jax.block_until_ready(program.init(pack))
        self.ready[case["name"], runs] = [program, pack, state]
        first = self.run(case, runs, 1)["seconds"]
        each = self.run(case, runs, 1)["seconds"]
        cached = jax.config.jax_compilation_cache_dir is not None  # then it says little about compilation
        return {"compile": None if cached else made + first - each, "seconds": each,
                "parameters": cost.param_count(e.family)["total"], "flops": cost.train_flops(e.family, e.data.batch),
                "devices": jax.device_count(), "pieces": getattr(program, "accumulation_steps", None)}

    def run(self, case, runs, steps):
        """Takes `steps` steps of every run: {"seconds"}."""
        program, pack, state = held = self.ready[case["name"], runs]
        start = self.clock()
        state, metrics = program.advance(state, pack, [TRUNK] * runs, steps)
        jax.block_until_ready((state, metrics))
        held[2] = state
        return {"seconds": self.clock() - start}

    def forget(self):
        self.ready.clear()
        jax.clear_caches()
        return {}

    def products(self, size, seconds):
        """{"rate": FLOP/s of matrix products on all devices together}."""
        return {"rate": speed.matmul_rate(size, seconds, self.clock)}

    def devices(self):
        """{"count": of the devices}."""
        return {"count": jax.device_count()}

    def compile(self, case):
        """Seconds to trace and lower the step of a case, and to compile it, with nothing kept from before."""
        jax.config.update("jax_enable_compilation_cache", False)
        jax.clear_caches()
        e = experiment(cases.build(case), **{"family.scan": True})
        start = time.perf_counter()
        lowered = Program(e, Rows(cases.build(case)), 1).lower()
        traced = time.perf_counter()
        lowered.compile()
        return {"trace": traced - start, "compile": time.perf_counter() - traced}

    def attention(self, length, heads, size, implementation, seconds):
        """{"seconds"} of causal attention of 4 sequences, forward and backward, on every device at once."""
        devices = jax.device_count()
        mesh = jax.make_mesh((devices,), ("run",), axis_types=(jax.sharding.AxisType.Auto,))
        runs = jax.NamedSharding(mesh, jax.sharding.PartitionSpec("run"))
        key = jax.random.key(0)
        qkv = tuple(jax.device_put(jax.random.normal(jax.random.fold_in(key, i), (devices, 4, length, heads, size)), runs)
                    for i in range(3))

        def step(_, qkv):
            grads = jax.grad(lambda qkv: jnp.square(attention.causal(*qkv, implementation)).sum())(qkv)
            return jax.tree.map(lambda x, g: x - 1e-6 * g, qkv, grads)

        held = f"attention {length} {heads} {size} {implementation}"
        if held not in self.ready:
            loop = jax.vmap(lambda qkv, times: lax.fori_loop(0, times, step, qkv), (0, None))
            self.ready[held] = jax.jit(loop, compiler_options=options_for_many_calls())
            jax.block_until_ready(self.ready[held](qkv, 1))

        def elapsed(times):
            start = time.perf_counter()
            jax.block_until_ready(self.ready[held](qkv, times))
            return time.perf_counter() - start

        times = max(1, round(seconds / elapsed(1)))
        return {"seconds": elapsed(times) / times}

    def call(self, module, function, arguments):
        """{"found": what a function of another tool returns}."""
        return {"found": getattr(importlib.import_module(module), function)(**arguments)}

    def memory(self):
        """{"device": the most bytes in use on a device so far, or None where the device does not count}."""
        return {"device": (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")}
