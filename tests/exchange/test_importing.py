"""A checkpoint of others becomes a run that gives its logits, is evaluated on other data, and that others begin with."""

import json
import shutil
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from foreign_checkpoint import END, GPT2, NEOX, decoder, held_run, moved_params, write_foreign
from safetensors.numpy import load_file, save_file

import scaling
from scaling import exchange
from scaling.exchange import ExchangeError, importing
from scaling.fields import DataError
from scaling.results.records import Records
from scaling.study import evaluating
from scaling.study.restore import choose_run
from scaling.study.restored import RestoreError

TEXT = "the law of the loss, and the loss of the law; " * 8


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """(the folder of a checkpoint, the workdir that it was imported into, its family, its run)."""
    folder = tmp_path_factory.mktemp("imported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCALING_DATA_DIR", str(folder / "data"))
        family = write_foreign(folder / "hf", TEXT, **GPT2, biases=True, length=32)
        fingerprint, there = exchange.import_checkpoint(str(folder / "hf"), folder / "runs")
        assert not there
        yield folder / "hf", folder / "runs", family, scaling.restore(folder / "runs", fingerprint)


def test_the_run_has_the_logits_of_the_checkpoint_with_the_end_of_documents_as_token_0(imported):
    _, _, family, run = imported
    numbers, tokens = run.tokenizer.numbers, np.random.default_rng(0).integers(0, family.vocab, (2, 9))
    theirs = np.asarray(jax.jit(family.logits)(moved_params(family), tokens))
    np.testing.assert_allclose(run.logits(numbers[tokens])[..., numbers], theirs, atol=1e-5)
    assert run.tokenizer.decode(run.tokenizer.encode(TEXT + END)) == TEXT + END
    assert run.generate(["the law"], tokens=3, seed=1) == run.generate(["the law"], tokens=3, seed=1)


def test_the_only_run_of_a_workdir_is_its_best_and_is_imported_once(imported):
    folder, workdir, _, run = imported
    assert scaling.restore(workdir).fingerprint == run.fingerprint
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    assert exchange.import_checkpoint(str(folder), workdir) == (run.fingerprint, True)
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before
    assert run.record["imported"]["model_type"] == "gpt2" and run.record["tokens_seen"] is None
    assert scaling.load(workdir)["role"].tolist() == ["start"]


def test_it_is_evaluated_in_bits_per_byte_on_other_data_and_not_on_its_own(imported, corpus):
    run = imported[3]
    with pytest.raises(RestoreError, match="trained elsewhere.*--data=pycode/stdlib"):
        evaluating.evaluate_run(run)
    with pytest.raises(DataError, match="imported:hf@.* is not here"):
        run.source.arrays()
    other = evaluating.with_data(run, f"text:{corpus}/0*.txt", 640)
    found, _ = evaluating.evaluate_run(other)
    batch = next(iter(other.runner.evaluation(other.experiment).values()))
    nats = run.loss(batch).sum() * run.family.length
    assert found["metrics"]["bits_per_byte"] == pytest.approx(nats / np.log(2) / batch["bytes"].sum(), rel=1e-4)


def test_a_workdir_that_was_moved_to_another_machine_brings_its_tokenizer(imported, tmp_path, monkeypatch):
    _, workdir, _, run = imported
    shutil.copytree(workdir, tmp_path / "moved")
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))
    there = scaling.restore(tmp_path / "moved", run.fingerprint)
    assert (there.tokenizer.encode(TEXT) == run.tokenizer.encode(TEXT)).all()
    assert jnp.array_equal(there.params["model"]["embed"]["weight"].get_raw_value(),
                           run.params["model"]["embed"]["weight"].get_raw_value())


def test_what_was_exported_is_imported_as_the_same_model_on_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))
    run = held_run(decoder(length=32))
    exchange.export(run, tmp_path / "hf", "hf")
    exchange.import_checkpoint(str(tmp_path / "hf"), tmp_path / "runs", 24)
    again = scaling.restore(tmp_path / "runs")
    assert again.family.length == 24 and again.tokenizer.name == "bytes"
    for here, there in zip(jax.tree.leaves(again.params), jax.tree.leaves(run.params), strict=True):
        assert (np.asarray(here) == np.asarray(there)).all()


def test_other_weights_make_another_run(imported, tmp_path, monkeypatch):
    folder, _, _, run = imported
    shutil.copytree(folder, tmp_path / "hf")
    weights = load_file(tmp_path / "hf" / "model.safetensors")
    weights["transformer.ln_f.bias"] += 1
    save_file(weights, tmp_path / "hf" / "model.safetensors")
    assert exchange.import_checkpoint(str(tmp_path / "hf"), tmp_path / "runs")[0] != run.fingerprint


def test_the_one_run_of_the_nearest_size_is_found_without_a_metric_and_several_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))
    runs = {}
    for width, seed in ((16, "a"), (32, "b"), (32, "c")):
        write_foreign(tmp_path / seed, TEXT + seed, **NEOX | {"rope_share": 0.25, "width": width}, layers=1)
        runs[seed] = exchange.import_checkpoint(str(tmp_path / seed), tmp_path / "runs")[0]
        if seed == "b":
            assert choose_run(Records(tmp_path / "runs"), "N=1e5") == runs["b"]
    assert choose_run(Records(tmp_path / "runs"), "N=1e3") == runs["a"]
    several = rf"name one by its fingerprint: ({runs['b']}, {runs['c']}|{runs['c']}, {runs['b']})$"
    with pytest.raises(RestoreError, match=several):
        choose_run(Records(tmp_path / "runs"), "N=1e5")
    with pytest.raises(RestoreError, match=f"name one by its fingerprint: .*{runs['a']}"):
        choose_run(Records(tmp_path / "runs"), "best")


@pytest.mark.parametrize("source, asked", [("a/hf", ("a/hf", None)), ("hf@step1000", ("hf", "step1000"))])
def test_a_name_on_the_hub_may_have_a_revision(source, asked, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(
        snapshot_download=lambda name, revision, allow_patterns: seen.append((name, revision)) or tmp_path))
    monkeypatch.setattr(importing.importlib.util, "find_spec", lambda name: True)
    assert importing.checkpoint_folder(source) == tmp_path and seen == [asked]


def test_names_of_the_hub_need_a_package_and_folders_a_config(tmp_path, monkeypatch):
    monkeypatch.setattr(importing.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExchangeError, match="pip install huggingface_hub, or write the path"):
        exchange.import_checkpoint("openai-community/gpt2", tmp_path / "runs")
    with pytest.raises(ExchangeError, match="is no folder; write one that holds config.json"):
        exchange.import_checkpoint("./no/such/folder", tmp_path / "runs")
    (tmp_path / "hf").mkdir()
    with pytest.raises(ExchangeError, match="has no config.json"):
        exchange.import_checkpoint(str(tmp_path / "hf"), tmp_path / "runs")
    (tmp_path / "hf" / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(ExchangeError, match="'t5', which no Transformer of scaling computes"):
        exchange.import_checkpoint(str(tmp_path / "hf"), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
