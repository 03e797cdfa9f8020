"""Any files in a folder give images whose counts add up, or one sentence."""
import io
import pathlib
import tempfile
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from scaling import data
from scaling.data import image_files, pictures
from scaling.fields import DataError

MODES = (("L", "png"), ("RGB", "png"), ("RGBA", "png"), ("P", "gif"), ("LA", "png"), ("1", "png"), ("CMYK", "jpeg"),
         ("RGB", "jpeg"), ("RGB", "webp"), ("I;16", "png"), ("F", "tiff"), ("RGB", "bmp"), ("CMYK", "tiff"))


def encode(seed: int, width: int, height: int, kind: tuple[str, str], cut: int) -> bytes:
    mode, format = kind
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert(mode)
    file = io.BytesIO()
    image.save(file, format)
    content = file.getvalue()
    return content[:cut * len(content) // 8] if cut < 8 else content


images = st.builds(encode, st.integers(0, 9), st.integers(1, 20), st.integers(1, 20), st.sampled_from(MODES),
                   st.sampled_from([8, 8, 8, *range(8)]))
names = st.tuples(st.sampled_from(["", "a/", "train/", "test/", "train/x y/", "é[1]/"]),
                  st.sampled_from(["png", "jpg", "txt"]))


@pytest.mark.slow
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(files=st.lists(st.tuples(names, images | st.binary(max_size=60)), min_size=1, max_size=20),
       channels=st.sampled_from([1, 3]), label=st.sampled_from(["", "label"]))
def test_a_folder_is_images_or_refused_in_a_sentence(files, channels, label):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        root, pixels = pathlib.Path(folder) / "photos", set()
        for number, ((place, suffix), content) in enumerate(files):
            path = root / f"{place}{number:02}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            try:
                image = image_files.decode_image(content)
            except image_files.UnusableImage:
                continue
            pixels.add(pictures.square(image, 8, channels, "area", "center").tobytes())
        try:
            source = data.load_images(f"images:{root}", 8, channels, batch=2, label=label, progress=False,
                                      data_dir=pathlib.Path(folder) / "data")
        except DataError as error:
            assert "\n" not in str(error)
            assert len(pixels) < 2 or label or {"train", "test"} <= {name.split("/")[0] for (name, _), _ in files}
            return
        found = source.contents
        assert found["documents"] + sum(found["left_out"].values()) == len(files)
        read = [bytes(image) for image in source.arrays()["image"]]
        read += [bytes(image) for image in source.evaluation("iid", source.pictures.available("iid"))["image"]]
        assert len(read) == len(set(read)) == found["documents"] and set(read) == pixels
