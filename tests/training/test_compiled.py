"""Programs that are compiled ahead, in other threads, are those that would be compiled at their first call."""

import threading
from concurrent import futures
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax import monitoring
from sources import ExampleSource, tiny

from scaling.training.compiled import Compiled, traced_once
from scaling.training.program import Program
from scaling.training.step import TRUNK


@pytest.fixture
def compilations():
    """Names of what JAX traces or compiles during a test, in any thread."""
    found = []

    def note(name, seconds, **more):
        if "/jax/core/compile/" in name:
            found.append(name)

    monitoring.register_event_duration_secs_listener(note)
    yield found
    monitoring.unregister_event_duration_listener(note)


def test_a_program_compiled_ahead_compiles_nothing_when_it_trains_and_gives_equal_bits(compilations):
    e = tiny("transformer")
    pack, examples = [e, e.replace({"seed": 1})], dict(e.family.example_batch(24, jax.random.key(5)))
    examples = {name: np.asarray(x) for name, x in examples.items() if name != "example"}

    def train(program):
        state, losses = program.init(pack), []
        for steps in (2, 3):
            kept = program.copy(state)
            state, metrics = program.advance(state, pack, [TRUNK] * 2, steps)
            losses.append(np.asarray(metrics["loss"])[:, :steps])
        return losses, program.evaluate(state, examples), program.parameters(kept)

    ahead, plain = (Program(e, ExampleSource(e.family, 8), 2, "run=2,data=4", 8) for _ in range(2))
    with futures.ThreadPoolExecutor(4) as pool:
        ahead.compile(pool, [examples])
    assert ahead.ready and compilations
    ahead.feed.data(None, pack, 1, 8)  # places the data
    compilations.clear()
    found = train(ahead)
    assert compilations == []
    wanted = train(plain)
    assert compilations
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_what_a_compilation_raises_in_its_thread_is_raised_at_the_first_call():
    def broken(x):
        raise ValueError(f"an array of shape {x.shape} is of no use")

    function = Compiled(broken)
    with futures.ThreadPoolExecutor(1) as pool:
        function.ahead(pool, np.zeros(3))
    with pytest.raises(ValueError, match=r"shape \(3,\) is of no use"):
        function(np.zeros(3))


def test_other_shapes_than_those_compiled_ahead_are_compiled_when_they_come():
    function = Compiled(lambda x: x + 1)
    with futures.ThreadPoolExecutor(1) as pool:
        function.ahead(pool, np.zeros(3, np.float32))
        assert (function(np.zeros(5, np.float32)) == 1).all()


def test_whoever_waits_for_a_trace_goes_on_while_xla_compiles():
    compiled, function = threading.Event(), Compiled(lambda x: x + 1)
    function.lower = lambda x: SimpleNamespace(compile=lambda: compiled.wait(60))
    with futures.ThreadPoolExecutor(1) as pool:
        function.ahead(pool, np.zeros(3))
        function.await_trace()
        assert not function.ready
        compiled.set()
    assert function.ready


def test_whoever_waits_for_a_trace_that_fails_goes_on():
    function = Compiled(lambda x: x.no_such_thing)
    with futures.ThreadPoolExecutor(1) as pool:
        function.await_trace()  # nothing is under way
        function.ahead(pool, np.zeros(3))
        function.await_trace()
    with pytest.raises(AttributeError, match="no_such_thing"):
        function(np.zeros(3))


def test_a_function_that_is_traced_once_is_the_function():
    """Also where it is mapped afterwards, and where it uses values that are mapped."""
    traces = []

    def power(x, exponent):
        traces.append(x.shape)
        return {"power": x**exponent}

    def twice(x, exponent):
        once, shapes = traced_once(lambda x: power(x, exponent), x)
        assert shapes["power"].shape == x.shape
        return once(x)["power"] + once(2 * x)["power"]

    x, exponents = np.arange(6.0).reshape(2, 3), np.array([2.0, 3.0])
    found = jax.jit(jax.vmap(twice))(x, exponents)
    np.testing.assert_allclose(found, x ** exponents[:, None] + (2 * x) ** exponents[:, None], rtol=1e-6)
    assert traces == [(3,)]
