"""The Python of docs/exchange.md does what the page says: exported runs are read, and an imported model learns."""

import pathlib
import re

import numpy as np
import pytest
from foreign_checkpoint import GPT2, decoder, held_run, moved_params, write_foreign
from sources import tiny

import scaling
from scaling import exchange
from scaling.study import configs
from scaling.study.study import Study
from scaling.sweeps.runner import TrainingOptions

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "exchange.md").read_text()
HUB, ARRAYS, LOGITS, CONFIG = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))


def test_arrays_are_read_back():
    experiment = tiny("vae")
    run = held_run(experiment.family, moved_params(experiment.family), experiment.data)
    exchange.export(run, "vae_arrays", "safetensors")
    names = {}
    exec(ARRAYS, names)
    assert names["experiment"].family == experiment.family


def test_transformers_continues_a_text(capsys):
    pytest.importorskip("torch", reason="transformers computes with torch")
    pytest.importorskip("transformers", reason="the extra exchange")
    exchange.export(held_run(decoder(length=64)), "quickstart_hf", "hf")
    exec(HUB, {})
    assert capsys.readouterr().out.startswith("def ")


@pytest.fixture
def imported(tmp_path):
    """(the family of a checkpoint, the run in runs/gpt2 that it became)."""
    family = write_foreign(tmp_path / "hf", "the law of the loss", **GPT2, biases=True, length=32, layers=1)
    return family, exchange.import_checkpoint("hf", "runs/gpt2")[0]


@pytest.fixture
def study(corpus, tmp_path, imported):
    """The study of the config on the page, on less data."""
    (tmp_path / "learn.py").write_text(CONFIG)
    config = configs.read_config("learn.py")
    config.update_from_flattened_dict({"data.name": f"text:{corpus}/*.txt", "data.evaluation_tokens": 640,
                                       "tokens": (2048,), "rates": (1e-3,), "optim.warmup": 1})
    definition = configs.define_study(configs.load_config("learn.py"), config)
    return Study(definition, tmp_path / "runs" / "gpt2", TrainingOptions(compile_ahead=False), 1, "command", None)


def test_an_imported_model_gives_logits(imported):
    names = {}
    exec(LOGITS, names)
    assert names["logits"].shape == (3, imported[0].vocab) and np.isfinite(names["logits"]).all()


@pytest.mark.slow
def test_a_study_that_begins_with_an_imported_model_is_planned(imported, study):
    _, base = imported
    assert study.plan.packs[-1].waits_for == {base} and "others begin with them" in study.describe()
    assert study.runner.can_begin(study.plan.packs[-1]) and study.runner.done(study.plan.packs[0].runs)


@pytest.mark.slow
def test_an_imported_model_learns(imported, study):
    _, base = imported
    study.begin()
    study.train()
    [found] = [record for record in scaling.load("runs/gpt2").to_dict("records") if record["role"] == "sweep"]
    tuned = scaling.restore("runs/gpt2")
    examples = next(iter(tuned.runner.evaluation(tuned.experiment).values()))
    before = scaling.restore("runs/gpt2", base).loss({"tokens": examples["tokens"]}).mean()
    assert found["fingerprint"] == tuned.fingerprint and found["start.fingerprint"] == base
    assert found["loss"] < before - 0.1
    assert found["flops"] > 0 and np.isnan(found["flops_cumulative"])  # unknown, which is NaN in a table
