"""The devices wait for nothing that the host can do later, and nothing of it changes results."""

import threading

import numpy as np
import pytest
from launcher import results
from sources import tiny

from scaling.devices import hosts
from scaling.experiment import grid
from scaling.results import logs, records
from scaling.store import checkpoint, files
from scaling.store.progress import Progress
from scaling.sweeps import plan as plans
from scaling.sweeps import programs, segments
from scaling.sweeps.later import Later
from scaling.sweeps.runner import Runner, TrainingOptions
from scaling.training.program import Program

TOKENS = 34, 33, 32  # of evaluation, two sequences each: three programs that are compiled alike


@pytest.fixture(scope="module")
def rates(sweep):
    """Three rates of one length, which are a pack of two and a pack of one."""
    return grid(sweep[0], {"optim.learning_rate": [1e-3, 2e-3, 4e-3]})


def scores(workdir):
    return {name: found["loss"] for name, found in results(workdir).items()}


def test_in_a_job_of_several_processes_chores_wait_for_busy_devices(monkeypatch):
    monkeypatch.setattr(hosts, "process_count", lambda: 2)
    monkeypatch.setattr(hosts, "agree", lambda value: value)
    later, done, busy = Later(), [], [True, False]
    later.read(lambda: done.append("read"))
    later.chore(lambda: done.append("first"))
    later.chore(lambda: done.append("second"))
    later.after_call(lambda: busy.pop(0))
    assert done == ["read", "first"]
    later.read(lambda: done.append("read again"))
    later.settle()
    assert done == ["read", "first", "read again", "second"]


def test_a_long_chore_keeps_no_call_waiting_and_chores_keep_their_order():
    later, done, go = Later(), [], threading.Event()
    later.read(lambda: done.append("read"))
    later.chore(lambda: go.wait(10) and done.append("long"))
    later.after_call(lambda: False)
    for index in range(3):
        later.chore(lambda index=index: done.append(index))
        later.read(lambda: done.append("read"))
        later.after_call(lambda: False)
    assert done == ["read"] * 4
    go.set()
    later.settle()
    assert done == ["read"] * 4 + ["long", 0, 1, 2]


def test_a_group_waits_for_the_chores_of_all_groups_but_the_last():
    later, done, go = Later(), [], threading.Event()
    for index in range(3):
        if index == 2:
            threading.Timer(0.2, go.set).start()
        later.next_group()
        later.chore(lambda index=index: go.wait(10) and done.append(index))
        later.after_call(lambda: False)
        assert go.is_set() == (index == 2)
    later.settle()
    assert done == [0, 1, 2]


def test_the_error_of_a_chore_is_raised_by_the_next_call_and_ends_the_chores():
    later, done = Later(), []

    def fail():
        raise OSError("a full disk")

    later.chore(lambda: done.append("before"))
    later.chore(fail)
    later.chore(lambda: done.append("after"))
    with pytest.raises(OSError, match="a full disk"):
        later.settle()
    with pytest.raises(OSError, match="a full disk"):
        later.after_call(lambda: False)
    assert done == ["before"]
    later.drop()
    later.chore(lambda: done.append("again"))
    later.settle()
    assert done == ["before", "again"]


def test_the_devices_have_the_next_pack_before_the_records_of_the_last_one_are_written(rates, tmp_path, monkeypatch):
    happened = []
    advance, write = Program.advance, records.Records.write
    monkeypatch.setattr(Program, "advance", lambda *args: happened.append("call") or advance(*args))
    monkeypatch.setattr(records.Records, "write", lambda *args: happened.append("record") or write(*args))
    monkeypatch.setattr(segments, "CALL_SECONDS", 0.0)  # calls as short as on a slow machine
    runner = Runner(files.open_workdir(tmp_path), TrainingOptions())
    runs = [*rates, *(run.replace({"seed": 1}) for run in rates[:2])]
    runner.run(runner.plan(runs, 1), Progress(1, silent=True))
    assert happened.count("record") == 5
    calls = [index for index, what in enumerate(happened) if what == "call"]
    begins = [happened[:call].count("record") for call in calls[::len(calls) // 5]]  # records as each pack begins
    assert begins[1] == 0  # the devices have calls of the second pack
    assert all(begins[pack] >= pack - 2 for pack in range(5))  # results of two packs at most are only in memory
    shares = runner.clock.shares()
    assert 0 < shares["evaluation_share"] < 1 and 0 <= shares["compilation_share"] < 1
    assert runner.clock.groups == 5


def test_one_program_is_compiled_ahead_and_former_ones_are_freed(rates, tmp_path, monkeypatch):
    others = [rates[0].replace({"data.evaluation_tokens": tokens}) for tokens in TOKENS]
    made, most = [], []

    def make(experiment, *args):
        made.append((experiment.data.evaluation_tokens, threading.current_thread() is threading.main_thread()))
        return Program(experiment, *args)

    monkeypatch.setattr(programs, "Program", make)
    runner = Runner(files.open_workdir(tmp_path), TrainingOptions())
    begin = runner.programs.begin_next
    monkeypatch.setattr(runner.programs, "begin_next",
                        lambda packs: (begin(packs), most.append(len(runner.programs.kept) + len(runner.programs._begun))))
    plan = runner.plan(others[:2], 1)
    runner.run(plan, Progress(1, silent=True), then=runner.plan(others[2:], 1))
    for begun in runner.programs._begun.values():
        begun.result()
    assert made == [(tokens, False) for tokens in TOKENS] and most == [2, 2]
    assert list(runner.programs.kept) == [plan.packs[1].program]


def test_an_error_of_a_program_compiled_ahead_is_raised_where_its_pack_begins(rates, tmp_path, monkeypatch):
    def make(experiment, *args):
        if experiment.data.evaluation_tokens == TOKENS[1]:
            raise ValueError("a program that cannot be")
        return Program(experiment, *args)

    monkeypatch.setattr(programs, "Program", make)
    runner = Runner(files.open_workdir(tmp_path), TrainingOptions())
    plan = runner.plan([*rates[:1], rates[0].replace({"data.evaluation_tokens": TOKENS[1]})], 1)
    with pytest.raises(ValueError, match="a program that cannot be"):
        runner.run(plan, Progress(1, silent=True))
    assert len(results(tmp_path)) == 1  # of the pack before it
    assert runner.records.claim(plan.runs[0].fingerprint) is None  # done
    claim = runner.records.claim(plan.runs[1].fingerprint)
    assert claim is not None
    claim.release()


def test_narrow_packs_train_in_the_program_of_wide_ones_where_that_is_faster(monkeypatch):
    runs = grid(tiny("transformer"), {"optim.learning_rate": [1e-3, 2e-3, 3e-3, 4e-3, 5e-3]})
    for flops, widths, compiled in ((1e30, [2, 2, 2], 1), (0.0, [2, 2, 1], 2)):
        monkeypatch.setattr(plans, "COMPILATION", {"cpu": flops})
        plan = plans.make_plan(runs, lambda e: "data", 2)
        assert [pack.width for pack in plan.packs] == widths and plan.programs == compiled
        assert [len(pack.trunks) for pack in plan.packs] == [2, 2, 1] and len(plan.runs) == 5
        assert plan.packs[2].flops() * 2 == plan.packs[1].flops()
        assert plan.packs[2].flops_executed() * 2 / widths[2] == plan.packs[1].flops_executed()


@pytest.mark.slow
def test_a_run_beside_a_filler_has_the_result_that_it_has_alone_also_where_it_resumes(rates, tmp_path, monkeypatch):
    found = {}
    for name, flops in (("filled", 1e30), ("alone", 0.0)):
        monkeypatch.setattr(plans, "COMPILATION", {"cpu": flops})
        train_two(tmp_path / name, rates)
        found[name] = scores(tmp_path / name)
    assert len(found["filled"]) == 3 and found["filled"].keys() == found["alone"].keys()
    for run, value in found["alone"].items():
        assert found["filled"][run] == pytest.approx(value, rel=1e-5)
    save, restore, resumed = checkpoint.Checkpoints.save, checkpoint.Checkpoints.restore, []
    monkeypatch.setattr(segments, "CALL_SECONDS", 0.0)
    for first, then in ((1e30, 0.0), (0.0, 1e30)):  # stopped with a filler and resumed without one, and the other way
        workdir = tmp_path / f"{first}"

        def stop(self, *args, **kwargs):
            save(self, *args, **kwargs)
            if "checkpoints" in str(self._directory):
                self.close()
                raise KeyboardInterrupt

        monkeypatch.setattr(plans, "COMPILATION", {"cpu": first})
        runner = Runner(files.open_workdir(workdir), TrainingOptions(checkpoint_seconds=0))
        last = plans.Plan(runner.plan(rates, 2).packs[1:])
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(checkpoint.Checkpoints, "save", stop)
            runner.run(last, Progress(1, silent=True))
        assert runner.under_way() == [last.packs[0].name]
        monkeypatch.setattr(plans, "COMPILATION", {"cpu": then})
        resumed.clear()
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint.Checkpoints, "restore", lambda *args: resumed.append(args[1]) or restore(*args))
            curves = train_two(workdir, rates)
        assert resumed == [4] and all(np.isfinite(value) for value in curves)
        for run, value in scores(workdir).items():
            assert value == pytest.approx(found["alone"][run], rel=1e-5)


def train_two(workdir, sweep):
    """Trains a sweep in packs of two, and returns the last losses of its curves."""
    runner = Runner(files.open_workdir(workdir), TrainingOptions())
    plan = runner.plan(sweep, 2)
    runner.run(plan, Progress(1, silent=True))
    return [logs.read_curve(workdir / "curves" / f"{run.fingerprint}.jsonl")[-1]["loss"] for run in plan.runs]
