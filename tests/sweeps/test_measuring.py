"""What runs fastest is measured, kept and used, and changes no result."""

import jax
import numpy as np
import pytest
from sources import ExampleSource, tiny

from scaling.devices import compilation, remembered
from scaling.devices.layouts import make_mesh
from scaling.fields import replace
from scaling.sweeps import measuring
from scaling.sweeps.runner import Runner, TrainingOptions
from scaling.training import accumulation
from scaling.training.program import Program
from scaling.training.step import TRUNK


@pytest.fixture
def numbers(monkeypatch):
    """An empty store of remembered numbers."""
    table = {}
    monkeypatch.setattr(remembered, "recall", table.get)
    monkeypatch.setattr(remembered, "remember", table.__setitem__)
    return table


@pytest.mark.parametrize("guess", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("best", [1, 2, 4, 8, 16])
def test_the_best_of_choices_with_one_valley_is_found_without_trying_all(guess, best):
    choices = [1, 2, 4, 8, 16]
    found, tried = measuring.climb(choices, guess, lambda n: 1 + abs(np.log2(n / best)))
    assert found == best and best in tried
    assert len(tried) <= abs(choices.index(guess) - choices.index(best)) + 3


def test_a_choice_without_enough_memory_is_not_taken():
    assert measuring.climb([1, 2, 4], 2, lambda n: float("inf") if n > 2 else 1 / n)[0] == 2
    assert measuring.climb([1, 2, 4], 4, lambda n: float("inf") if n > 2 else 1 / n)[0] == 2


def test_a_measured_microbatch_is_kept_and_used_and_changes_no_result(tmp_path, numbers, monkeypatch):
    e, said = tiny("transformer"), []
    runner = Runner(tmp_path, TrainingOptions())
    runner.sources = {}
    monkeypatch.setattr(runner, "source", lambda experiment: ExampleSource(e.family, e.data.batch))
    monkeypatch.setattr(measuring, "SECONDS", 0.01)
    measure = measuring.Measuring(runner, said.append)
    monkeypatch.setattr(measure, "seconds", lambda e, width: abs(e.microbatch - 2) + 1.0)
    rows, mesh = e.data.batch, make_mesh(8, "", e.layout)
    guessed = accumulation.accumulation_steps(e, mesh, 8)
    assert measure.microbatch(e, 8) == 2 and "2 is used" in said[0]
    monkeypatch.setattr(measure, "seconds", None)  # not measured again
    assert measure.microbatch(e, 8) == 2
    assert accumulation.accumulation_steps(e, mesh, 8) == rows // 2 != guessed
    assert accumulation.accumulation_steps(replace(e, {"microbatch": rows}), mesh, 8) == 1
    with monkeypatch.context() as patch:  # a home that machines with other processors share
        patch.setattr(compilation, "processor", lambda: "another")
        assert accumulation.accumulation_steps(e, mesh, 8) == guessed
    losses = []
    for known in (True, False):
        if not known:
            numbers.clear()
        program = Program(e, ExampleSource(e.family, rows), 8, steps_per_call=4)
        pack = [e.replace({"seed": seed}) for seed in range(8)]
        losses.append(np.asarray(program.advance(program.init(pack), pack, [TRUNK] * 8, 4)[1]["loss"]))
        assert program.accumulation_steps == (rows // 2 if known else guessed)
    np.testing.assert_allclose(*losses, rtol=5e-6)


def test_steps_are_timed_on_the_runners_data_and_mesh(tmp_path, numbers, monkeypatch):
    e = tiny("transformer")
    runner = Runner(tmp_path, TrainingOptions(mesh="run=1,data=8"))
    monkeypatch.setattr(runner, "source", lambda experiment: ExampleSource(e.family, e.data.batch))
    monkeypatch.setattr(measuring, "SECONDS", 0.02)
    assert 0 < measuring.Measuring(runner).seconds(e, 1) < 60

    def full(*arguments, **options):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
    monkeypatch.setattr(measuring, "Program", full)
    assert measuring.Measuring(runner).seconds(e, 1) == float("inf")


def test_runs_side_by_side_are_measured_by_their_time_for_each_run_and_enter_the_plan(tmp_path, numbers, monkeypatch):
    e = tiny("transformer")
    runner = Runner(tmp_path, TrainingOptions())
    monkeypatch.setattr(runner, "content", lambda experiment: "content")
    measure = measuring.Measuring(runner, lambda text: None)
    monkeypatch.setattr(measure, "seconds", lambda e, width: {8: 8.0, 16: 9.0, 32: 40.0}[width])
    assert measure.width(e, 8, 8) == 8 and not numbers  # no more runs, so nothing was measured
    assert measure.width(e, 8, 40) == 16 == measuring.known_width(e, "")
    sweep = [e.replace({"seed": seed}) for seed in range(40)]
    plan = runner.plan(sweep, lambda experiment: measuring.known_width(experiment, "") or 8)
    assert [len(pack.trunks) for pack in plan.packs] == [16, 16, 8]
