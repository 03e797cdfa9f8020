"""What a watcher knows of runs comes from files that others write at the same moment, whatever is torn or gone."""

import json
import os
import shutil

import pandas as pd
import pytest
from report_study import SIZES
from underway_study import begin

from scaling.results import planned, tuned, underway
from scaling.store import files


def look(workdir, logs=None, targets=()):
    study = files.read_json(workdir / "study.json") if (workdir / "study.json").exists() else {}
    table = tuned.clean(planned.load_planned(workdir)[0], "bits_per_byte")
    return underway.find_underway(table, study, targets, "tokens", "bits_per_byte", logs or underway.Logs(workdir))


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """(the workdir of a sweep under way, its runs by state, a look at it)."""
    workdir = tmp_path_factory.mktemp("begun")
    return workdir, begin(workdir), look(workdir)


@pytest.fixture
def copy(begun, tmp_path):
    return shutil.copytree(begun[0], tmp_path / "copy")  # with the times of its files


def test_every_run_is_in_the_state_that_its_files_tell(begun):
    _, runs, now = begun
    for state in underway.STATES:
        wanted = {run["fingerprint"] for run in runs.get(state, ())}
        assert {run.fingerprint for run in now.runs if run.state == state} == wanted, state
        assert now.count(state) == len(wanted)
    [failed] = [run for run in now.runs if run.state == "failed"]
    assert (failed.says, failed.step) == ("diverged at step 17: not finite", 17)
    for run in now.runs:
        assert run.params in SIZES and run.data and run.learning_rate and run.steps == run.data // 4096
        assert (run.quiet is None) == (run.state not in ("running", "silent"))


def test_a_run_without_a_result_has_the_points_of_its_trunk_and_its_branch_up_to_the_last_whole_line(begun):
    _, runs, now = begun
    points = now.curves[runs["running"][0]["fingerprint"]]
    assert [point["step"] for point in points] == list(range(1, points[-1]["step"] + 1))
    [run] = [run for run in now.runs if run.fingerprint == runs["running"][0]["fingerprint"]]
    assert (run.step, run.loss) == (points[-1]["step"], points[-1]["loss"]) and run.step > 0.8 * run.steps
    assert set(now.curves) == {run["fingerprint"] for state in ("running", "silent") for run in runs[state]}


def test_the_work_that_is_done_grows_with_every_line_and_ends_at_all_of_it(begun, copy):
    _, runs, now = begun
    assert 0 < now.share < 1 and now.seconds_left > 0 and "2 groups of runs" in now.basis
    log = copy / "logs" / f"{runs['running'][1]['fingerprint']}-trunk.jsonl"
    logs = underway.Logs(copy)
    before = look(copy, logs)
    branch = copy / "logs" / f"{runs['running'][0]['fingerprint']}-branch-64.jsonl"
    branch.write_text(json.dumps({"step": 64, "tokens": 64 * 4096, "loss": 1.0}) + "\n")  # whose process goes on elsewhere
    assert "2 groups" not in look(copy).basis
    log.write_text(log.read_text() + json.dumps({"step": 40, "tokens": 40 * 4096, "loss": 1.0}) + "\n")
    after = look(copy, logs)
    assert before.share == now.share < after.share and after.seconds_left / 2 < before.seconds_left
    begin(copy, finished=lambda run: True)
    ended = look(copy)
    assert (ended.share, ended.seconds_left, ended.curves) == (1, 0, {}) and ended.count("finished") == 46


def test_a_study_that_ended_without_a_law_has_no_time_left_until_it_grows(tmp_path):
    begin(tmp_path, finished=lambda run: True)
    study = files.read_json(tmp_path / "study.json")
    like = next(iter(study["planned"].values()))
    target = like | {"role": "target", "steps": 9 * like["steps"], "cooldown": 7 * like["steps"], "trunk": "t", "pack": "t"}
    files.write_json(tmp_path / "study.json", study | {"planned": study["planned"] | {"t": target}})
    assert look(tmp_path).seconds_left > 0  # the law may be being fitted
    ended = files.read_json(tmp_path / "study.json") | {"failed": []}
    files.write_json(tmp_path / "study.json", ended)
    now = look(tmp_path)
    assert (now.share, now.seconds_left, now.basis) == (1, 0, underway.LAWLESS)
    assert look(tmp_path, targets=["forecast"]).seconds_left > 0  # there is a law, and its forecast is to be checked
    grown = ended["planned"] | {"new": like | {"trunk": "new", "pack": "new"}}
    files.write_json(tmp_path / "study.json", ended | {"planned": grown})
    assert look(tmp_path).seconds_left > 0


def test_before_a_run_has_finished_the_time_is_that_of_the_plan(tmp_path):
    begin(tmp_path, finished=lambda run: False)
    now = look(tmp_path)
    assert now.seconds_left == pytest.approx(230 * (1 - now.share) / 2) and now.basis.startswith("as planned")


def test_a_log_is_alive_while_it_grows_whatever_the_clocks_of_hosts_say(copy, begun):
    clock = [1e10]  # this host is far ahead of the one that wrote
    logs, run = underway.Logs(copy, lambda: clock[0]), begun[1]["running"][1]["fingerprint"]
    assert logs.quiet(f"{run}-trunk") > underway.SILENT
    with open(copy / "logs" / f"{run}-trunk.jsonl", "a") as file:
        file.write("{}\n")
    assert logs.quiet(f"{run}-trunk") == 0
    clock[0] += 9
    assert logs.quiet(f"{run}-trunk") == 9
    os.utime(copy / "logs" / f"{run}-trunk.jsonl", (2e10,) * 2)
    assert underway.Logs(copy, lambda: 1e10).quiet(f"{run}-trunk") == 0  # a time to come is now


def test_files_that_vanish_or_were_never_there_are_no_error(copy, begun, tmp_path, monkeypatch):
    names = underway.Logs(copy).names()
    shutil.rmtree(copy / "logs")
    monkeypatch.setattr(underway.Logs, "names", lambda self: names)  # they vanish between two reads
    now = look(copy)
    assert now.count("planned") == 12 and now.count("finished") == 35 and not now.curves
    monkeypatch.undo()
    (tmp_path / "empty").mkdir()
    assert look(tmp_path / "empty").runs == []


def test_a_workdir_that_does_not_list_its_runs_is_shown_as_far_as_it_goes(copy):
    study = json.loads((copy / "study.json").read_text())
    del study["planned"]
    (copy / "study.json").write_text(json.dumps(study))
    now = look(copy)
    assert (now.count("running"), now.count("silent"), now.count("planned")) == (2, 1, 9)
    assert now.share is None and now.seconds_left is None and "does not list its runs" in now.basis
    (copy / "study.json").write_text(json.dumps(study | {"planned": {"a": {"steps": 3}}}))
    assert look(copy).share is None


def test_a_target_is_known_by_the_name_that_its_forecast_gives_it(copy):
    study = json.loads((copy / "study.json").read_text())
    study["planned"]["nominal"] = {**next(iter(study["planned"].values())), "role": "target", "trunk": "nominal"}
    (copy / "study.json").write_text(json.dumps(study))
    runs = {run.fingerprint: run for run in look(copy, targets=["real"]).runs}
    assert "nominal" not in runs and runs["real"].role == "target" and runs["real"].state == "planned"
    shorter = {**study, "planned": {}}
    assert len(underway.find_underway(pd.DataFrame(columns=["fingerprint"]), shorter, ["real"], "tokens", "bits_per_byte",
                                      underway.Logs(copy)).runs) == len(study["runs"]) + 1
