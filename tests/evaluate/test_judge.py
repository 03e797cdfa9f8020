"""The judge of images: its metrics of real images, copies, noise and missing modes, and the facts that it records."""
import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest
import scipy.ndimage
from vit_weights import vit_state

from scaling import axes, data, evaluate
from scaling.evaluate import classifier, critic, features
from scaling.evaluate.judge import NEARER
from scaling.evaluate.pretrained import weights
from scaling.fields import EvaluateError


class Blobs:
    """A source of images with two Gaussian blobs at random places. Image i is a function of i."""

    name, splits, batch_size, levels, size, unique_examples = "blobs", ("iid",), 64, 256, 8, 2048
    fingerprint = "blobs"

    def _images(self, start, count):
        rng = np.random.default_rng(start)
        at = rng.uniform(0, 7, (count, 2, 2, 1, 1))
        grid = np.stack(np.mgrid[:8, :8])
        blobs = np.exp(-np.square(grid - at).sum(2) / 2).sum(1)
        return (blobs * 127).astype(np.uint8)[..., None]

    def batch(self, seed, step):
        return {"image": self._images(step, self.batch_size)}

    def evaluation(self, split, examples):
        return {"image": self._images(10**6, examples)}


SAMPLES = 512


@pytest.fixture(scope="module", params=["random", "pca"])
def judge(request):
    return evaluate.Judge(Blobs(), features=request.param, samples=SAMPLES, critic_steps=100, progress=False)


def test_real_images_have_the_metrics_of_a_perfect_model(judge):
    floor = judge.floor()
    assert min(floor[k] for k in ("precision", "recall", "density", "coverage")) > 0.75
    assert abs(floor["fd_infinity_relative"]) < 0.02 and floor["fd_relative"] > floor["fd_infinity_relative"]
    assert abs(floor["kid"]) < 3 * floor["kid_se"]
    assert floor["missed"] == 1 - floor["coverage"]
    assert floor["memorised"] == pytest.approx(NEARER, abs=2 / SAMPLES)  # by its definition
    assert 0.4 < floor["critic_error"] < 0.6 and floor["critic_advantage"] == 1 - 2 * floor["critic_error"]


def test_copies_are_recognised_and_the_memorisers_distance_falls_with_its_memory(judge):
    few, many, floor = judge.memoriser(16), judge.memoriser(512), judge.floor()
    for copies in (few, many):
        assert copies["memorised"] == 1 and copies["nearest"] == 0 and copies["precision"] > 0.75
    assert few["recall"] == 0 and few["coverage"] < 0.3
    assert few["recall"] < many["recall"] < floor["recall"]
    assert few["coverage"] < many["coverage"] < floor["coverage"]
    for distance in ("fd_infinity", "kid", "cmmd", "sliced_wasserstein"):
        assert few[distance] > many[distance] > floor[distance]


def test_noise_lowers_precision_and_the_critic_recognises_it(judge):
    images = Blobs().evaluation("iid", 3 * SAMPLES)["image"][2 * SAMPLES:]
    noise = np.random.default_rng(0).integers(-60, 60, images.shape)
    noisy = judge((images + noise).clip(0, 255).astype(np.uint8))
    floor = judge.floor()
    assert noisy["precision"] < 0.7 * floor["precision"] and noisy["coverage"] < floor["coverage"]
    assert noisy["memorised"] == 0 and noisy["nearest"] > 2 * floor["nearest"]
    assert noisy["critic_error"] < 0.25  # after 100 steps on half of 512 images


def test_everything_that_decides_a_number_is_recorded(judge):
    found = json.loads(json.dumps(judge.describe()))
    assert len(found["weights"]) == 64 and found["resize"] == "none" and found["dimension"] == 64
    assert found["real"] == "blobs" and found["samples"] == SAMPLES
    assert all(isinstance(value, float) for value in judge.floor().values())


def test_scores_of_images_have_the_metric_and_its_error(judge):
    """On as many images as the reference has; a comparison on the same images is more certain than either distance."""
    images = Blobs().evaluation("iid", 3 * SAMPLES)["image"][2 * SAMPLES:]
    other = np.where(np.arange(SAMPLES)[:, None, None, None] % 50 == 0, 0, images).astype(np.uint8)
    (metrics, each), (_, changed) = judge.score(images), judge.score(other)
    assert set(each) == {"fd", "fd_infinity", "fd_relative", "fd_infinity_relative"}
    for name, values in each.items():
        assert values.mean() == pytest.approx(metrics[name], abs=1e-9)
        assert values.std(ddof=1) / len(values) ** 0.5 == pytest.approx(metrics[f"{name}_se"], rel=0.3)
        assert (values - changed[name]).std() < values.std() + changed[name].std()
    assert judge.score(images[:SAMPLES - 1])[1] == {}


def test_the_number_of_training_images_changes_only_the_metrics_of_copies(judge):
    class Fewer(Blobs):
        unique_examples = 64

    fewer = evaluate.Judge(Fewer(), judge.describe()["name"], SAMPLES, critic_steps=100, progress=False)
    assert fewer.describe() == judge.describe()
    of_copies = ("nearest", "nearest_se", "memorised", "memorised_se")
    want, found = judge.floor(), fewer.floor()
    assert {k: v for k, v in found.items() if k not in of_copies} == {
        k: v for k, v in want.items() if k not in of_copies}
    assert found["nearest"] > want["nearest"]
    with pytest.raises(ValueError, match="the source has 64"):
        fewer.memoriser(65)


def test_the_hash_follows_the_weights():
    images = [Blobs().evaluation("iid", n)["image"] for n in (300, 400)]
    found = [features.find_features(name, features.DataToJudge(x)).weights for name in ("random", "pca") for x in images]
    assert found[0] == found[1]  # the random network does not look at the data
    assert len(set(found)) == 3


@pytest.mark.parametrize("change, message", [
    (lambda x: x[:, :4], r"uint8 \[n >= 16, 8, 8, 1\], not uint8 \[512, 4, 8, 1\]"),
    (lambda x: x / 255.0, "not float64"), (lambda x: x[:3], "n >= 16")])
def test_images_of_another_kind_are_refused(judge, change, message):
    with pytest.raises(ValueError, match=message):
        judge(change(Blobs().evaluation("iid", SAMPLES)["image"]))


def test_unknown_spaces_and_missing_files_are_named():
    judged = features.DataToJudge(Blobs().evaluation("iid", 16)["image"])
    with pytest.raises(ValueError, match="classifier, labels, random, pca, inception, dinov2"):
        features.find_features("vgg", judged)
    with pytest.raises(ValueError, match="tf1, pytorch-fid, clean-fid"):
        features.find_features("inception/area", features.DataToJudge(judged.examples, weights="x.pth"))
    with pytest.raises(ValueError, match="tools.convert_weights.*give the path of the result as `weights`"):
        features.find_features("inception", judged)
    with pytest.raises(ValueError, match="no weights file"):
        features.find_features("dinov2", features.DataToJudge(judged.examples, weights="missing.safetensors"))


def test_a_pretrained_network_is_recorded_by_the_hash_of_its_weights(tmp_path, monkeypatch):
    np.savez(tmp_path / "w.npz", **vit_state(patch=14))
    images = Blobs().evaluation("iid", 40)["image"]
    judged = features.DataToJudge(images, weights=str(tmp_path / "w.npz"))
    space = features.find_features("dinov2", judged)
    assert space.describe() == {"name": "dinov2", "weights": weights.read_weights(judged.weights).sha256,
                                "resize": "dinov2", "dimension": 128, "official": None}
    found = space(images)  # a batch of 32 and a padded one
    assert found.shape == (40, 128)
    np.testing.assert_allclose(found[37:], space(images[37:]), rtol=1e-4, atol=1e-4)
    monkeypatch.setitem(features.dinov2.SHA256, 128, 64 * "0")
    with pytest.warns(UserWarning, match="not converted from the official file"):
        assert features.find_features("dinov2", judged).notes == {"official": False}


def test_the_critics_chance_level_does_not_depend_on_the_sizes_of_the_sets():
    images = Blobs().evaluation("iid", 600)["image"]
    assert 0.4 < critic.critic_error(images[:400], images[400:], steps=30) < 0.6
    assert critic.critic_error(images[:400], 255 - images[400:], steps=30) < 0.05


TINY = classifier.Recipe(widths=(4, 4, 8, 16), features=8, steps=20, batch=32)


def test_the_classifier_is_trained_once_and_kept(tmp_path, monkeypatch):
    first = classifier.trained(8, 1, 256, TINY, tmp_path, progress=False)
    monkeypatch.setattr(classifier, "_train", None)
    second = classifier.trained(8, 1, 256, TINY, tmp_path, progress=False)
    assert first[1] == second[1] and 0 <= first[1]["accuracy"] <= 1 and len(first[1]["weights"]) == 64
    images = np.random.default_rng(0).uniform(-1, 1, (3, 8, 8, 1)).astype(np.float32)
    found = [np.asarray(network.features(images)) for network, _ in (first, second)]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(np.square(found[0]).mean(1), 1, rtol=1e-3)  # layer-normalised
    np.testing.assert_allclose(found[0].mean(1), 0, atol=1e-5)
    with pytest.raises(TypeError):  # other levels are another network: it would be trained
        classifier.trained(8, 1, 16, TINY, tmp_path, progress=False)


def test_a_labeller_learns_any_labels_and_refuses_others():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=600)
    images = rng.integers(0, 6, (600, 8, 8, 1), np.uint8)
    images[np.arange(600), 2 * labels] += 8  # the row says the label
    found = evaluate.train_labeller(images[:500], labels[:500], 3, 16, dataclasses.replace(TINY, steps=80))
    assert found.accuracy(images[500:], labels[500:]) > 0.95 and found.predict(images).shape == (600,)
    np.testing.assert_allclose(np.square(found.features(images)).mean(1), 1, rtol=1e-3)
    with pytest.raises(EvaluateError, match="each needs one from 0 to 1"):
        evaluate.train_labeller(images, labels, 2, 16, TINY)
    with pytest.raises(EvaluateError, match="8 pixels or more"):
        evaluate.train_labeller(images[:, :4, :4], labels, 3, 16, TINY)


@pytest.mark.parametrize("size, channels", [(8, 1), (16, 3), (28, 1), (64, 3)])
def test_the_classifier_takes_any_size(size, channels):
    def make(draw):
        return classifier.LabelNetwork(draw, classifier.Recipe(), size, channels, 52)

    network = axes.drawn(make, jax.random.key(0))
    found = jax.eval_shape(network, jax.ShapeDtypeStruct((2, size, size, channels), np.float32))
    assert found.shape == (2, 52)


@pytest.mark.slow
def test_the_classifiers_distance_orders_images_by_harm(tmp_path):
    """clean < slight noise < one font family < half of the characters < blur < strong noise, at 16 x 16."""
    source = data.load_images("glyphs/letters", size=16, label="character", data_dir=tmp_path, progress=False)
    judge = evaluate.Judge(source, samples=2048, data_dir=tmp_path, progress=False)
    assert judge.describe()["accuracy"] > 0.95
    images, factors = source.evaluation("iid", 30000), source.factors("iid", 30000)
    image, label, font = (x[4096:] for x in (images["image"], images["label"], factors["font"]))
    family = [i for i, name in enumerate(source.classes("font")) if name.startswith("DejaVu Sans")]
    clean, noise = image[:2048], np.random.default_rng(0).normal(size=(2048, 16, 16, 1))

    def noisy(deviation):
        return np.rint(clean + deviation * noise).clip(0, 255).astype(np.uint8)

    sets = {"clean": clean, "slight noise": noisy(12), "one font family": image[np.isin(font, family)][:2048],
            "half of the characters": image[label < 26][:2048],
            "blur": scipy.ndimage.gaussian_filter(clean, (0, 1, 1, 0)),
            "strong noise": noisy(128)}
    found = {name: judge(x) for name, x in sets.items()}
    distances = [v["fd_infinity"] for v in found.values()]
    assert distances == sorted(distances), dict(zip(found, distances, strict=True))
    assert all(b > 1.1 * a for a, b in itertools.pairwise(distances[1:])), distances
    # Each kind of harm shows in the metric for it.
    half = found["half of the characters"]
    assert half["precision"] > 0.8 and half["coverage"] < 0.7
    assert found["strong noise"]["precision"] < 0.2 and found["blur"]["precision"] < 0.7
    copies = judge.memoriser(64)
    assert copies["recall"] < 0.05 and copies["coverage"] < 0.2 and copies["memorised"] == 1
    assert copies["fd_infinity"] > judge.memoriser(1024)["fd_infinity"] > found["clean"]["fd_infinity"]


def test_agreement_is_the_share_of_images_that_a_classifier_labels_as_the_ones_their_captions_are_of(monkeypatch):
    """The classifier here says on which side of the image its brightest pixel is."""
    class Captioned(Blobs):
        caption = 8

    def brightest(judged, *rest):
        found = features.find_features("random", judged)
        return dataclasses.replace(found, labels=lambda x: (x.reshape(len(x), -1).argmax(1) % 8 > 3).astype(np.int32))

    monkeypatch.setitem(features.MAKERS, "classifier", brightest)
    judge = evaluate.Judge(Captioned(), samples=64, progress=False)
    real = Captioned().evaluation("iid", 64)["image"]
    assert judge(real)["agreement"] == 1
    mirrored = judge(np.concatenate([real[:48], real[48:, :, ::-1]]))
    assert mirrored["agreement"] == 0.75 and mirrored["agreement_se"] == pytest.approx(0.055, abs=1e-3)
    assert judge(real[::-1])["agreement"] < 0.8
    assert "agreement" not in judge(real[:32])
    assert "agreement" not in evaluate.Judge(Blobs(), samples=64, progress=False)(real)
