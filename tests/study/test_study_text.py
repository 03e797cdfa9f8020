"""A study of text whose models' samples are judged: from the config to records, baselines and the page."""

import dataclasses
import pathlib

import numpy as np
import pytest

from scaling import experiment as experiments
from scaling import report
from scaling.evaluate.text_judge import MEASURED_CODE, MEASURED_TEXT
from scaling.fields import ConfigError
from scaling.results import records
from scaling.store import files
from scaling.study import checks, configs
from scaling.study.restore import restore_record
from scaling.study.showcase import Showcase
from scaling.study.study import Study
from scaling.sweeps.runner import TrainingOptions

PATH = f"{pathlib.Path(__file__).parents[1]}/tiny_study.py"
SMALL = {"data.samples": 16, "data.sample_length": 24, "data.batch": 8, "tokens": (2560, 5120), "sizes": (5e3,),
         "learning_rates": (4e-3,), "metric": "self_bleu"}


@pytest.fixture(scope="module")
def study(corpus, tmp_path_factory):
    definition = dataclasses.replace(configs.define_study(configs.load_config(PATH), _config(corpus)), target=None)
    found = Study(definition, tmp_path_factory.mktemp("text") / "runs", TrainingOptions(), 1, "command", None)
    found.train()
    return found


def _config(corpus, **changes):
    config = configs.read_config(PATH)
    config.update_from_flattened_dict(SMALL | {"data.name": f"text:{corpus}/*.txt"} | changes)
    return config


def test_records_hold_what_the_samples_were_judged_by(study):
    frame = records.load_records(study.workdir)
    assert np.isfinite(frame[list(MEASURED_TEXT)].to_numpy(float)).all() and not set(MEASURED_CODE) & set(frame)
    assert (frame["judge.samples"] == 16).all() and (frame["judge.length"] == 24).all()
    assert frame["self_bleu"].between(0, 100).all() and frame["novelty"].between(0, 1).all()


def test_restored_runs_are_judged_as_their_records_say(study):
    [first, *_] = records.load_records(study.workdir)["fingerprint"]
    run = restore_record(study.runner, study.runner.records.read(first))
    found = run.evaluate()
    assert {name: found[name] for name in MEASURED_TEXT} == pytest.approx(
        {name: run.record[name] for name in MEASURED_TEXT}, rel=1e-4)


def test_baselines_are_held_out_text_copies_and_n_grams(study):
    shown = Showcase(study.workdir, study.runner)
    e = study.plan.runs[0].experiment
    shown.write_baselines(e, [2560])
    shown.write_baselines(e, [2560])
    found = files.read_json(study.workdir / "baselines.json")
    assert not shown.failed and found["floor"]["repeated"] == found["floor"]["repeated_real"]
    [copies], [counted] = found["memoriser"], found["ngram"]
    assert copies["tokens_unique"] == counted["tokens_unique"] == 2560
    assert copies["repeated"] == 1 and copies["novelty"] == 0 and 0 < counted["self_bleu"] < 100
    files.write_json(study.workdir / "study.json", {"metric": "self_bleu", "unit": "tokens", "failed": []})
    assert "nrefs:16" in report.write(study.workdir).read_text()  # how the samples were judged


@pytest.mark.parametrize("changes, says", [
    ({"data.samples": 5}, "data.samples=5 are too few"), ({"data.sample_length": 64}, "data.sample_length=64 is longer"),
    ({"data.samples": 0}, "data.sample_length=24 changes nothing without samples"),
    ({"data.name": "zipf"}, "data.samples=16 are judged as text")])
def test_samples_that_cannot_be_judged_are_refused(corpus, changes, says):
    with pytest.raises(ConfigError, match=says):
        configs.define_study(configs.load_config(PATH), _config(corpus, **changes))


def test_metrics_of_samples_are_known_where_they_are_judged(study):
    assert checks.check_study(dataclasses.replace(study.definition, beside=MEASURED_TEXT))
    with pytest.raises(ConfigError, match="parses"):
        checks.check_study(dataclasses.replace(study.definition, metric="parses"))
    code = experiments.config("transformer", **{"data.samples": 16})
    assert set(MEASURED_CODE) < set(experiments.from_config(code).data.judged())


def test_fields_of_samples_name_only_runs_that_have_them():
    e = experiments.from_config(experiments.config("transformer"))
    names = {experiments.fingerprint(e.replace(changes), "d") for changes in (
        {}, {"data.samples": 16}, {"data.samples": 16, "data.temperature": 0.5})}
    assert len(names) == 3
