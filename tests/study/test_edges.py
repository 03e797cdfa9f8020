"""A whole study with planted results: what its cells ask for is planned, fitted, forecast and said on its page."""

import json

import pytest
import tiny_study
from planted_runner import PlantedRunner
from report_page import words_of

from scaling import laws
from scaling.results.planned import load_planned
from scaling.store.files import WorkdirError
from scaling.study import configs, study
from scaling.sweeps.runner import TrainingOptions

SIZES, TOKENS = (5e3, 9e3, 2e4), (2560, 5120, 7680, 10240)


@pytest.fixture
def start(corpus, tmp_path, monkeypatch):
    """Makes a study whose runs get planted results: the best rate is 6e-3, and 1.2e-2 in the cells on the least data."""
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(study.runner, "Runner", PlantedRunner)
    monkeypatch.setattr(study.report, "write", lambda workdir: workdir / "report")  # drawing figures takes seconds
    monkeypatch.setattr(PlantedRunner, "best", staticmethod(lambda n, d: 1.2e-2 if d == TOKENS[0] else 6e-3))

    def make(name="runs", fork=None, **changes):
        config = tiny_study.get_config()
        config.data.name, config.data.batch, config.data.length = f"text:{corpus}/*.txt", 8, 16
        config.prompts, config.sizes, config.tokens, config.learning_rates = (), SIZES, TOKENS, (3e-3, 6e-3, 1.2e-2)
        config.update_from_flattened_dict(changes)
        job = study.Study(configs.define_study(tiny_study, config), tmp_path / name, TrainingOptions(), 2, "run", fork)
        monkeypatch.setattr(job, "show", list)  # no run has parameters to draw samples from
        return job
    return make


def read(job, name="fit"):
    return json.loads((job.workdir / f"{name}.json").read_text())


def test_cells_that_stay_at_the_edge_are_left_out_and_said(start, capsys):
    job = start()  # tune is 0 in the tiny study
    job.go()
    fit, forecast = read(job), read(job, "forecast")
    assert len(fit["points"]) == 9 and {point["tokens_seen"] for point in fit["points"]} == set(TOKENS[1:])
    dropped = fit["manifest"]["dropped"]
    assert len(dropped) == 3 and {one["why"] for one in dropped} == {"its best learning rate is the highest one tried"}
    cells = job.cells()[1].set_index("fingerprint")
    assert set(cells.loc[[one["fingerprint"] for one in dropped], "tokens_seen"]) == {TOKENS[0]}
    assert set(forecast["records"]) == {point["fingerprint"] for point in fit["points"]}
    said = "The fit leaves out the 3 cells whose best learning rate is at the edge, and takes the other 9"
    text = words_of(job.workdir).text
    assert said in capsys.readouterr().err and said in text and "In 3 of 12 sweeps of the learning rate" in text
    assert "asked for the next rates" not in text and "bracketing" not in read(job, "study")
    runs = laws.Runs.from_workdir(job.workdir)  # a table of the workdir takes the same cells
    assert sorted(runs.frame["fingerprint"]) == sorted(point["fingerprint"] for point in fit["points"])


@pytest.mark.parametrize(("change", "said"), [
    ({"fit_edges": True}, "The fit takes the 3 cells whose best learning rate is at the edge, as fit_edges asks."),
    ({"learning_rates": (3e-3, 6e-3)}, "The fit takes the 12 cells whose best learning rate is at the edge: without them, "
                                       "too few of the 12 cells would be left for the law.")])
def test_cells_at_the_edge_stay_in_where_that_is_asked_or_needed(start, change, said, capsys):
    job = start(**change)
    job.go()
    assert len(read(job)["points"]) == 12 and not read(job)["manifest"]["dropped"]
    assert said in capsys.readouterr().err and said in words_of(job.workdir).text


def test_a_study_holds_what_is_known_of_the_law_and_forecasts_by_it(start):
    job = start(law="best", fix="E=0.8", fit_edges=True)
    job.go()
    fit, forecast = read(job), read(job, "forecast")
    assert fit["params"]["E"] == 0.8 and fit["fixed"] == {"E": 0.8} and forecast["predicted"] > 0.8
    assert all(law["law"] != "kaplan" for law in fit["selection"]["table"]) and read(job, "study")["fix"] == {"E": 0.8}
    assert "Every law has E = 0.8, as the study asks" in words_of(job.workdir).text


def test_asked_runs_belong_to_the_study_and_are_fitted_and_it_grows_and_never_shrinks(start, capsys):
    job = start(tune=0.25)
    assert "tune=0.25: cells whose best learning rate is at the edge" in job.describe()
    job.go()
    asked = [run for run in job.runner.trained if run.experiment.optim.learning_rate == 2.4e-2]
    about, fit = read(job, "study"), read(job)
    assert len(asked) == 3 and set(about["bracketing"]["runs"]) == {run.fingerprint for run in asked} < set(about["runs"])
    assert 0 < about["bracketing"]["spent"] <= about["bracketing"]["budget"]
    assert len(fit["points"]) == 12 and not fit["manifest"]["dropped"] and len(load_planned(job.workdir)[0]) == 36 + 3 + 1
    err, text = capsys.readouterr().err, words_of(job.workdir).text
    assert "3 cells with the best learning rate at the edge: 3 get the next rate (0.024; 3 runs)" in err
    assert "3 runs beyond the sweep" in text and "at the edge: it is" not in text
    before = {path: path.read_bytes() for path in [*job.workdir.glob("records/*"), *job.workdir.glob("f*.json")]}
    again = start(tune=0.25)
    said = again.describe()
    assert "3 runs of asked rates are done" in said and "records that are not in this plan" not in said
    again.go()
    assert not again.runner.trained and read(again, "study")["runs"] == about["runs"]
    assert all(path.read_bytes() == content for path, content in before.items())
    off = start()  # without tune, what was asked for still counts
    off.go()
    assert not off.runner.trained and len(read(off)["points"]) == 12
    wider = start(tune=0.25, learning_rates=(3e-3, 6e-3, 1.2e-2, 2.4e-2))  # the asked rate is of the sweep now
    wider.go()
    grown = read(wider, "study")
    assert set(about["runs"]) < set(grown["runs"]) and "bracketing" not in grown
    assert not {run.fingerprint for run in wider.runner.trained} & set(about["runs"])
    with pytest.raises(WorkdirError, match="learning_rates"):
        start(tune=0.25)


@pytest.mark.slow
def test_a_shard_asks_for_nothing_and_the_joining_command_does(start):
    for index in range(2):
        start(tune=0.25).train_shard(index, 2)
    assert "bracketing" not in read(start(tune=0.25), "study")
    job = start(tune=0.25)
    job.go()
    assert len(read(job, "study")["bracketing"]["runs"]) == 3


@pytest.mark.slow
def test_a_fork_copies_what_was_asked_for(start, tmp_path):
    start(tune=0.25).go()
    forked = start("forked", fork=tmp_path / "runs", tune=0.25)
    forked.go()
    assert [run.role for run in forked.runner.trained] == ["target"]
