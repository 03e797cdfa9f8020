"""tools.bias: a model that exaggerates what goes together in its data is told from one that does not."""

import dataclasses
import json
import types

import jax
import numpy as np
import pytest
from boxed_flags import Box, status_of
from report_page import Page

from scaling import experiment, families
from scaling.evaluate.bias import amplification_of_answers
from scaling.families.classifier import Classifier
from scaling.fields import EvaluateError
from scaling.results import tuned
from scaling.study.restored import RestoredRun
from tools import _bias_measure, _bias_page

with (BOX := Box()):
    from tools import bias

SHARE = 0.7  # of images of the data in which weight and slant go together
FIELDS = {"data.name": "glyphs/digits", "data.correlate": "weight,slant", "data.agree": SHARE, "data.label": "weight",
          "data.classes": 2, "data.evaluation_examples": 2048}
VAE = experiment.from_config(experiment.config("vae", **FIELDS))


class Copyist(RestoredRun):
    """A run that draws the real images of data in which weight and slant go together in another share."""

    def sample(self, count, seed=0, **asked):
        other = dataclasses.replace(self.experiment.data, agree=self.record["draws"]).load()
        return other.evaluation(other.splits[0], count)["image"]

    @property
    def source(self):
        return self.experiment.data.load()


def drawing(share) -> Copyist:
    record = {"fingerprint": "c" * 16, "family": "vae", tuned.PARAMS: 1e4, "examples_seen": 1e5, "draws": share}
    return Copyist(record, VAE, None, None)


@pytest.fixture(scope="module")
def planted():
    """What goes with what in the data; the slant of an image is looked up, where the tool trains a classifier."""
    found = _bias_measure.Planted(VAE.data, "weight", "slant")
    known = {}
    for share in (0.5, 0.6, 0.95):
        data = dataclasses.replace(VAE.data, agree=share, label="slant").load()
        held = data.evaluation(data.splits[0], 2048)
        known |= {image.tobytes(): int(label) for image, label in zip(held["image"], held["label"])}
    labeller = types.SimpleNamespace(predict=lambda images: np.array([known[image.tobytes()] for image in images]))
    found._gauge = types.SimpleNamespace(labeller=labeller, right=1.0, wrong=0.0, accuracy=1.0)
    return found


def test_what_a_model_adds_to_a_planted_correlation_is_its_amplification(planted):
    for share in (0.5, 0.6, 0.95):
        row = _bias_measure._compared(drawing(share), planted, 2048)
        for each in row["amplification"]:
            assert abs(each["value"] - (share - SHARE)) < 0.05 and (each["value"] > 0) == (share > SHARE)
            assert not each["low"] <= 0 <= each["high"]
        shares = {(each["class"], each["group"]): each for each in row["representation"]}
        assert len(shares) == 4
        for name in planted.names["weight"]:
            assert sum(shares[name, group]["run"]["value"] for group in planted.names["slant"]) == pytest.approx(1)
        assert [each["direction"] for each in row["amplification"]] == ["T->A", "A->T"]


def test_a_run_that_tells_the_class_is_compared_by_its_answers(planted):
    family = Classifier(image_size=16, levels=256, classes=2, width=16, layers=1)
    one = experiment.from_config(experiment.config("classifier", **FIELDS)).replace({"family": family})
    params = jax.jit(family.init)(jax.random.key(0))
    run = RestoredRun({"fingerprint": "d" * 16, "family": "classifier", tuned.PARAMS: 1e3}, one, params,
                      types.SimpleNamespace(source=lambda each: each.data.load()))
    row = _bias_measure._compared(run, planted, 512)
    held = one.data.load().evaluation("iid", 512)
    predicted = np.asarray(family.class_logits(params, {"image": held["image"]})).argmax(1)
    wanted = amplification_of_answers(held["label"], planted.truth("slant", 512), predicted, (2, 2))
    [found] = row["amplification"]
    assert (found["direction"], found["value"], found["low"]) == ("A->T", pytest.approx(wanted.value),
                                                                  pytest.approx(wanted.low))


def test_classes_that_are_held_out_are_left_out(planted):
    """Captions name the digit, and the set of what training shows lacks one of them."""
    fields = {**FIELDS, "data.correlate": "character,slant", "data.label": "character", "data.classes": 10}
    run = dataclasses.replace(drawing(0.95), experiment=experiment.from_config(experiment.config("vae", **fields)))
    digits = _bias_measure.Planted(run.experiment.data, "character", "slant")
    known = {}
    for share in (SHARE, 0.95):
        data = dataclasses.replace(run.experiment.data, agree=share, label="slant", classes=2).load()
        held = data.evaluation(data.splits[0], 2048)
        known |= {image.tobytes(): int(label) for image, label in zip(held["image"], held["label"])}
    labeller = types.SimpleNamespace(predict=lambda images: np.array([known[image.tobytes()] for image in images]))
    digits._gauge = types.SimpleNamespace(labeller=labeller, right=1.0, wrong=0.0, accuracy=1.0)
    row = _bias_measure._compared(run, digits, 2048)
    assert len(digits.present) == 9 and len(row["representation"]) == 18
    assert abs(row["amplification"][0]["value"] - 0.25) < 0.05


def test_runs_that_cannot_be_compared_are_refused(planted):
    plain = experiment.from_config(experiment.config("vae", **{"data.name": "glyphs/digits"}))
    run = dataclasses.replace(drawing(0.6), experiment=plain)
    with pytest.raises(EvaluateError, match="without a planted correlation"):
        _bias_measure.factors_of(run, None, None)
    assert _bias_measure.factors_of(run, "weight", "slant") == ("weight", "slant")
    with pytest.raises(EvaluateError, match="knows nothing of what it draws"):
        _bias_measure._compared(run, planted, 64)
    with pytest.raises(EvaluateError, match="character has 10 values"):
        _bias_measure.Planted(VAE.data, "weight", "character")
    assert families.name(plain.family) == "vae"


def test_the_page_has_figures_against_n_and_d(planted, tmp_path):
    row = _bias_measure._compared(drawing(0.6), planted, 256)
    runs = [row | {"N": n, "D": d, "seed": seed} for n in (1e4, 1e5) for d in (1e3, 1e4) for seed in (0, 1)]
    found = {"level": 0.9, "samples": 256, "runs": runs}
    page = Page(_bias_page.write(found, tmp_path).read_text())
    assert len(page.all("svg")) == 2 and len(page.all("tr")) == 2 + len(runs) + 4
    assert "below 0 in 8" in _bias_page.describe(found)
    assert all(link.startswith(("#", "data:")) for link in page.references)


def test_a_run_that_draws_one_group_alone_has_one_direction_and_a_page(planted, tmp_path, monkeypatch):
    blind = types.SimpleNamespace(predict=lambda images: np.zeros(len(images), int))
    monkeypatch.setattr(planted.gauge, "labeller", blind)
    row = _bias_measure._compared(drawing(0.6), planted, 256)
    assert [each["direction"] for each in row["amplification"]] == ["T->A"]
    assert row["amplification"][0]["value"] == pytest.approx(0.5 - SHARE, abs=0.03)
    found = {"level": 0.9, "samples": 256, "runs": [row | {"N": n, "D": 1e3} for n in (1e4, 1e5)]}
    assert "A->T is left out where no sample" in _bias_page.describe(found)
    assert Page(_bias_page.write(found, tmp_path).read_text()).all("svg")


def test_groups_of_data_with_labels_are_counted(tmp_path, monkeypatch, capsys):
    rows = [{"text": f"{i} of many", "label": "often" if i % 10 else "rare"} for i in range(2000)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [f"--data=labelled:{tmp_path}/texts.jsonl", f"--output={tmp_path / 'page'}", "--json"]
    assert status_of(BOX, bias, words, monkeypatch) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["examples"]["training"] + found["examples"]["held out"] <= 2000
    for part in ("training", "held out"):
        shares = {row["group"]: row[part] for row in found["classes"]}
        assert shares["rare"]["low"] < 0.1 < shares["rare"]["high"] + 0.02
        assert shares["rare"]["value"] + shares["often"]["value"] == pytest.approx(1)
    assert status_of(BOX, bias, ["--data=glyphs"], monkeypatch) == 2
    assert "name a folder by --output=" in capsys.readouterr().err
    assert status_of(BOX, bias, [], monkeypatch) == 2
