"""The first program is compiled before the plan is described, and training takes that one."""

from types import SimpleNamespace

import pytest

from scaling.sweeps import programs
from scaling.sweeps.runner import Runner, TrainingOptions


def test_training_takes_the_program_that_was_prepared(tmp_path, monkeypatch):
    packs = [SimpleNamespace(runs=[SimpleNamespace(fingerprint=name)], program=(name, 1)) for name in "abc"]
    runner, begun = Runner(tmp_path, TrainingOptions()), []
    monkeypatch.setattr(runner, "done", lambda runs: runs[0].fingerprint == "a")
    monkeypatch.setattr(runner.programs, "_begin",
                        lambda pack: begun.append(pack.program) or SimpleNamespace(result=lambda: pack.program[0]))
    runner.prepare(SimpleNamespace(packs=packs))
    assert begun == [("b", 1)]  # a is done
    runner.prepare(SimpleNamespace(packs=packs))
    assert runner.programs.of(packs[1]) == "b" and begun == [("b", 1)]
    runner.programs.begin_next(packs[1:])
    assert begun == [("b", 1), ("c", 1)]


def test_preparing_ends_when_the_step_is_traced_and_before_it_is_compiled(tmp_path, monkeypatch):
    runner, waited = Runner(tmp_path, TrainingOptions()), []
    monkeypatch.setattr(runner, "done", lambda runs: False)
    program = SimpleNamespace(await_trace=lambda: waited.append("traced"))
    monkeypatch.setattr(runner.programs, "_begin", lambda pack: SimpleNamespace(result=lambda: program))
    runner.prepare(SimpleNamespace(packs=[SimpleNamespace(runs=[], program=("a", 1))]))
    assert waited == ["traced"]


def test_what_making_a_program_raises_is_left_to_those_who_need_it(tmp_path, monkeypatch):
    runner = Runner(tmp_path, TrainingOptions())
    monkeypatch.setattr(runner, "done", lambda runs: False)

    def fail():
        raise ValueError("no such device")

    monkeypatch.setattr(runner.programs, "_begin", lambda pack: SimpleNamespace(result=fail))
    pack = SimpleNamespace(runs=[], program=("a", 1))
    runner.prepare(SimpleNamespace(packs=[pack]))
    with pytest.raises(ValueError, match="no such device"):
        runner.programs.of(pack)


def test_a_program_that_was_checked_is_the_one_that_trains_unless_something_was_measured_since(tmp_path, monkeypatch):
    runner, made = Runner(tmp_path, TrainingOptions(compile_ahead=False)), []
    for name, value in (("source", None), ("evaluation", {}), ("validation", {}), ("judge", None)):
        monkeypatch.setattr(runner, name, lambda experiment, value=value: value)
    monkeypatch.setattr(programs, "Program", lambda *arguments: made.append(arguments) or len(made))
    pack = SimpleNamespace(program=("a", 1), experiment="", width=1)
    runner.programs.check(pack)
    assert runner.programs.of(pack) == 1 and len(made) == 1
    runner.programs.kept.clear()
    runner.programs.check(pack)
    runner.programs.stop()
    assert runner.programs.of(pack) == 3 and len(made) == 3


def test_nothing_is_prepared_where_others_train_or_programs_are_compiled_at_their_first_call(tmp_path):
    for options in (TrainingOptions(executor=lambda *_: None), TrainingOptions(compile_ahead=False)):
        runner = Runner(tmp_path, options)
        runner.prepare(SimpleNamespace(packs=[SimpleNamespace(runs=[], program=("a", 1))]))
        assert not runner.programs._begun
