"""A study whose sweep is halved, with planted results: no fit takes a stopped run, and the page says what was saved."""

import json

import pytest
import tiny_study
from planted_runner import METRIC, PlantedRunner
from report_page import words_of

from scaling import laws
from scaling.fields import ConfigError
from scaling.figures.words import power
from scaling.report import caveats
from scaling.report.reading import read_study
from scaling.results.planned import load_planned
from scaling.study import configs, study
from scaling.sweeps.runner import TrainingOptions

SIZES, TOKENS, RATES = (5e3, 9e3, 2e4), (2560, 5120, 7680, 10240), tuple(1.5e-3 * 2**i for i in range(5))


@pytest.fixture
def start(corpus, tmp_path, monkeypatch):
    """Makes a study whose runs get planted results with the best rate at 6e-3."""
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(study.runner, "Runner", PlantedRunner)
    monkeypatch.setattr(study.report, "write", lambda workdir: workdir / "report")  # drawing figures takes seconds

    def make(**changes):
        config = tiny_study.get_config()
        config.data.name, config.data.batch, config.data.length = f"text:{corpus}/*.txt", 8, 16
        config.prompts, config.sizes, config.tokens, config.learning_rates = (), SIZES, TOKENS, RATES
        config.stop_early = "halving"
        config.update_from_flattened_dict(changes)
        options = TrainingOptions(keep_trunks="none" if changes.get("stop_early") == "" else "auto")
        job = study.Study(configs.define_study(tiny_study, config), tmp_path / "runs", options, 2, "run")
        monkeypatch.setattr(job, "show", list)  # no run has parameters to draw samples from
        return job
    return make


def read(job, name):
    return json.loads((job.workdir / f"{name}.json").read_text())


@pytest.mark.slow
def test_no_fit_takes_a_run_that_was_stopped_and_the_page_says_what_was_saved(start):
    job = start()
    assert "stop_early=halving: the learning rates of a size are trained on the least data first" in job.describe()
    with pytest.raises(ConfigError, match="leave out --shard"):
        job.train_shard(0, 2)
    job.train()
    job.write_study([])
    frame = load_planned(job.workdir)[0]
    stopped = set(frame.loc[frame["stopped_step"].notna(), "fingerprint"])
    cells, about = job.cells()[1], read(job, "study")["stopping"]
    assert len(cells) == 12 and not stopped & set(job.points(cells, METRIC).frame["fingerprint"])
    assert not stopped & set(laws.Runs.from_workdir(job.workdir).frame["fingerprint"])
    assert set(cells["learning_rate"]) == {6e-3}
    assert frame.loc[frame["stopped_step"].notna(), METRIC].isna().all()
    assert about["runs"] == len(stopped) == 3 * 3 * 2  # five rates, then the best and its two neighbours
    said = (f"{len(stopped)} of {len(frame)} runs were stopped early because shorter runs of their rate were poor. No fit "
            f"takes them. This saved {power(about['saved'])} of the {power(about['of'])} FLOPs of the sweep")
    assert said in " ".join(caveats.caveats(read_study(job.workdir)))


@pytest.mark.slow
def test_runs_that_were_stopped_stay_out_of_later_commands_until_the_rule_is_gone(start):
    job = start()
    job.go()
    fit, about = read(job, "fit"), read(job, "study")["stopping"]
    stopped = {record["fingerprint"] for record in job.runner.records.stopped()}
    assert len(fit["points"]) == 12 and not stopped & {point["fingerprint"] for point in fit["points"]}
    assert "were stopped early" in words_of(job.workdir).text
    again = start()
    again.go()
    assert not again.runner.trained and read(again, "study")["stopping"] == about
    whole = start(stop_early="")  # now they are trained to their end
    whole.go()
    assert {run.fingerprint for run in whole.runner.trained} == stopped and not read(whole, "study")["stopping"]
    assert [point["fingerprint"] for point in read(whole, "fit")["points"]] == [p["fingerprint"] for p in fit["points"]]


@pytest.mark.slow
def test_halving_and_a_sampler_work_together(start, monkeypatch):
    pytest.importorskip("optuna")
    monkeypatch.setattr(PlantedRunner, "best", staticmethod(lambda n, d: 8e-3))  # between two rates of the grid
    job = start(tune=0.5, tune_sampler="optuna", tune_trials=2)
    assert "tune_sampler=optuna: cells whose best learning rate is bracketed" in job.describe()
    job.go()
    about = read(job, "study")
    asked = about["bracketing"]
    assert asked["sampler"]["name"] == "optuna:tpe" and asked["spent"] <= asked["budget"]
    assert about["stopping"]["runs"] == 18 and "proposed between the neighbours of their best" in words_of(job.workdir).text
    fitted = {point["fingerprint"] for point in read(job, "fit")["points"]}
    assert fitted & set(asked["runs"])  # some proposals are better than the grid
    again = start(tune=0.5, tune_sampler="optuna", tune_trials=2)
    again.go()
    assert not again.runner.trained
