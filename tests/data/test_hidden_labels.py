"""Data sets whose labels are hidden, whose images have 16 bits, or which lack a split, a config or a version."""
import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from scaling import data
from scaling.data import builders
from scaling.fields import DataError


class Hidden(tfds.core.GeneratorBasedBuilder):
    """Labels of the test split are -1, as those of imagenet2012 are. The configs hide more of them, or less."""
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=n) for n in ("test", "evaluation", "some", "all")]

    def _info(self):
        of = tfds.features
        return tfds.core.DatasetInfo(builder=self, features=of.FeaturesDict({
            "image": of.Image(shape=(8, 8, 3)), "label": of.ClassLabel(names=["cat", "dog", "owl"])}))

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(seed, name) for seed, name in enumerate(("train", "validation", "test"))}

    def _generate_examples(self, seed, split):
        hidden = {"test": ("test",), "evaluation": ("test", "validation"), "some": (), "all": (
            "test", "validation", "train")}[self.builder_config.name]
        for i in range(40):
            image = np.random.default_rng(100 * seed + i).integers(0, 256, (8, 8, 3), np.uint8)
            partly = self.builder_config.name == "some" and i % 4 == 0
            yield i, {"image": builders.png_bytes(image), "label": -1 if split in hidden or partly else i % 3}


class Deep(Hidden):
    """Images of 16 bits."""
    BUILDER_CONFIGS = []

    def _info(self):
        of = tfds.features
        return tfds.core.DatasetInfo(builder=self, features=of.FeaturesDict({
            "image": of.Image(shape=(8, 8, 1), dtype=np.uint16)}))

    def _generate_examples(self, seed, split):
        for i in range(20):
            image = Image.fromarray(np.full((8, 8), 257 * (60 * seed + i) + 40, np.uint16))
            file = io.BytesIO()
            image.save(file, "png")
            yield i, {"image": file.getvalue()}


class Odd(tfds.core.GeneratorBasedBuilder):
    """Text without a split that is called train, in two configs."""
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=n) for n in ("en", "de")]

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"text": tfds.features.Text()}))

    def _split_generators(self, dl_manager):
        return {"train_clean": self._generate_examples(30), "test": self._generate_examples(9)}

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"text": f"sentence number {i} " * 9}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for config in ("test", "evaluation", "some", "all"):
        Hidden(config=config, data_dir=root, file_format="array_record").download_and_prepare()
    Odd(config="en", data_dir=root, file_format="array_record").download_and_prepare()
    Deep(data_dir=root, file_format="array_record").download_and_prepare()
    return root


def load(root, name, **options):
    return data.load_images(name, size=8, batch=4, data_dir=root, progress=False, **{"channels": 3, **options})


@pytest.mark.parametrize("config, evaluated, notes", [
    ("test", 40, ["the split 'test' hides its labels, so evaluation is on 'validation'"]),
    ("evaluation", 2, ["the split 'test' hides its labels, so evaluation is on 'validation'",
                       "the split 'validation' hides its labels, so evaluation is on a random 5% of 'train'"])])
@pytest.mark.parametrize("options", [{"label": "label", "classes": 3}, {"caption": 4}])
def test_a_split_without_labels_is_not_used_where_labels_are_needed(root, config, evaluated, notes, options):
    source = load(root, f"tfds:hidden/{config}", **options)
    assert source.pictures.available("iid") == evaluated and source.contents["notes"] == notes
    found = source.evaluation("iid", evaluated)
    if "label" in options:
        assert set(np.unique(found["label"])) <= {0, 1, 2}
    plain = load(root, f"tfds:hidden/{config}")
    assert plain.pictures.available("iid") == 40 and plain.fingerprint != source.fingerprint


def test_images_without_the_label_are_left_out_and_counted(root):
    source = load(root, "tfds:hidden/some", label="label", classes=3)
    assert source.unique_examples == source.pictures.available("iid") == 30
    assert source.contents["left_out"] == {"without_label": 20}
    for labels in (source.arrays()["label"], source.evaluation("iid", 30)["label"]):
        assert labels.min() >= 0
    plain = load(root, "tfds:hidden/some")
    assert plain.unique_examples == 40 and plain.fingerprint != source.fingerprint


def test_a_data_set_without_labels_is_refused_where_they_are_needed(root):
    with pytest.raises(DataError, match="no image of the split .* has a value of data.label='label'"):
        load(root, "tfds:hidden/all", label="label", classes=3)


def test_sixteen_bits_become_eight(root):
    images = load(root, "tfds:deep", channels=1).arrays()["image"]
    assert sorted(images[:, 0, 0, 0].tolist()) == list(range(20))


@pytest.mark.parametrize("name, says", [
    ("odd/en", "has no split called 'train'; it has train_clean, test. .*text:<folder>"),
    ("odd/en:9.9.9", "cannot be loaded at version 9.9.9.*prepared under .* tfds:odd/en:1.0.0"),
    ("odd/fr", "BuilderConfig fr not found.*prepared under .* tfds:odd/en:1.0.0"), ("../odd", "tfds:../odd")])
def test_what_is_not_there_is_one_sentence(root, name, says):
    with pytest.raises(DataError, match=says) as error:
        data.load_text(f"tfds:{name}", data_dir=root, progress=False)
    assert "\n" not in str(error.value)
