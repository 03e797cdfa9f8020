"""The forecast stage of a study with planted results: what is registered, when it is late, and what is said."""
import dataclasses
import importlib.util
import json

import numpy as np
import pytest
from launcher import ROOT

from scaling import laws
from scaling.results import planned, records, tuned
from scaling.study import configs
from scaling.study.forecasting import Forecasting
from scaling.sweeps.runner import Runner, TrainingOptions
from scaling.training.counts import counts

METRIC = "bits_per_byte"


@dataclasses.dataclass
class Planted:
    """A workdir in which the sweep of the tiny study has results of a planted law. `said` collects what the stage says."""
    workdir: object
    config: object
    module: object
    said: list

    def __post_init__(self):
        self.restart()

    def restart(self):
        self.runner = Runner(self.workdir, TrainingOptions())
        self.stage = Forecasting(self.workdir, self.runner)
        self.said.clear()

    def finish(self, run, loss=None, **more):
        """Writes the record of a run, as if it had been trained now."""
        e = run.experiment
        made = counts(e, e.data.available(self.runner.source(e)))
        n, d = made["params_non_embedding"], made["tokens_seen"]
        rate = e.optim.learning_rate
        planted = (1 + 20 * n ** -0.3 + 60 * d ** -0.5) * (1 + 0.05 * np.log(rate / 6e-3) ** 2)
        planted *= np.exp(0.002 * np.sin(n + 3 * d))  # so that the runs miss the law a little
        self.runner.records.write({
            "fingerprint": run.fingerprint, "role": run.role, "family": "transformer", **made, "learning_rate": rate,
            "seed": 0, METRIC: float(planted if loss is None else loss), "diverged": False, "diverged_step": None,
            "seconds": 1.0, "data_fingerprint": self.runner.content(e), "versions": {"python": "3"}, "git_commit": None,
            "finished": "2100-01-01T00:00:00+00:00", **more})

    def sweep(self):
        for run in self.runner.plan(self.module.sweep(self.config), 8).runs:
            self.finish(run)

    def forecast(self):
        cells = tuned.tuned_cells(tuned.clean(records.load_records(self.workdir), METRIC), METRIC)
        runs = laws.Runs.from_dataframe(cells, METRIC, params="params_non_embedding", data="tokens_seen", compute="flops")
        fit = laws.fit(runs, delta="noise")
        study = configs.define_study(self.module, self.config)
        return self.stage.write(study, fit, laws.bootstrap(fit, 20), cells, "tokens_seen", self.said.append)

    def train_target(self, target, **more):
        run = self.stage.plan(target).runs[0]
        self.finish(run, **more)
        return run

    def train_seeds(self, target, losses):
        """Finishes the target with these losses of its seeds, the last one first."""
        runs = {run.experiment.seed: run for run in self.stage.plan(target).runs}
        for seed, loss in reversed(list(enumerate(losses))):
            self.finish(runs[seed], loss)

    def check(self):
        self.said.clear()
        self.stage.check(self.said.append)
        return " ".join(self.said)

    @property
    def written(self):
        return json.loads((self.workdir / "forecast.json").read_text())


@pytest.fixture
def study(tmp_path, corpus, monkeypatch):
    spec = importlib.util.spec_from_file_location("tiny_study", ROOT / "tests" / "tiny_study.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    texts = tmp_path / "corpus"
    texts.mkdir()
    for path in corpus.iterdir():
        (texts / path.name).write_bytes(path.read_bytes())
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))
    config = module.get_config()
    config.data.name = f"text:{texts}/*.txt"
    planted = Planted(tmp_path / "study", config, module, [])
    planted.workdir.mkdir()
    planted.sweep()
    return planted


def verdict(study):
    return laws.forecast.verify(study.workdir / "forecast.json")


def test_a_forecast_is_registered_checked_and_verified(study):
    study.train_target(study.forecast())
    assert any(line.startswith("forecast without the law: best fitted run") for line in study.said)
    said = study.check()
    for words in ("of the fall from the best fitted run", "times the compute", "% wide", "The best naive forecaster"):
        assert words in said
    assert said.endswith(("The forecast held.", "The forecast missed."))
    found = verdict(study)
    assert found.ok and not found.notes and len(found.registrations) == 1
    assert study.written["target"]["data_fingerprint"] and study.written["compute_counted_as"] == "flops"
    assert study.check() == said  # once


def test_a_target_with_several_seeds_is_scored_by_their_mean(study):
    study.config.target_seeds = 3
    target = study.forecast()
    assert len(set(target["seeds"])) == 3 and target["seeds"][0] == target["fingerprint"]
    assert any("for the mean of 3 seeds" in line for line in study.said)
    assert planned.forecast_targets(study.workdir) == target["seeds"]
    study.restart()
    again = study.forecast()  # which is on record
    assert again == target and {run.fingerprint for run in study.stage.plan(again).runs} == set(target["seeds"])
    losses = [2.0, 2.1, 2.25]
    study.train_seeds(target, losses)
    said = study.check()
    assert "2.0000, 2.1000, 2.2500, by seed" in said
    check = json.loads((study.workdir / "forecast_check.json").read_text())
    assert check["observed"] == pytest.approx(np.mean(losses)) and verdict(study).ok
    record = study.runner.records.read(target["seeds"][2])
    study.runner.records.path(target["seeds"][2]).unlink()
    with pytest.raises(laws.LawError, match="is gone or damaged"):
        study.check()
    study.runner.records.write({**record, METRIC: 9.0})
    assert "have a mean bits_per_byte of 4.36" in " ".join(verdict(study).problems)


def test_a_seed_of_the_target_that_diverged_or_had_begun_is_said(study):
    study.config.target_seeds = 2
    target = study.forecast()
    first, second = sorted(study.stage.plan(target).runs, key=lambda run: run.experiment.seed)
    study.finish(first)
    study.finish(second, loss=float("nan"), diverged=True, diverged_step=17, seed=1)
    assert "the target with seed 1 diverged at step 17" in study.check()
    (study.workdir / "forecast.json").unlink()
    study.runner.records.path(first.fingerprint).unlink()
    study.restart()
    study.forecast()
    assert "registered_late" in study.written


def test_a_forecast_deleted_before_its_target_is_trained_is_registered_again(study):
    study.forecast()
    before = study.written
    (study.workdir / "forecast.json").unlink()
    study.restart()
    target = study.forecast()
    assert "registered_late" not in study.written
    assert [one["forecast"] for one in study.written["registered_again"]] == [before["hash"]]
    assert any("registered again" in line for line in study.said)
    study.train_target(target)
    study.check()
    found = verdict(study)
    assert found.ok and "registered again" in found.notes[0] and len(found.registrations) == 2


@pytest.mark.parametrize("gone", [
    ["forecast.json"], pytest.param(["forecast.json", "forecast_check.json"], marks=pytest.mark.slow),
    pytest.param(["forecast.json", "forecasts.jsonl"], marks=pytest.mark.slow),
    pytest.param(["forecast.json", "forecast_check.json", "forecasts.jsonl"], marks=pytest.mark.slow),
    ["forecast.json", "forecast_check.json", "records"]])
def test_a_forecast_deleted_after_its_target_was_trained_is_late_and_never_scored(study, gone):
    run = study.train_target(study.forecast())
    study.check()
    for name in gone:  # "records" stands for the record of the target: the log remembers its score
        (study.runner.records.path(run.fingerprint) if name == "records" else study.workdir / name).unlink()
    study.restart()
    study.forecast()
    assert study.written["registered_late"]["reason"]
    assert any("registered late" in line for line in study.said)
    if "records" in gone:
        study.finish(run)
    assert study.check().startswith("no verdict") and not verdict(study).ok
    with pytest.raises(laws.LawError, match="registered late"):
        laws.forecast.check(study.workdir / "forecast.json", 1.0, {})


@pytest.mark.slow
def test_a_forecast_deleted_while_its_target_is_trained_is_late(study):
    run = study.stage.plan(study.forecast()).runs[0]
    (study.workdir / "forecast.json").unlink()
    study.runner.records.claim(run.fingerprint).release()
    study.restart()
    study.forecast()
    assert "had already begun" in study.written["registered_late"]["reason"]


def test_a_fork_does_not_undo_a_registration(study, tmp_path):
    target = study.forecast()
    old, again = study.workdir, tmp_path / "fork"

    def fork(name):
        study.workdir = tmp_path / name
        study.workdir.mkdir()
        study.restart()
        study.sweep()
        (study.workdir / "study.json").write_text(json.dumps({"forked_from": str(old)}))
        study.forecast()
        return study.written
    written = fork("before its target was trained")
    assert [one["file"] for one in written["registered_again"]] == [f"{old}/forecast.json"]
    assert "registered_late" not in written
    study.train_target(target)
    old, again = study.workdir, "after"
    assert "had already finished" in fork(again)["registered_late"]["reason"]


def test_finished_runs_of_more_compute_are_counted_whatever_their_role(study):
    for tokens in (81_920, 20_480):  # targets of other studies in this workdir, for example
        larger = study.module.target(study.config, 5e-3).replace({"data.tokens": tokens})
        study.finish(study.runner.plan([larger], 1, "target").runs[0])
    study.finish(study.runner.plan([larger.replace({"seed": 9})], 1, "target").runs[0], family="fsq")
    study.forecast()
    found = study.written["larger_runs"]  # without what others begin with: a tokenizer says nothing of the target
    assert found["runs"] == 2 and found["as_target"] == 1 and found["compute_ratio"] > 10
    assert any("2 runs of more compute" in line for line in study.said)
    assert any("could have seen" in note for note in verdict(study).notes)


def test_a_run_that_was_trained_again_with_equal_results_counts_as_equal(study):
    study.train_target(study.forecast())
    name = sorted(study.written["records"])[0]
    path = study.runner.records.path(name)
    record = study.runner.records.read(name)
    path.unlink()
    study.runner.records.write(record | {"seconds": 9.0, "finished": "2100-02-02T00:00:00+00:00", "git_commit": "f00"})
    assert study.check().endswith(("The forecast held.", "The forecast missed.")) and verdict(study).ok
    path.unlink()
    study.runner.records.write(record | {METRIC: record[METRIC] + 1e-9})
    assert f"changed: {name}" in verdict(study).problems[0]
    assert study.check().startswith("no verdict: ") and f"changed: {name}" in study.said[0]
    (study.workdir / "forecast_check.json").unlink()
    with pytest.raises(laws.LawError, match=f"changed: {name}"):
        study.check()


def test_a_target_that_was_trained_again_with_another_result_has_no_verdict(study):
    run = study.train_target(study.forecast())
    study.check()
    path = study.runner.records.path(run.fingerprint)
    observed = study.runner.records.read(run.fingerprint)[METRIC]
    path.write_text("")  # damaged
    with pytest.raises(laws.LawError, match="gone or damaged"), pytest.warns(UserWarning):
        study.check()
    path.unlink()
    study.finish(run, loss=observed * 1.001)  # on another machine
    assert study.check().startswith("no verdict: The record of the target has")
    path.unlink()
    study.finish(run)
    assert study.check().endswith(("The forecast held.", "The forecast missed.")) and verdict(study).ok


def test_edited_data_are_said_before_the_target_is_trained_under_another_name(study):
    study.forecast()
    first = sorted((study.workdir.parent / "corpus").iterdir())[0]
    first.write_text(first.read_text() + " and more")
    study.restart()
    with pytest.raises(laws.LawError, match="the data text:.* have changed since .*restore the data") as error:
        study.forecast()
    assert "forecast.json" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(laws.LawError, match="have changed since"):
        study.check()


def test_a_target_that_diverged_or_lacks_the_metric_is_a_sentence(study):
    run = study.train_target(study.forecast(), loss=float("nan"), diverged=True, diverged_step=17)
    assert "diverged at step 17" in study.check()
    assert "diverged at step 17" in verdict(study).problems[0]
    study.runner.records.path(run.fingerprint).unlink()
    study.finish(run, loss=float("nan"))
    with pytest.raises(laws.LawError, match="must be positive and finite"):
        study.check()
    record = study.runner.records.read(run.fingerprint)
    study.runner.records.path(run.fingerprint).unlink()
    study.runner.records.write({name: value for name, value in record.items() if name != METRIC})
    with pytest.raises(laws.LawError, match="the metric of the study has changed"):
        study.check()
