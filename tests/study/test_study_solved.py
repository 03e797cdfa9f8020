"""A whole study of a family that is solved: a sweep, a fit, a checked forecast, samples and a page."""

import pytest

from scaling import experiment
from scaling.experiment import grid
from scaling.results import records
from scaling.store import files
from scaling.study import restore
from scaling.study.definition import Definition
from scaling.study.study import Study
from scaling.sweeps.runner import TrainingOptions


@pytest.fixture(scope="module")
def study(corpus, tmp_path_factory):
    """The workdir of a study of n-gram models: two sizes on three amounts of data, with two orders to choose from."""
    base = experiment.from_config(experiment.config("ngram")).replace({
        "data.name": f"text:{corpus}/*.txt", "data.length": 32, "data.batch": 8, "data.evaluation_tokens": 1024,
        "family.counts": 512, "family.order": 3})
    sweep = grid(base, {"family.counts": [512, 2048], "family.order": [2, 3], "data.tokens": [2560, 5120, 10240]})
    target = base.replace({"family.counts": 2048, "data.tokens": 20480})
    definition = Definition("N-grams", "bits_per_byte", sweep, lambda rate: target, ("a",), tune=0.25)
    path = tmp_path_factory.mktemp("study") / "runs"
    Study(definition, path, TrainingOptions(), 0, "test").go()
    return path


def test_it_is_fitted_forecast_checked_and_shown(study):
    frame = records.load_records(study)
    assert len(frame) == 13 and sorted(frame["params_non_embedding"].unique()) == [512, 2048]
    assert "learning_rate" not in frame and not frame["diverged"].any() and (frame["bits_per_byte_se"] > 0).all()
    fit, check = (files.read_json(study / f"{name}.json") for name in ("fit", "forecast_check"))
    target = frame[frame["role"] == "target"].iloc[0]
    assert len(fit["points"]) == 6 and check["observed"] == target["bits_per_byte"]
    assert {sample["label"] for sample in files.read_json(study / "samples.json")} == {"smallest", "largest"}
    page = (study / "report" / "index.html").read_text()
    assert page.count("<svg") >= 4 and "is left out, because a file" not in page and "nan" not in page.lower().split()
    assert "the one with the best settings" in page and "model, forward and backward" not in page
    assert not (study / "baselines.json").exists()  # n-gram models are no baseline of themselves


def test_the_order_is_chosen_at_each_size_and_amount_of_data(study):
    frame = records.load_records(study)
    sweep = frame[frame["role"] == "sweep"]
    best = sweep.groupby(["params_non_embedding", "tokens_seen"])["bits_per_byte"].min()
    points = {(p["params_non_embedding"], p["tokens_seen"]): p["bits_per_byte"]
              for p in files.read_json(study / "fit.json")["points"]}
    assert points == best.to_dict()


def test_a_finished_run_continues_text(study):
    run = restore.restore(study)
    text, again = (run.generate(["a"], tokens=20, seed=1) for _ in range(2))
    assert text == again and run.stream and "".join(run.stream("a", tokens=20, seed=1)) == text[0]
