"""--fork keeps the finished runs that two studies share, and their packs under way, and never a forecast."""

import pytest
import tiny_study

from scaling.store.files import WorkdirError, write_json
from scaling.study import belonging, configs, fork
from scaling.sweeps.plan import Plan
from scaling.sweeps.runner import Runner, TrainingOptions


@pytest.fixture
def planned(corpus, tmp_path):
    """The plan of the tiny study in the older workdir, or in the new one as a fork of it."""
    def plan(workdir, older=None, **changes):
        config = tiny_study.get_config()
        config.tokens, config.data.name = (2560, 5120), f"text:{corpus}/*.txt"
        config.update_from_flattened_dict(changes)
        study = configs.define_study(tiny_study, config)
        runner = Runner(workdir, TrainingOptions())
        runner.workdir = runner.records.workdir
        return runner, runner.plan(study.sweep, 2, copied_from=older), study
    return plan


def finish(runner, run, role="sweep"):
    """Leaves what a finished run leaves."""
    name = run.fingerprint
    for path in (runner.workdir / "params" / name / "10" / "state", runner.workdir / "curves" / f"{name}.jsonl"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"of {name}")
    runner.records.write({"fingerprint": name, "role": role, "bits_per_byte": 2.0})


def test_shared_runs_are_copied_once_and_nothing_else(planned, tmp_path):
    old, plan, _ = planned(tmp_path / "old")
    first, second, target, *_ = plan.runs
    finish(old, first)
    finish(old, second)
    finish(old, target, role="target")
    old.records.write({"fingerprint": "0ther", "role": "sweep"})
    write_json(old.workdir / "forecast.json", {})
    write_json(old.workdir / "study.json", {"runs": [first.fingerprint, second.fingerprint]})
    fork.check_fork(old.workdir, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    new, grown, _ = planned(tmp_path / "new", old, sizes=(5e3, 9e3, 2e4))
    assert fork.shared_runs(old, grown) == [first.fingerprint, second.fingerprint]
    assert fork.copy_shared(old, new, grown) == 2 and fork.copy_shared(old, new, grown) == 0
    assert new.records.fingerprints() == sorted([first.fingerprint, second.fingerprint])
    for run in (first.fingerprint, second.fingerprint):
        for name in (f"records/{run}.jsonl", f"params/{run}/10/state", f"curves/{run}.jsonl"):
            assert (new.workdir / name).read_bytes() == (old.workdir / name).read_bytes()
    assert not (new.workdir / "forecast.json").exists() and not (new.workdir / "study.json").exists()


def test_a_copy_that_was_killed_goes_on(planned, tmp_path):
    """The record comes last, and a folder appears whole."""
    old, plan, _ = planned(tmp_path / "old")
    finish(old, plan.runs[0])
    new, same, _ = planned(tmp_path / "new", old)
    (new.workdir / "params" / plan.runs[0].fingerprint / "10").mkdir(parents=True)  # of another hand: it is left alone
    assert fork.copy_shared(old, new, same) == 1
    assert not list((new.workdir / "params").glob(".*"))


def test_packs_under_way_come_with_their_logs_unless_they_are_being_trained(planned, tmp_path):
    old, plan, study = planned(tmp_path / "old")
    pack, busy = plan.packs[0], plan.packs[1]
    for each in (pack, busy):
        for path in (old.workdir / "checkpoints" / each.name / "trunk" / "4" / "state",
                     old.workdir / "logs" / f"{each.runs[-1].fingerprint}-trunk.jsonl"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
    claim = old.records.claim(busy.runs[0].fingerprint)
    new, same, _ = planned(tmp_path / "new", old)
    assert [p.name for p in same.packs] == [p.name for p in plan.packs]
    assert fork.copy_shared(old, new, same) == 0
    claim.release()
    assert new.under_way() == [pack.name] and [path.name for path in (new.workdir / "logs").iterdir()] == [
        f"{pack.runs[-1].fingerprint}-trunk.jsonl"]
    assert isinstance(same, Plan) and new.records.claim(pack.runs[0].fingerprint) is not None  # its lock is free again


def test_a_fork_begins_in_an_empty_workdir_and_goes_on_there(planned, tmp_path):
    old, plan, study = planned(tmp_path / "old")
    finish(old, plan.runs[0])
    new, same, _ = planned(tmp_path / "new", old)
    about = belonging.define(study, same, None, new)
    for wrong, says in [(old.workdir, "is the --workdir itself"), (tmp_path / "no", "is not a directory")]:
        with pytest.raises(WorkdirError, match=says):
            fork.check_fork(wrong, old.workdir)
    belonging.enter(new.workdir, about, {"forked_from": fork.full_path(old.workdir)})
    fork.check_fork(old.workdir, new.workdir)  # the same command again
    belonging.enter(tmp_path / "third", about, {})
    with pytest.raises(WorkdirError, match="holds one already"):
        fork.check_fork(old.workdir, tmp_path / "third")
