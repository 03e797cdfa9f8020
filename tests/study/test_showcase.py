"""A study whose samples, pictures or parameters fail still has its page, which says what failed and why."""

import os
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from tiny_workdir import image_workdir, text_workdir

import scaling
from scaling import report
from scaling.data.tokenizers import Bytes
from scaling.experiment import Pairs
from scaling.families.ngram import NGram
from scaling.results import planned, tuned
from scaling.store import files
from scaling.study.showcase import Showcase
from scaling.sweeps.runner import Runner, TrainingOptions


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    return text_workdir(tmp_path_factory.mktemp("text") / "runs", corpus)


@pytest.fixture
def workdir(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "runs")


def show(workdir, metric="bits_per_byte", prompts=("a", "")):
    """Writes the samples and the page as a study does at its end. Returns (sentences about what failed, the page)."""
    runner = Runner(files.epath.Path(os.fspath(workdir)), TrainingOptions())
    shown = Showcase(runner.workdir, runner)
    shown.write_samples(tuned.clean(planned.load_planned(workdir)[0], metric), metric, prompts)
    files.write_json(workdir / "study.json", {"metric": metric, "failed": shown.failed})
    return shown.failed, report.write(workdir).read_text()


def of(workdir):
    return {entry["fingerprint"] for entry in files.read_json(workdir / "samples.json")}


def check_positions(workdir):
    """The loss by position in the context, weighted by positions, is that of the evaluation."""
    [entry] = files.read_json(workdir / "positions.json")
    model = scaling.restore(workdir, entry["fingerprint"])
    parts = entry["bits"]
    assert [(part["first"], part["last"]) for part in parts] == [(1, 1), (2, 3), (4, 7), (8, 15), (16, 32)]
    whole = sum(part["bits"] * (part["last"] - part["first"] + 1) for part in parts) / model.family.length
    assert whole == pytest.approx(model.record["bits_per_byte"], rel=1e-5) and parts[0]["bits"] != parts[-1]["bits"]


def test_samples_are_of_the_next_best_run_where_parameters_are_lost(workdir):
    table = scaling.load(workdir)
    failed, page = show(workdir)
    check_positions(workdir)
    best = {table.set_index("fingerprint")["tokens_seen"].idxmax()}
    prompts = [entry["prompt"] for entry in files.read_json(workdir / "samples.json")]
    assert not failed and of(workdir) == best and prompts[:2] == ["a", ""]
    shutil.rmtree(workdir / "params" / min(best))
    failed, page = show(workdir)
    assert len(failed) == 1 and f"{min(best)} are missing" in failed[0] and "The samples are of other runs" in failed[0]
    rest = table[~table["fingerprint"].isin(best)]
    assert of(workdir) == {rest.set_index("fingerprint")["bits_per_byte"].idxmin()}
    assert failed[0].split(":")[0] in page


def test_without_any_parameters_the_page_says_so_and_keeps_earlier_samples(workdir):
    show(workdir)
    before = of(workdir)
    shutil.rmtree(workdir / "params")
    failed, page = show(workdir)
    assert "There are no samples" in failed[0] and failed[0].split(":")[0] in page and of(workdir) == before


def test_a_family_that_fails_at_its_samples_still_has_a_page(workdir, monkeypatch):
    def fails(*_, **__):
        raise IndexError("out of range")
    show(workdir)
    monkeypatch.setattr("scaling.families._generate.generate", fails)
    failed, page = show(workdir)
    assert failed == ["The samples of text could not be made: IndexError in fails: out of range."] and failed[0] in page
    files.write_json(workdir / "samples.json", [{"fingerprint": "0ther", "prompt": "", "text": ""}])
    show(workdir)
    assert not (workdir / "samples.json").exists()  # those were of another study


def test_learned_positions_end_a_text_where_the_model_ends(workdir, monkeypatch):
    run = scaling.restore(workdir)
    longest = run.family.length
    monkeypatch.setattr("scaling.families._generate.find_longest", lambda family: longest)
    texts = run.continue_each(["a", "", "x" * (longest - 1)], 300, temperature=0.0, stop=())
    assert [len(run.tokenizer.encode(text)) for text in texts] == [longest - 1, longest - 1, 1]
    assert texts[0] == run.generate(["a"], tokens=longest - 1, temperature=0.0, stop=())[0]


def test_text_is_compared_with_n_gram_models_that_are_counted_once(workdir, monkeypatch):
    runner = Runner(files.epath.Path(os.fspath(workdir)), TrainingOptions())
    shown, experiment = Showcase(runner.workdir, runner), scaling.restore(workdir).experiment
    for sizes in ([2560, 5120], [5120, 2560, 2560]):
        shown.write_baselines(experiment, sizes)
        found = files.read_json(workdir / "baselines.json")["ngram"]
        assert not shown.failed and [entry["tokens_unique"] for entry in found] == [2560, 5120]
        assert 0 < found[1]["bits_per_byte"] < found[0]["bits_per_byte"] < 8
        monkeypatch.setattr(NGram, "solve", lambda *_: pytest.fail("counted again"))
    assert "line is a Kneser-Ney model of order 6" in show(workdir)[1]


@pytest.mark.parametrize("turned", [False, True])
def test_a_model_is_asked_only_for_what_its_own_family_gives(turned, tmp_path, monkeypatch):
    kinds = [("begin", "pictures"), ("examine", "pictures"), ("begin",), ("examine",), ()][::-1 if turned else 1]
    models = [SimpleNamespace(fingerprint=str(number), record={tuned.PARAMS: number}, family=SimpleNamespace(
        **dict.fromkeys(kind)), experiment=SimpleNamespace(data=None)) for number, kind in enumerate(kinds)]
    shown, asked = Showcase(tmp_path, None), {}

    def noted(way):
        return lambda model, *_: asked.setdefault(way, []).append(model.fingerprint) or []

    monkeypatch.setattr(shown, "_models", lambda *_: models)
    for way, name in (("begin", "_texts"), ("pictures", "_pictures"), ("examine", "_examined")):
        monkeypatch.setattr(f"scaling.study.showcase.{name}", noted(way))
    shown.write_samples(None, "loss", ["a"])
    assert not shown.failed and asked == {way: [model.fingerprint for model in models if hasattr(model.family, way)]
                                          for way in ("begin", "pictures", "examine")}


@pytest.mark.slow
def test_pictures_baselines_and_metrics_of_single_models_fail_one_by_one(tmp_path, monkeypatch):
    workdir = image_workdir(tmp_path / "images")
    runner = Runner(files.epath.Path(os.fspath(workdir)), TrainingOptions())
    [record] = [runner.records.read(name) for name in runner.records.fingerprints()]
    experiment = scaling.restore(workdir, record["fingerprint"]).experiment
    shown, fails = Showcase(runner.workdir, runner), lambda *_: jax.numpy.zeros(3) + jax.numpy.zeros(4)
    for name in ("pictures", "examine"):
        monkeypatch.setattr(type(experiment.family), name, fails)
    monkeypatch.setattr("scaling.evaluate.Judge.floor", fails)
    shown.write_samples(tuned.clean(planned.load_planned(workdir)[0], "bits_per_dim"), "bits_per_dim")
    shown.write_baselines(experiment, [64])
    assert [text.partition(" could")[0] for text in shown.failed] == [
        "The pictures", "The further metrics of single models", "The baselines of real images"]


def test_models_of_pairs_write_what_held_out_sources_ask_for_or_the_prompts(tmp_path, monkeypatch):
    """Stand-ins for models that write their source backwards."""
    rows = {name: np.array([list(text.encode().ljust(8, b"\0")) for text in texts])
            for name, texts in (("source", ["ab", "cd", "e"]), ("target", ["\0Öl", "\0", "\0x"]))}
    source = SimpleNamespace(splits=("document",), evaluation=lambda split, count: rows)
    models = [SimpleNamespace(family=SimpleNamespace(begin=None, length=8), experiment=SimpleNamespace(data=Pairs()),
                              source=source, tokenizer=Bytes(), record={tuned.PARAMS: size}, fingerprint=f"run{size}",
                              continue_each=lambda prompts, most, temperature: [text[::-1] for text in prompts])
              for size in (1, 2)]
    monkeypatch.setattr(Showcase, "_models", lambda *_: models)
    monkeypatch.setattr("scaling.study.showcase.predicts_positions", lambda model: False)
    for prompts, wanted in (((), [("ab", "ba", "Öl"), ("cd", "dc", ""), ("e", "e", "x")]), (("fg",), [("fg", "gf", "")])):
        shown = Showcase(files.epath.Path(tmp_path), None)
        shown.write_samples(None, "bits_per_byte", prompts)
        found = files.read_json(tmp_path / "samples.json")
        assert not shown.failed
        assert [entry["fingerprint"] for entry in found] == ["run1"] * len(wanted) + ["run2"] * len(wanted)
        assert [(entry["prompt"], entry["text"], entry["target"]) for entry in found] == 2 * wanted
    files.write_json(tmp_path / "study.json", {"metric": "bits_per_byte"})
    page = report.write(tmp_path).read_text()
    assert "The source is grey" in page and '<span class="prompt">fg</span>\ngf' in page
