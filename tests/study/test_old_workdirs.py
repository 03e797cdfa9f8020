"""Workdirs that results version 2 left behind are read, reported and resumed: nothing is trained twice or overwritten."""

import functools
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from etils import epath
from launcher import ROOT, results
from old_workdirs import unpack_old

from scaling import report
from scaling.results import records
from scaling.study import forecasting
from scaling.sweeps import runner

KEPT = ("fingerprint", "role", "params_non_embedding", "tokens_seen", "learning_rate", "seed", "data_fingerprint")


@pytest.fixture
def old(tmp_path, corpus):
    """Unpacks one of the two workdirs beside the corpus that it was trained on."""
    shutil.copytree(corpus, tmp_path / "corpus")

    return functools.partial(unpack_old, folder=tmp_path)


@pytest.fixture
def resume(tmp_path, environment):
    def run(workdir, code=0):
        command = [sys.executable, "-m", "experiments.run", f"--config={ROOT}/tests/tiny_study.py", f"--workdir={workdir}",
                   "--config.data.name=text:corpus/*.txt"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == code, done.stderr[-3000:]
        return done.stdout + done.stderr
    return run


def written(workdir):
    """The bytes of everything that must never change."""
    names = [*workdir.glob("records/*"), *workdir.glob("forecast*.json")]
    return {path.name: path.read_bytes() for path in names}


def test_old_records_have_the_models_flops_and_those_executed(old):
    workdir = old("finished")
    frame = records.load_records(workdir)
    executed = {r["fingerprint"]: r["flops"] for r in results(workdir).values()}
    assert len(frame) == 17 and (frame["flops_executed"] == frame["fingerprint"].map(executed)).all()
    assert (frame["flops"] < frame["flops_executed"]).all()
    each = frame.groupby("params_non_embedding")
    assert (each["flops"].sum() / each["tokens_seen"].sum()).round(3).nunique() == 3  # one C per token for each size
    for _, runs in each:
        assert np.ptp(runs["flops"] / runs["tokens_seen"]) < 1e-6 * runs["flops"].max()


def test_an_old_workdir_is_reported(old, tmp_path):
    workdir = old("finished")
    page = report.write(workdir).read_text()
    assert page.count("<svg") >= 4 and "observed" in page.lower()
    assert "registered without a log" in page
    side = report.write_comparison([workdir], tmp_path / "side").read_text()
    assert "8.85× the compute, in FLOPs executed" in side  # the forecast counted them, and is not rewritten


def test_the_target_of_an_old_forecast_is_trained_under_its_old_name(old, monkeypatch, tmp_path):
    workdir = old("finished")
    target = json.loads((workdir / "forecast.json").read_text())["target"]
    for path in workdir.glob(f"*/{target['fingerprint']}*"):  # as if it had not begun
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))
    stage = forecasting.Forecasting(epath.Path(workdir), runner.Runner(epath.Path(workdir), runner.TrainingOptions()))
    assert stage.plan(target).runs[0].fingerprint == target["fingerprint"]


def test_a_finished_old_workdir_trains_nothing_and_keeps_its_files(old, resume):
    workdir = old("finished")
    before = written(workdir)
    resume(workdir)
    assert written(workdir) == before
    assert (workdir / "report" / "index.html").exists()


def test_an_interrupted_old_workdir_is_not_mixed_with_other_results(old, resume):
    """Version 5 has other learning rates, so what is left of the sweep would be another experiment."""
    workdir = old("interrupted")
    before = written(workdir)
    said = resume(workdir, code=1)
    assert "was begun by an older version of scaling" in said and "would have other results now" in said
    assert "Traceback" not in said and written(workdir) == before
