"""Functions that an earlier process compiled are called untraced and give the same bits; all others are compiled."""

import pathlib
import pickle
from concurrent import futures

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from sources import ExampleSource, tiny

from scaling.devices import compilation, executables, hosts
from scaling.training.compiled import Compiled
from scaling.training.program import Program
from scaling.training.step import TRUNK


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The directory of programs of this process, which JAX's cache uses too."""
    files, options = compilation.ProgramFiles(tmp_path), {
        "jax_compilation_cache_dir": str(tmp_path), "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1}
    before = {name: jax.config.values[name] for name in options}
    monkeypatch.setattr(compilation, "_in_use", files)
    monkeypatch.setattr(jax._src.compilation_cache, "get_file_cache", lambda path: (files, path))
    compilation_cache.reset_cache()
    for name, value in options.items():
        jax.config.update(name, value)
    yield tmp_path
    monkeypatch.undo()
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def functions(kept):
    return list(kept.glob("function-*"))


def ahead(function, *args, what="f"):
    compiled = Compiled(function, what)
    with futures.ThreadPoolExecutor(1) as pool:
        compiled.ahead(pool, *args)
    return compiled


def named(function, name="f"):
    function.__name__ = name
    return function


def untraceable(x):
    raise AssertionError("it is traced")


X = np.arange(4, dtype=np.float32)


def test_a_function_that_is_kept_is_called_without_tracing_it(kept):
    first = ahead(named(lambda x: x + 1), X)
    assert len(functions(kept)) == 1
    second = ahead(named(untraceable), X)
    np.testing.assert_array_equal(second(X), first(X))
    np.testing.assert_array_equal(second(X + 7), X + 8)
    with pytest.raises(AssertionError, match="it is traced"):
        second(X[:2])  # of another shape


@pytest.mark.parametrize("other", ["what", "name", "shape", "type", "code", "setting", "variable", "processes"])
def test_whatever_differs_is_compiled(kept, monkeypatch, other):
    def plus(amount):
        return named(lambda x: x + amount, "g" if other == "name" and amount == 2 else "f")

    ahead(plus(1), X)
    x = X[:2] if other == "shape" else X.astype(np.int32) if other == "type" else X
    if other in ("code", "setting", "variable"):
        executables._surroundings.cache_clear()
        before = executables._surroundings()
    if other == "code":
        read = pathlib.Path.read_bytes
        monkeypatch.setattr(pathlib.Path, "read_bytes", lambda self: read(self) + b"#" * (self.suffix == ".py"))
    if other == "variable":
        monkeypatch.setenv("XLA_FLAGS", "--xla_other")
    if other == "processes":
        monkeypatch.setattr(hosts, "process_count", lambda: 2)
    executables._surroundings.cache_clear()
    with jax.default_matmul_precision("highest" if other == "setting" else None):
        assert other not in ("code", "setting", "variable") or executables._surroundings() != before
        second = ahead(plus(2), x, what="other" if other == "what" else "f")
    np.testing.assert_array_equal(second(x), x + 2)
    executables._surroundings.cache_clear()


@pytest.mark.parametrize("content", [b"", b"no pickle", None])
def test_a_file_that_cannot_be_used_is_compiled_again(kept, content):
    ahead(named(lambda x: x + 1), X)
    [path] = functions(kept)
    name = path.name.rpartition("-")[0]
    path.unlink()
    compilation.files().put(name, pickle.dumps(([0], b"no program", None, None)) if content is None else content)
    np.testing.assert_array_equal(ahead(named(lambda x: x + 1), X)(X), X + 1)


def test_nothing_is_kept_without_a_directory_or_of_functions_that_are_not_described(kept, monkeypatch):
    ahead(named(lambda x: x + 1), X, what=None)
    monkeypatch.setattr(compilation, "_in_use", None)
    ahead(named(lambda x: x + 1), X)
    assert not functions(kept)


def test_a_function_that_cannot_be_kept_is_compiled(kept, monkeypatch):
    monkeypatch.setattr(executables.serialize_executable, "serialize", untraceable)
    np.testing.assert_array_equal(ahead(named(lambda x: x + 1), X)(X), X + 1)
    assert not functions(kept)


def test_a_program_that_jax_has_read_is_not_kept_again(kept):
    """What XLA writes of it on a CPU lacks some of its functions, so that a call of it fails."""
    ahead(named(lambda x: x + 1), X)
    for path in functions(kept):
        path.unlink()
    again = ahead(named(lambda x: x + 1), X)
    np.testing.assert_array_equal(again(X), X + 1)
    assert not again._read and not functions(kept)


def test_a_program_that_is_read_trains_to_equal_bits(kept, monkeypatch):
    e = tiny("transformer", **{"optim.name": "muon", "layout": "fsdp"})
    monkeypatch.setattr(Program, "_what", lambda self, source, data=True: "a program")
    examples = dict(e.family.example_batch(24, jax.random.key(5)))
    examples = {name: np.asarray(x) for name, x in examples.items() if name != "example"}

    def train():
        program = Program(e, ExampleSource(e.family, 8), 1, "fsdp=4,data=2", 8)
        with futures.ThreadPoolExecutor(4) as pool:
            program.compile(pool, [examples])
        state, losses = program.init([e]), []
        for steps in (2, 3):
            before = program.copy(state)
            state, metrics = program.advance(state, [e], [TRUNK], steps)
            losses.append(np.asarray(metrics["loss"])[:, :steps])
        calls = program.advance_call, program.init_call, program.copy_call, program.split_call
        return (losses, program.evaluate(state, examples), program.parameters(before)), [bool(c._read) for c in calls]

    wanted, read = train()
    assert not any(read)
    found, read = train()
    assert all(read)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_what_determines_a_program_is_said_and_code_of_others_is_not_trusted():
    class Source(ExampleSource):
        __module__ = "scaling.data.source"

    def what(source, runs=1, **changes):
        e = tiny("transformer", **changes)
        return Program(e, source(e.family, 8), runs)._what(source(e.family, 8))

    assert what(ExampleSource) is None
    named = Program(tiny("transformer"), Source(tiny("transformer").family, 8), 1)
    calls = (named.advance_call, named.init_call, named.copy_call, named.split_call, named.evaluator.evaluate_call,
             named.evaluator.sample_call)
    assert len({call.what for call in calls}) == len(calls) and not any(" at 0x" in call.what for call in calls)
    all_different = [what(Source), what(Source, 2), what(Source, **{"optim.clip": 1.0, "optim.name": "muon"}),
                     what(Source, **{"family.remat": "full"}), what(Source, layout="fsdp")]
    assert len(set(all_different)) == len(all_different)
    assert what(Source, **{"optim.learning_rate": 0.5}) == what(Source, seed=3) == what(Source)


def test_programs_on_other_data_share_what_reads_no_batch():
    class Source(ExampleSource):
        __module__ = "scaling.data.source"

    def calls(fingerprint, **changes):
        e = tiny("transformer", **changes)
        source = Source(e.family, 8)
        source.fingerprint = fingerprint
        program = Program(e, source, 1)
        shared = (program.init_call, program.copy_call, program.split_call, program.evaluator.evaluate_call,
                  program.evaluator.sample_call)
        return program.advance_call.what, [call.what for call in shared]

    step, others = calls("a")
    assert calls("b")[0] != step and calls("a", **{"data.noise": 0.1})[0] != step
    assert calls("b")[1] == calls("a", **{"data.noise": 0.1})[1] == others
    assert calls("a", **{"family.remat": "full"})[1] != others
