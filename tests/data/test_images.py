"""Images of any TFDS data set: duplicates, splits, labels, and fixed sets of glyphs read back."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds

from scaling import data
from scaling.data import builders, pictures, tfds_images, transforms
from scaling.data.glyphs.stream import CATEGORICAL
from scaling.fields import DataError


class Patches(tfds.core.GeneratorBasedBuilder):
    """Oblong images. Training has copies of its own images and of test images, as in real data sets."""
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=n) for n in ("tested", "validated", "plain", "same")]

    def __init__(self, **kwargs):
        super().__init__(**{"file_format": "array_record", **kwargs})

    def _info(self):
        of = tfds.features
        return tfds.core.DatasetInfo(builder=self, features=of.FeaturesDict({
            "image": of.Image(shape=(None, None, 3)), "label": of.ClassLabel(names=["dark", "light"]),
            "more": {"wide": np.bool_, "number": np.int64}}))

    def _split_generators(self, dl_manager):
        train = [*range(40), *range(5), *range(100, 104)]
        config = self.builder_config.name
        evaluation = {"tested": "test", "validated": "validation", "same": "test"}.get(config)
        if config == "same":
            train = range(100, 110)
        splits = {"train": self._generate_examples(train)}
        return splits | ({evaluation: self._generate_examples([*range(100, 110), 100])} if evaluation else {})

    def _generate_examples(self, seeds):
        for place, seed in enumerate(seeds):
            yield place, {"image": builders.png_bytes(image_of(seed)), "label": seed % 2,
                          "more": {"wide": seed % 3 == 0, "number": seed}}


def image_of(seed):
    shape = (12, 18 if seed % 3 == 0 else 8, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8) // 2 + np.uint8(127 * (seed % 2))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for name in ("tested", "validated", "plain", "same"):
        Patches(config=name, data_dir=root).download_and_prepare()
    return root


def load(root, name="tfds:patches/tested", **kwargs):
    options = {"batch": 8, "size": 6, "channels": 3, **kwargs}
    return data.load_images(name, data_dir=root, progress=False, **options)


def prepared(seed, size=6, rule="area"):
    return transforms.resize_image(transforms.center(image_of(seed)), size, rule)


def names(images, seeds):
    """For each image, the one of `seeds` that it was made from."""
    of = {prepared(seed).tobytes(): seed for seed in seeds}
    return [of[image.tobytes()] for image in images]


@pytest.mark.parametrize("config, evaluation", [("tested", 10), ("validated", 10)])
def test_every_image_is_kept_once_and_in_one_split(root, config, evaluation):
    source = load(root, f"tfds:patches/{config}")
    assert source.splits == ("iid",) and source.unique_examples == 40
    train = names(source.arrays()["image"], range(200))
    test = names(source.evaluation("iid", evaluation)["image"], range(200))
    assert sorted(train) == list(range(40)) and train != sorted(train)
    assert sorted(test) == list(range(100, 110))
    assert source.pictures.duplicates == {"iid": 1, "train": 9}
    with pytest.raises(DataError, match="write 1 to 10"):
        source.evaluation("iid", 11)


def test_without_a_test_split_a_share_of_train_is_held_out(root):
    source = load(root, "tfds:patches/plain")
    test = names(source.evaluation("iid", source.pictures.available("iid"))["image"], range(200))
    train = names(source.arrays()["image"], range(200))
    assert sorted(test + train) == [*range(40), *range(100, 104)] and len(test) == 2


def test_a_data_set_without_own_training_images_is_refused(root):
    with pytest.raises(DataError, match="no training images that evaluation does not have"):
        load(root, "tfds:patches/same")


def test_examples_read_together_are_those_read_one_by_one(root, monkeypatch):
    monkeypatch.setattr(tfds_images, "LOOKED_AT", 7)
    builder = tfds.builder("patches/plain", data_dir=root)
    plain = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
    examples = tfds_images.TfdsExamples(plain, "image", "here")
    for index in (*range(len(plain)), len(plain) - 1, 3, 3, 0):
        assert examples.undecoded(index) == plain[index] and len(examples._ahead) < 7


@pytest.mark.parametrize("options", [
    {"unique_examples": 20}, {"flip": True, "shift": 2, "levels": 16, "label": "label", "classes": 2},
    {"channels": 1, "size": 5, "resize": "bilinear", "crop": "none", "caption": 8, "flip": True}])
def test_resident_equals_streamed_equals_batch(root, options):
    source = load(root, **options)
    arrays, resident = jax.tree.map(jnp.asarray, source.arrays()), jax.jit(source.slice)
    source._together = 13  # of the 32 examples of eight steps
    together = source.batches(5, 1, 9)
    for step, streamed in zip(range(1, 9), source.stream(5, 1, 9), strict=True):
        alone, found = source.batch(5, step), resident(arrays, 5, step)
        assert alone.keys() == streamed.keys() == found.keys() == together.keys()
        for key, value in alone.items():
            assert value.dtype == streamed[key].dtype == found[key].dtype == together[key].dtype
            np.testing.assert_array_equal(streamed[key], value)
            np.testing.assert_array_equal(together[key][step - 1], value)
            np.testing.assert_array_equal(found[key], value)
            np.testing.assert_array_equal(source.batch(5, step, range(1, 3))[key], value[1:3])


def test_only_training_is_augmented_and_differently_by_seed_and_visit(root):
    plain, moved = load(root), load(root, flip=True, shift=1)
    for split in plain.splits:
        one, other = (source.evaluation(split, 5)["image"] for source in (plain, moved))
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(moved.batch(1, 3)["image"], moved.batch(1, 3)["image"])
    small, same = load(root, flip=True, shift=1, unique_examples=8), load(root, unique_examples=8)

    def epoch(source, seed):  # whatever its order
        steps = range(8 // source.batch_size)
        return sorted(image.tobytes() for step in steps for image in source.batch(seed, step)["image"])
    assert epoch(same, 1) == epoch(same, 2) and epoch(small, 1) != epoch(small, 2)
    assert len({small.batch(1, step)["image"][0].tobytes() for step in range(20)}) > 12


def test_labels_and_captions_of_any_kind(root):
    source = load(root, label="label", caption=6)
    arrays = source.arrays()
    seeds = names(arrays["image"], range(200))
    np.testing.assert_array_equal(arrays["label"], np.array(seeds) % 2)
    words = {bytes(row.astype(np.uint8)) for row in source.batch(0, 0)["caption"]}
    assert words == {b"dark\0\0", b"light\0"} and source.classes("label") == ["dark", "light"]
    wide = load(root, label="more/wide")
    np.testing.assert_array_equal(wide.arrays()["label"], np.array(seeds) % 3 == 0)
    factors = source.factors("train", 40)
    np.testing.assert_array_equal(factors["label"], arrays["label"])
    assert set(factors) == {"label", "more/wide"}


def test_prepared_once_and_again_for_other_transforms(root, monkeypatch):
    first = load(root)
    different = [load(root, **o).fingerprint for o in ({"resize": "nearest"}, {"crop": "none"}, {"size": 7},
                                                       {"channels": 1}, {"levels": 2})]
    assert len({first.fingerprint, *different}) == 6
    monkeypatch.setattr(pictures, "prepare_images", lambda *_: pytest.fail("prepared again"))
    assert load(root).fingerprint == first.fingerprint
    np.testing.assert_array_equal(load(root).arrays()["image"], first.arrays()["image"])


@pytest.mark.parametrize("name, label", [
    ("cifar10", "label"), ("fashion_mnist", "label"), ("celeb_a", "attributes/Smiling"),
    ("imagenet_resized/32x32", "label")])
def test_tfds_names_through_mock_data(tmp_path, name, label):
    with tfds.testing.mock_data(num_examples=40):
        source = load(tmp_path, f"tfds:{name}", size=16, label=label)
        assert source.batch(0, 0)["image"].shape == (8, 16, 16, 3)
        assert source.unique_examples == 38 and len(source.evaluation("iid", 2)["label"]) == 2
        again = load(tmp_path / "b", f"tfds:{name}", size=16, label=label)
    assert again.fingerprint == source.fingerprint
    np.testing.assert_array_equal(again.batch(3, 7)["image"], source.batch(3, 7)["image"])


def test_a_fixed_set_of_glyphs_written_and_read_back_by_name(tmp_path):
    config = builders.GlyphsConfig(name="tiny", size=16, channels=3, train=48, evaluation=20)
    builders.Glyphs(config=config, data_dir=tmp_path).download_and_prepare()
    source = load(tmp_path, "tfds:glyphs/tiny", size=16, label="label", caption=64)
    stream = load(tmp_path, "glyphs/letters", size=16, label="character", caption=64)
    expected = {key: np.concatenate([stream.batch(0, step)[key] for step in range(6)])
                for key in ("image", "label", "caption")}
    place = {image.tobytes(): i for i, image in enumerate(expected["image"])}
    found = source.arrays()
    order = [place[image.tobytes()] for image in found["image"]]
    assert sorted(order) == list(range(48))
    np.testing.assert_array_equal(found["label"], expected["label"][order])
    np.testing.assert_array_equal(found["caption"], expected["caption"][order])
    assert source.classes("label") == stream.classes("character")
    assert source.splits == stream.splits == ("iid", "character", "font")
    for split in source.splits:
        some, all_of = (s.evaluation(split, 20)["image"] for s in (source, stream))
        assert sorted(map(bytes, some)) == sorted(map(bytes, all_of))
    assert set(CATEGORICAL[1:]) < set(source.factors("train", 3))


@pytest.mark.parametrize("name, options, message", [
    ("tfds:cifar100", {}, "is not prepared as array_record"), ("tfds:cifr10", {}, "did you mean cifar10"),
    ("tfds:lm1b", {}, "no feature called 'image'"), ("cifar10", {}, "tfds:cifar10"),
    ("tfds:glyphs/letters_16", {}, "download_and_prepare"),
    ("tfds:patches/tested", {"label": "lable"}, "did you mean label"),
    ("tfds:patches/tested", {"label": "label", "classes": 1}, "write data.classes=2"),
    ("tfds:patches/tested", {"unique_examples": 41}, "more than the 40 training images"),
    ("tfds:patches/tested", {"crop": "centre"}, "did you mean center")])
def test_errors_name_the_field_and_what_to_write(root, name, options, message):
    with pytest.raises(DataError, match=message):
        load(root, name, **options)
