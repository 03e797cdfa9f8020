"""A workdir is sent to each writer once: every run with its points, config and results, whatever was killed before."""

import json

import pytest
from log_writers import events, fake_wandb
from report_study import SIZES
from underway_study import begin

from scaling.results import logs, uploading, writers
from scaling.results.uploading import results_of, upload_runs
from scaling.store import files, locks


@pytest.fixture
def workdir(tmp_path):
    """Three finished runs of a sweep under way, one of which diverged."""
    begin(tmp_path, finished=lambda run: run["params_non_embedding"] == SIZES[0] and run["steps"] == 64)
    return tmp_path


def records_of(workdir):
    return {path.stem: files.loads_line(path.read_bytes()) for path in (workdir / "records").iterdir()}


def event_files(workdir):
    return {path: path.read_bytes() for path in workdir.glob("tensorboard/**/*") if path.is_file()}


def test_event_files_hold_the_points_the_config_and_the_results_of_each_run(workdir):
    done = upload_runs(workdir, ["tensorboard"])
    held = records_of(workdir)
    assert done == {"tensorboard": {"sent": sorted(held), "there": []}} and len(held) == 3
    for name, record in held.items():
        values = [(event.step, value) for event in events(workdir / "tensorboard" / name) for value in event.summary.value]
        points = logs.read_curve(workdir / "curves" / f"{name}.jsonl")
        assert [step for step, value in values if value.tag == "loss"] == [point["step"] for point in points]
        assert [value.simple_value for _, value in values if value.tag == "loss"] == pytest.approx(
            [point["loss"] for point in points])
        found = {value.tag: value.simple_value for step, value in values if step == 64 and value.tag.startswith("result/")}
        assert found == pytest.approx({f"result/{key}": float(x) for key, x in results_of(record).items()})
        [text] = [value.tensor.string_val[0].decode() for _, value in values if value.tag.startswith("config")]
        assert json.loads(text) == record["experiment"]


def test_a_second_call_doubles_nothing_and_sends_what_has_finished_since(workdir):
    upload_runs(workdir, ["tensorboard"])
    before = event_files(workdir)
    again = upload_runs(workdir, ["tensorboard", "tensorboard"])["tensorboard"]
    assert again == {"sent": [], "there": sorted(records_of(workdir))}
    assert event_files(workdir) == before
    begin(workdir, finished=lambda run: run["params_non_embedding"] == SIZES[0] and run["steps"] <= 128)
    again = upload_runs(workdir, ["tensorboard"])["tensorboard"]
    assert len(again["sent"]) == len(again["there"]) == 3 and event_files(workdir).items() >= before.items()


@pytest.mark.parametrize("after", ["conclude", "close"])
def test_a_call_that_was_killed_is_continued(workdir, monkeypatch, after):
    whole, calls = getattr(writers.TensorBoard, after), []

    def killed(self, *args):
        calls.append(whole(self, *args))
        if len(calls) == 2:
            raise KeyboardInterrupt
    monkeypatch.setattr(writers.TensorBoard, after, killed)
    with pytest.raises(KeyboardInterrupt):
        upload_runs(workdir, ["tensorboard"])
    monkeypatch.undo()
    first, *rest = sorted(records_of(workdir))
    assert upload_runs(workdir, ["tensorboard"])["tensorboard"] == {"sent": rest, "there": [first]}
    assert sorted(path.name for path in (workdir / "tensorboard").iterdir()) == [first, *rest]
    (workdir / "uploads" / "tensorboard" / f"{first}.json").unlink()  # killed between the last two files
    upload_runs(workdir, ["tensorboard"])
    assert len(list((workdir / "tensorboard" / first).iterdir())) == 1


def test_wandb_gets_one_run_for_each_with_its_config_and_a_summary(workdir, monkeypatch):
    wandb = fake_wandb(monkeypatch)
    for _ in range(2):
        upload_runs(workdir, ["wandb"])
    held = records_of(workdir)
    assert [run.options["name"] for run in wandb.runs] == sorted(held) and all(run.finished for run in wandb.runs)
    for run in wandb.runs:
        record = held[run.options["name"]]
        assert run.options["config"] == record["experiment"] and run.summary == results_of(record)
        assert [step for step, _ in run.logged] == list(range(1, 65))


def test_a_damaged_record_waits_until_its_run_is_trained_again(workdir):
    first = sorted((workdir / "records").iterdir())[0]
    whole = first.read_bytes()
    first.write_bytes(whole[:-20])
    with pytest.warns(UserWarning, match="torn or damaged"):
        assert len(upload_runs(workdir, ["tensorboard"])["tensorboard"]["sent"]) == 2
    first.write_bytes(whole)
    assert upload_runs(workdir, ["tensorboard"])["tensorboard"]["sent"] == [first.stem]


def test_what_cannot_be_sent_is_refused(workdir, monkeypatch):
    for names, says in ((["jsonl"], "in the workdir already"), (["tensorbord"], "choose from tensorboard, wandb")):
        with pytest.raises(writers.LogError, match=says):
            upload_runs(workdir, names)
    with pytest.raises(files.WorkdirError, match="is not a directory"):
        upload_runs(workdir / "none", ["tensorboard"])
    lock = locks.acquire(workdir / "locks" / "uploads-tensorboard")
    with pytest.raises(writers.LogError, match="another process sends the runs of .* to tensorboard now"):
        upload_runs(workdir, ["tensorboard"])
    lock.release()
    assert not (workdir / uploading.FOLDER).exists()
