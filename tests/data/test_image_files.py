"""Images from folders: formats and modes, broken files, duplicates, labels and splits."""
import io

import numpy as np
import pytest
from PIL import Image

from scaling import data
from scaling.data import image_files
from scaling.fields import DataError

COLOURS = np.kron(np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8), np.ones((4, 4, 1), np.uint8))


def encoded(image, format="png", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def noise(seed: int, size=(12, 12)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))


def write(root, files: dict) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else encoded(content))


def load(root, pattern="photos", **options):
    return data.load_images(f"images:{root}/{pattern}", data_dir=root / "data", progress=False,
                            **{"size": 12, "channels": 3, "batch": 4, **options})


@pytest.mark.parametrize("format, options, most", [
    ("png", {}, 0), ("bmp", {}, 0), ("tiff", {}, 0), ("webp", {"lossless": True}, 0), ("ppm", {}, 0),
    ("jpeg", {"quality": 100, "subsampling": 0}, 4)])
def test_formats_have_the_same_pixels(format, options, most):
    found = image_files.decode_image(encoded(Image.fromarray(COLOURS), format, **options))
    assert found.shape == COLOURS.shape and np.abs(found.astype(int) - COLOURS).max() <= most


@pytest.mark.parametrize("mode, channels", [("RGB", 3), ("P", 3), ("CMYK", 3), ("YCbCr", 3), ("RGBA", 4), ("L", 1),
                                            ("LA", 2), ("1", 1)])
def test_modes_come_out_as_the_colours_that_they_stand_for(mode, channels):
    image = Image.fromarray(COLOURS).convert(mode)
    found = image_files.decode_image(encoded(image, "png" if mode not in ("CMYK", "YCbCr") else "tiff"))
    expected = np.asarray(image.convert({1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]))
    assert found.dtype == np.uint8 and found.shape == (16, 16, channels)
    np.testing.assert_array_equal(found.squeeze(), expected)


@pytest.mark.parametrize("make", [
    lambda: encoded(Image.fromarray(np.full((8, 8), 3, np.uint8)), transparency=3),
    lambda: encoded(Image.new("P", (8, 8), 0), transparency=0)])
def test_what_is_transparent_has_no_opacity(make):
    assert not image_files.decode_image(make())[..., -1].any()


def test_sixteen_bits_become_the_nearest_of_eight():
    values = np.array([[0, 128, 129, 257, 300], [32767, 32768, 40000, 65406, 65535]], np.uint16)
    found = image_files.decode_image(encoded(Image.fromarray(values)))
    np.testing.assert_array_equal(found[..., 0], np.round(values / 257).astype(np.uint8))


def test_images_are_turned_as_their_exif_data_say():
    exif = Image.Exif()
    exif[0x0112] = 6                                # the camera was turned by a quarter
    found = image_files.decode_image(encoded(Image.fromarray(COLOURS[:8]), "png", exif=exif))
    np.testing.assert_array_equal(found, np.rot90(COLOURS[:8], -1))


@pytest.mark.parametrize("content, reason", [
    (b"no image", "not_an_image"), (b"", "not_an_image"), (encoded(noise(0))[:200], "broken"),
    (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "tiff"), "not_8_or_16_bits"),
    (encoded(noise(0), "jpeg")[:150], "not_an_image|broken")])
def test_unusable_files_have_a_reason(content, reason):
    with pytest.raises(image_files.UnusableImage, match=reason):
        image_files.decode_image(content)


def test_broken_and_repeated_images_are_left_out_and_counted(tmp_path):
    photos = {f"photos/{i:02} [x].png": noise(i) for i in range(40)}
    photos |= {f"photos/copies/{i:02}.bmp": encoded(noise(i), "bmp") for i in range(40)}
    write(tmp_path, photos | {"photos/a.jpg": b"\xff\xd8\xff broken", "photos/.DS_Store": b"x", "photos/read me.txt": b"x"})
    source = load(tmp_path)
    held_out, trained = source.evaluation("iid", 2)["image"], source.arrays()["image"]
    assert source.pictures.available("iid") == 2 and len(trained) == 38
    assert {image.tobytes() for image in np.concatenate([held_out, trained])} == {
        np.asarray(noise(i)).tobytes() for i in range(40)}
    assert source.contents["left_out"] == {"not_an_image": 2, "duplicate": 40} and source.contents["documents"] == 40
    assert "left out: 2 not an image (a.jpg, read me.txt), 40 duplicate" in source.summary()


def test_folders_are_labels(tmp_path):
    write(tmp_path, {f"photos/{kind}/{i}.png": noise(100 * number + i) for number, kind in enumerate(
        ("dog", "a cat", "owl")) for i in range(20)})
    source = load(tmp_path, "photos/**/*.png", label="label", classes=3, caption=8)
    assert source.classes("label") == ["a cat", "dog", "owl"]
    seed_of = {np.asarray(noise(seed)).tobytes(): seed for k in range(3) for seed in range(100 * k, 100 * k + 20)}
    for image, label in zip(*(source.arrays()[name] for name in ("image", "label")), strict=True):
        assert label == [1, 0, 2][seed_of[image.tobytes()] // 100]
    words = {bytes(row.astype(np.uint8)).rstrip(b"\0") for row in source.batch(0, 0)["caption"]}
    assert words <= {b"a cat", b"dog", b"owl"}
    assert load(tmp_path, "photos/owl").contents["documents"] == 20
    with pytest.raises(DataError, match="has no label 'label'; it has none"):
        load(tmp_path, "photos/owl", label="label", classes=1)


def test_folders_called_train_and_test_are_the_splits(tmp_path):
    write(tmp_path, {f"photos/{split}/{kind}/{i}.png": noise(seed + 50 * (kind == "b") + i) for split, seed in (
        ("train", 0), ("test", 5)) for kind in "ab" for i in range(10)})
    source = load(tmp_path, label="label", classes=2)
    assert source.classes("label") == ["a", "b"] and source.pictures.duplicates == {"iid": 0, "train": 10}
    tested = {image.tobytes() for image in source.evaluation("iid", 20)["image"]}
    assert tested == {np.asarray(noise(5 + 50 * k + i)).tobytes() for k in range(2) for i in range(10)}


def test_another_folder_of_equal_names_is_another_set(tmp_path):
    for place, first in (("one", 0), ("other", 50)):
        write(tmp_path, {f"{place}/{i:02}.png": noise(first + i) for i in range(20)})
    one, other = load(tmp_path, "one"), load(tmp_path, "other")
    assert one.fingerprint != other.fingerprint
    assert other.arrays()["image"].tobytes() != one.arrays()["image"].tobytes()


def test_too_few_images_are_refused(tmp_path):
    write(tmp_path, {"photos/a.png": noise(0), "photos/b.png": noise(0), "photos/c.png": b"x"})
    with pytest.raises(DataError, match="no training images.*1 not an image .c.png., 1 duplicate.*two different images"):
        load(tmp_path)
