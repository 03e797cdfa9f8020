"""A process that trains one side of a comparison for `tools.bench`, and otherwise waits for its turn.

    python -m tools._bench_worker WHO '{"clock": "wall", "checkout": ...}'

It reads a request a line, {"do": name of a method, ...}, and writes an answer a line. It waits in `readline`, and threads
of libraries sleep between turns, so that a process that waits costs the others nothing.
"""

import json
import os
import resource
import sys
import time

from tools._bench_workers import CLOCKS


class Torch:
    """Trains the twin of a case in torch, or GPT-2 where `who` says so."""

    def __init__(self, who, clock):
        self.who, self.clock, self.ready = who, clock, {}

    def prepare(self, case, runs=1, threads=1):
        import torch

        from tools import _bench_cases as cases
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        built = cases.build(case)
        if isinstance(built, cases.Text):
            from tools import _torch_text
            model = _torch_text.make(self.who, built.vocab, built.length, built.width, built.layers, built.heads)
            windows, parameters = _torch_text.trainer(model), sum(p.numel() for p in model.parameters())
            step = lambda batch: windows(batch["tokens"])  # noqa: E731
            rows = {"tokens": torch.randint(0, built.vocab, (16 * built.batch, built.length + 1))}
        else:
            from tools import _bench_ours, _torch_twins
            e = _bench_ours.experiment(built)
            step, parameters = _torch_twins.trainer(e.family, e.optim)
            rows = {name: torch.from_numpy(value) for name, value in _bench_ours.Rows(built).rows.items()}
            rows = {name: value if name == "image" else value.long() for name, value in rows.items()}
        self.ready[case["name"]] = [step, rows, 0, built.batch, threads]
        first, each = (self.run(case, 1, 1)["seconds"] for _ in range(2))
        return {"first": first - each, "seconds": each, "parameters": parameters}

    def threads(self, case, threads):
        """Sets the number of threads that train a case: {"seconds": 0}."""
        self.ready[case["name"]][-1] = threads
        return {"seconds": 0.0}

    def run(self, case, runs, steps):
        import torch
        step, rows, at, batch, threads = held = self.ready[case["name"]]
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        start = self.clock()
        for _ in range(steps):
            step({name: value[at:at + batch] for name, value in rows.items()})
            at = (at + batch) % len(next(iter(rows.values())))
        held[2] = at
        return {"seconds": self.clock() - start}

    def forget(self):
        self.ready.clear()
        return {}


class Nanodo:
    def __init__(self, checkout, clock):
        self.checkout, self.clock, self.ready = checkout, clock, {}

    def prepare(self, case, runs=1, threads=None):
        import jax
        import numpy as np

        from tools import _bench_cases as cases
        from tools import _bench_nanodo
        c = cases.build(case)
        model = _bench_nanodo.Nanodo(self.checkout, c.vocab, c.length, c.width, c.layers, c.heads)
        state = jax.block_until_ready(model.init())
        rows = np.random.default_rng(0).integers(1, c.vocab, (c.batch, c.length), dtype=np.int32)
        self.ready[case["name"]] = [model, state, jax.device_put(rows)]
        parameters = sum(x.size for x in jax.tree.leaves(state[0]))
        first, each = (self.run(case, 1, 1)["seconds"] for _ in range(2))
        return {"first": first - each, "seconds": each, "parameters": parameters}

    def run(self, case, runs, steps):
        import jax
        model, state, rows = held = self.ready[case["name"]]
        start = self.clock()
        for _ in range(steps):
            state, _ = model.step(state, rows)
        held[1] = jax.block_until_ready(state)
        return {"seconds": self.clock() - start}

    def forget(self):
        self.ready.clear()
        return {}

    def compile(self, case):
        """Seconds to trace and lower the step of a case, and to compile it."""
        import jax

        from tools import _bench_cases as cases
        from tools import _bench_nanodo
        jax.config.update("jax_enable_compilation_cache", False)
        jax.clear_caches()
        c = cases.build(case)
        model = _bench_nanodo.Nanodo(self.checkout, c.vocab, c.length, c.width, c.layers, c.heads)
        state = jax.eval_shape(model.init)
        start = time.perf_counter()
        lowered = model.step.lower(state, jax.ShapeDtypeStruct((c.batch, c.length), "int32"))
        traced = time.perf_counter()
        lowered.compile()
        return {"trace": traced - start, "compile": time.perf_counter() - traced}


def engine(who, options):
    """What answers the requests."""
    clock = CLOCKS[options["clock"]]
    if who in ("torch", "gpt2"):
        return Torch(who, clock)
    if who == "nanodo":
        return Nanodo(options["checkout"], clock)
    from scaling.devices.layouts import one_cpu_device_per_core
    one_cpu_device_per_core()  # before JAX starts
    from tools import _bench_ours
    return _bench_ours.Ours(clock)


def peak():
    """The most bytes of memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints does not get among the answers
    answering = engine(sys.argv[1], json.loads(sys.argv[2]))
    for line in iter(sys.stdin.readline, ""):
        request, used = json.loads(line), time.process_time()
        try:
            answer = getattr(answering, request.pop("do"))(**request)
        except Exception as error:  # any error is an answer, and the next request may succeed
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        answers.write(json.dumps(answer | {"peak": peak(), "cpu": time.process_time() - used}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
