"""The first program is compiled before the plan is described, and training takes that one."""

from types import SimpleNamespace

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


def test_nothing_is_prepared_where_others_train_or_programs_are_compiled_at_their_first_call(tmp_path):
    for options in (TrainingOptions(executor=lambda *_: None), TrainingOptions(compile_ahead=False)):
        runner = Runner(tmp_path, options)
        runner.prepare(SimpleNamespace(packs=[SimpleNamespace(runs=[], program=("a", 1))]))
        assert not runner.programs._begun
