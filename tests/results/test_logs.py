"""The log of a resumed run equals the log of an uninterrupted run, in every writer."""
import sys
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from log_writers import events, fake_wandb

from scaling.results import logs
from scaling.store import files


def written(workdir, name="run"):
    return logs.read_curve(workdir / "curves" / f"{name}.jsonl")


def test_lines_can_be_read_as_soon_as_they_are_written(tmp_path):
    log = logs.Logger(tmp_path, "run")
    for step in range(3):
        log.write(step, {"loss": jnp.float32(step / 2), "tokens": np.int64(100 * step), "n": np.ones(2)})
        assert written(tmp_path)[-1] == {"step": step, "loss": step / 2, "tokens": 100 * step, "n": [1, 1]}
    log.close()


def test_a_diverged_loss_is_kept_unchanged(tmp_path):
    with logs.Logger(tmp_path, "run") as log:
        log.write(1, {"loss": float("nan"), "norm": jnp.inf})
    point = written(tmp_path)[0]
    assert np.isnan(point["loss"]) and point["norm"] == np.inf
    assert "NaN" not in (tmp_path / "curves" / "run.jsonl").read_text()


@pytest.mark.parametrize("killed_after, resumed_at", [(7, 5), (7, 0), (7, 7), (3, 3)])
def test_a_resumed_log_equals_an_uninterrupted_one(tmp_path, killed_after, resumed_at):
    def train(workdir, start, stop):
        log = logs.Logger(workdir, "run", resume_step=start)
        for step in range(start, stop):
            log.write(step, {"loss": 1 / (step + 1)})
        return log
    train(tmp_path / "whole", 0, 10).close()
    train(tmp_path / "killed", 0, killed_after)  # never closed
    path = tmp_path / "killed" / "curves" / "run.jsonl"
    with open(path, "a") as f:
        f.write('{"step": 99, "lo')
    train(tmp_path / "killed", resumed_at, 10).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert written(tmp_path / "killed") == written(tmp_path / "whole")
    assert path.read_bytes() == (tmp_path / "whole" / "curves" / "run.jsonl").read_bytes()


def test_appending_keeps_earlier_lines(tmp_path):
    path = tmp_path / "curves" / "run.jsonl"
    for step in (3, 1):
        with logs.Logger(tmp_path, "run") as log:
            log.write(step, {})
        path.write_bytes(path.read_bytes().rstrip(b"\n"))  # a whole last line without its line end
    with logs.Logger(tmp_path, "run") as log:
        log.write(2, {})
    assert [p["step"] for p in written(tmp_path)] == [3, 1, 2]


def test_a_torn_line_is_skipped_with_a_warning_that_names_the_file(tmp_path):
    logs.write_curve(tmp_path / "a.jsonl", [{"step": 0, "loss": 1.0}, {"step": 1, "loss": float("nan")}])
    whole = (tmp_path / "a.jsonl").read_bytes()
    for cut in range(1, len(whole.splitlines()[1])):
        (tmp_path / "a.jsonl").write_bytes(whole[:-1 - cut])
        with pytest.warns(UserWarning, match=r"a\.jsonl: 1 torn"):
            assert logs.read_curve(tmp_path / "a.jsonl") == [{"step": 0, "loss": 1.0}]
    assert logs.read_curve(tmp_path / "none.jsonl") == []


def test_a_full_disk_is_reported(tmp_path):
    log = logs.Logger(tmp_path, "run")
    with open("/dev/full", "ab", buffering=0) as full:
        log._writers[0]._file = full
        with pytest.raises(files.DiskFull, match=r"run\.jsonl.*run the same command again"):
            log.write(0, {"loss": 1.0})


def test_an_object_store_gets_the_whole_log_on_close(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "is_local", lambda path: False)  # as on an object store, which cannot append
    for start, stop in ((0, 4), (2, 6)):
        with logs.Logger(epath.Path(tmp_path), "run", resume_step=start) as log:
            for step in range(start, stop):
                log.write(step, {"loss": 1.0 * stop})
    assert {p["step"]: p["loss"] for p in written(tmp_path)} == {0: 4, 1: 4, 2: 6, 3: 6, 4: 6, 5: 6}
    log = logs._RewrittenLines(epath.Path(tmp_path / "now.jsonl"), 0, every=0.0)
    log.write(0, {})
    assert len(logs.read_curve(tmp_path / "now.jsonl")) == 1  # and from time to time before it is closed


def test_tensorboard_reads_the_same_numbers(tmp_path):
    with logs.Logger(tmp_path, "run", writers=("tensorboard",), resume_step=0) as log:
        for step in range(4):
            log.write(step, {"loss": 2.0 - step / 4, "note": "not a number", "bad": float("nan")})
    points = [(event.step, value.tag, value.simple_value)
              for event in events(tmp_path / "tensorboard" / "run") for value in event.summary.value]
    assert [(s, v) for s, tag, v in points if tag == "loss"] == [(s, 2.0 - s / 4) for s in range(4)]
    assert all(np.isnan(v) for _, tag, v in points if tag == "bad")
    assert {tag for _, tag, _ in points} == {"loss", "bad"}
    assert len(written(tmp_path)) == 4  # JSON lines even when not named


def test_tensorboard_is_told_which_steps_a_resumed_run_drops(tmp_path):
    for start in (0, 2):
        with logs.Logger(tmp_path, "run", writers=("jsonl", "tensorboard"), resume_step=start) as log:
            log.write(start, {"loss": 1.0})
    starts = [e.step for e in events(tmp_path / "tensorboard" / "run")
              if e.HasField("session_log") and e.session_log.status == e.session_log.START]
    assert sorted(starts) == [0, 2]  # two files, even within one second


@pytest.fixture
def wandb(monkeypatch):
    return fake_wandb(monkeypatch)


def test_wandb_gets_the_numbers_and_a_restarted_run_keeps_its_identity(tmp_path, wandb):
    for name, steps in (("one", (0, 1)), ("two", (0,)), ("one", (2,))):
        with logs.Logger(tmp_path, name, writers=("wandb",), config={"width": 64}) as log:
            for step in steps:
                log.write(step, {"loss": jnp.float32(1.5), "note": "x"})
        assert wandb.runs[-1].finished
    one, two, again = wandb.runs
    assert one.logged == [(0, {"loss": 1.5}), (1, {"loss": 1.5})]
    assert one.options["id"] == again.options["id"] != two.options["id"]
    assert one.options["resume"] == "allow" and one.options["config"] == {"width": 64}
    assert one.options["group"] == tmp_path.name and two.options["name"] == "two"
    assert "mode" not in one.options  # left to WANDB_MODE


def test_a_missing_wandb_is_reported_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(logs.LogError, match="pip install wandb.*leave it out"):
        logs.Logger(tmp_path, "run", writers=("jsonl", "wandb"))


def test_an_unknown_writer_is_refused(tmp_path):
    with pytest.raises(logs.LogError, match="'tensorbord'.*jsonl, tensorboard, wandb"):
        logs.Logger(tmp_path, "run", writers=("tensorbord",))
    assert list(tmp_path.iterdir()) == []
