"""Curves hold metrics on evaluation data, at steps that neither the machine nor an interruption changes."""

import numpy as np
import pytest

from scaling.results import logs
from scaling.results.records import Records
from scaling.store import files
from scaling.store.progress import Progress
from scaling.sweeps import segments
from scaling.sweeps.runner import Runner, TrainingOptions


class Killed(BaseException):
    """An end of the process that it does not notice."""


def train(path, sweep, **options):
    """{fingerprint: points of its curve} of a sweep that is trained, or resumed, in the workdir `path`."""
    runner = Runner(files.open_workdir(path), TrainingOptions(**options))
    plan = runner.plan(sweep, 1)
    runner.run(plan, Progress(1, silent=True))
    return {run.fingerprint: logs.read_curve(path / "curves" / f"{run.fingerprint}.jsonl") for run in plan.runs}


@pytest.fixture(scope="module")
def whole(sweep, tmp_path_factory):
    """The workdir of the sweep, trained without an interruption."""
    path = tmp_path_factory.mktemp("whole")
    train(path, sweep)
    return path


@pytest.fixture
def curves(whole, sweep):
    return train(whole, sweep)


def validations(points):
    return [(point["step"], point["validation/bits_per_byte"]) for point in points if "validation/bits_per_byte" in point]


def test_a_curve_has_validations_on_the_way_and_at_the_end_whatever_other_lengths_a_sweep_has(sweep, curves, tmp_path):
    short, long = (validations(points) for points in curves.values())
    assert [step for step, _ in short] == [8, 10] and [step for step, _ in long] == [8, 12, 16, 24, 32, 40]
    assert long[-1][1] < long[0][1]
    (alone,) = train(tmp_path, sweep[1:]).values()
    assert validations(alone) == long
    for points in curves.values():  # one line for each step
        assert all("loss" in point for point in points)
        assert [point["step"] for point in points] == sorted({point["step"] for point in points})


@pytest.mark.slow
def test_validations_survive_kills_bit_for_bit_neither_repeated_nor_lost(sweep, curves, tmp_path, monkeypatch):
    rng, calls, after = np.random.default_rng(1), [0], [4]
    write = logs.Logger.write

    def deadly(self, step, metrics):
        write(self, step, metrics)
        calls[0] += 1
        if calls[0] == after[0]:
            raise Killed

    monkeypatch.setattr(logs.Logger, "write", deadly)
    monkeypatch.setattr(segments, "CALL_SECONDS", 0.0)  # calls as short as on a slow machine
    kills, found = 0, None
    while found is None:
        try:
            found = train(tmp_path, sweep, checkpoint_seconds=0.0)
        except Killed:
            kills += 1
            calls[0], after[0] = 0, int(rng.integers(3, 9))
    assert kills > 1 and found == curves


def test_a_record_says_how_many_units_were_evaluated_and_the_error_of_each_metric(whole, curves):
    record = Records(whole).read(next(iter(curves)))
    assert record["evaluated"] == 32  # of 34 tokens two sequences of 16, though a batch of training has sixteen
    for metric in ("loss", "bits_per_byte", "accuracy"):
        assert 0 < record[f"{metric}_se"] < record[metric]
