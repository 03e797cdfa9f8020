"""Images that packages carry: IDX files as Debian packs Fashion-MNIST, and scikit-learn's digits."""

import functools
import gzip
import struct

import numpy as np
import pytest

from scaling import data, evaluate
from scaling.data import packaged
from scaling.evaluate import classifier
from scaling.fields import DataError


def idx(path, array):
    content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


@pytest.fixture
def folder(tmp_path):
    """Garments of noise, whose brightness is their class: 600 to train on and 80 to evaluate."""
    rng, folder = np.random.default_rng(0), tmp_path / "garments"
    folder.mkdir()
    for name, count, suffix in (("train", 600, ".gz"), ("t10k", 80, "")):
        labels = rng.integers(10, size=count)
        images = 25 * labels[:, None, None] + rng.integers(20, size=(count, 28, 28))
        idx(folder / f"{name}-images-idx3-ubyte{suffix}", images)
        idx(folder / f"{name}-labels-idx1-ubyte{suffix}", labels)
    return folder


def load(folder, **given):
    return data.load_images(f"fashion_mnist:{folder}", **{"size": 14, "batch": 8, "label": "label", "classes": 10,
                                                          "data_dir": folder / "data", "progress": False} | given)


def test_idx_files_are_a_source_with_the_splits_and_names_of_fashion_mnist(folder):
    source = load(folder)
    assert source.unique_examples == 600 and source.pictures.available("iid") == 80 and source.splits == ("iid",)
    assert source.classes("label") == packaged.GARMENTS
    for part in (source.batch(0, 0), source.evaluation("iid", 80)):
        assert part["image"].shape[1:] == (14, 14, 1)
        np.testing.assert_allclose(part["image"].mean((1, 2, 3)), 25 * part["label"] + 9.5, atol=4)
    assert load(folder).fingerprint == source.fingerprint != load(folder, size=28).fingerprint


def test_other_files_are_other_data_and_damaged_or_missing_ones_are_named(folder):
    before = load(folder).fingerprint
    path = folder / "train-images-idx3-ubyte.gz"
    whole = packaged.read_idx(path)
    idx(path, whole[::-1])
    assert load(folder).fingerprint != before
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="train-images-idx3-ubyte.gz is no IDX file"):
        load(folder)
    idx(path, whole[:5])
    with pytest.raises(DataError, match="do not fit together"):
        load(folder)
    path.unlink()
    with pytest.raises(DataError, match="has no train-images-idx3-ubyte.gz.*apt-get install dataset-fashion-mnist"):
        load(folder)


def test_without_the_package_the_data_are_those_of_tfds_or_the_error_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(packaged, "DEBIAN", tmp_path / "missing")
    monkeypatch.setattr("scaling.data.tfds_images.find_pictures", lambda name, *given, **more: name)
    assert packaged.find_packaged("fashion_mnist", tmp_path, 14, 1, "area", "center") == "fashion_mnist"

    def absent(*given, **more):
        raise DataError("no network")
    monkeypatch.setattr("scaling.data.tfds_images.find_pictures", absent)
    with pytest.raises(DataError, match="apt-get install dataset-fashion-mnist.*no network"):
        packaged.find_packaged("fashion_mnist", tmp_path, 14, 1, "area", "center")


def test_a_judge_may_look_at_images_through_a_classifier_of_their_own_labels(folder, monkeypatch):
    monkeypatch.setattr(classifier, "Recipe", functools.partial(
        classifier.Recipe, widths=(4, 4, 8, 16), features=16, batch=32, steps=60))
    judge = evaluate.Judge(load(folder), "labels", samples=40, data_dir=folder / "data", progress=False)
    assert judge.describe()["accuracy"] > 0.8 and judge.describe()["name"] == "labels"
    assert judge.floor()["fd_infinity_relative"] < 0.3
    assert evaluate.check_judge(load(folder), "labels", samples=40) is None


def test_the_digits_of_scikit_learn_hold_out_other_writers(tmp_path):
    pytest.importorskip("sklearn")
    source = data.load_images("digits", size=8, batch=8, label="label", classes=10, data_dir=tmp_path, progress=False)
    assert source.unique_examples + source.pictures.available("iid") + sum(source.pictures.duplicates.values()) == 1797
    assert source.pictures.available("iid") == packaged.HELD_OUT
