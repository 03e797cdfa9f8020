"""Captions that a restored run writes of images: which image they depend on, where images come from, what is refused."""

import dataclasses
import types

import jax
import numpy as np
import pytest
from lively import lively, once
from PIL import Image
from sources import tiny

from scaling.experiment import Experiment
from scaling.families.fsq import FSQ
from scaling.families.multimodal import Multimodal
from scaling.study.captioning import caption_images, images_named
from scaling.study.restored import RestoredRun, RestoreError

FAMILY = Multimodal.ladder(5e3, image_size=8, levels=16, caption=4, images="patches", tokenizer=FSQ(patch=4))
DATA = dataclasses.replace(tiny("fsq").data, size=8, levels=16, caption=4, evaluation_examples=5)
IMAGES = np.arange(5 * 64, dtype=np.uint8).reshape(5, 8, 8, 1) % 16


class Runner:
    """Finds the data of a run: five images."""

    def source(self, experiment):
        del experiment
        return types.SimpleNamespace(splits=("iid",), evaluation=lambda split, count: {"image": IMAGES[:count]})


def restored(family):
    record = {"fingerprint": "0123456789abcdef", "params_non_embedding": 6000}
    return RestoredRun(record, Experiment(family=family, data=DATA), lively(family), Runner())


RUN = restored(FAMILY)


def test_a_caption_is_what_the_family_describes_and_depends_on_its_image_and_its_place_alone():
    found = caption_images(RUN, IMAGES, seed=3)
    batch = {"image": IMAGES, "example": np.arange(5, dtype=np.int32), "caption": np.zeros((5, 4), np.int32)}
    rows = np.asarray(once(FAMILY.describe)(RUN.params, batch, jax.random.key(3)))
    assert found == [bytes(row.astype(np.uint8)).split(b"\0")[0].decode(errors="replace").replace("�", "?") for row in rows]
    assert caption_images(RUN, IMAGES[:2], seed=3) == found[:2] and len(set(found)) > 1
    assert caption_images(RUN, IMAGES[:0]) == []


def test_images_are_named_by_numbers_of_the_evaluation_set_or_by_files(tmp_path):
    path = tmp_path / "large.png"
    Image.fromarray(np.repeat(np.repeat(IMAGES[2, ..., 0] * 17, 2, 0), 2, 1)).save(path)
    np.testing.assert_array_equal(images_named(RUN, ["3", str(path)]), IMAGES[[3, 2]])
    for name, says in (("5", "images 0 to 4"), (str(tmp_path / "none.png"), "no image that can be read")):
        with pytest.raises(RestoreError, match=says):
            images_named(RUN, [name])


def test_images_of_other_data_and_families_that_describe_nothing_are_refused_in_one_sentence():
    for images, says in ((IMAGES[:, :4], r"\[n, 8, 8, 1\]"), (IMAGES + 8, "values below 16")):
        with pytest.raises(RestoreError, match=says):
            caption_images(RUN, images)
    with pytest.raises(RestoreError, match="family fsq and describes no images; families that can.*: multimodal"):
        caption_images(restored(FSQ(image_size=8, levels=16, width=8, layers=1)), IMAGES)
