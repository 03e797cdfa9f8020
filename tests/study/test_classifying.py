"""Runs that tell labels: they say what the family says, of texts in windows and of images of other levels."""

import jax
import numpy as np
import pytest
from serving import FAMILIES, fresh_run
from telling import IMAGES, TEXTS, telling_run

from scaling.study.classifying import ClassifierRun
from scaling.study.restored import RestoreError

TOLD = ClassifierRun(telling_run())
LONG = "import os\nprint(os.environ)\n" * 3


def test_a_text_that_fits_is_read_as_in_training():
    texts = ["a", "", "def f(x):", "x" * 15]
    rows = np.zeros((4, TEXTS.length), np.int32)
    for row, text in zip(rows, texts):
        row[:len(text)] = [*text.encode()]
    wanted = np.asarray(jax.nn.softmax(TEXTS.class_logits(TOLD.run.params, {"text": rows})))
    np.testing.assert_allclose(TOLD.probabilities_of_texts(texts), wanted, atol=1e-5)
    np.testing.assert_allclose(TOLD.score_texts(texts, [0, 2]), wanted[:, [0, 2]].sum(1), atol=1e-5)
    np.testing.assert_allclose(TOLD.score_texts([LONG, *texts], [1])[1:], wanted[:, 1], atol=1e-5)


@pytest.mark.parametrize("length", [15, 16, 22, 23, 60])
def test_a_longer_text_has_the_score_of_its_worst_window_and_no_part_is_missed(length):
    text = LONG[:length]
    pieces = [text[at:at + 15] for at in range(max(1, length - 14))]
    each = TOLD.probabilities_of_texts(pieces)[:, 1]
    seen = [0, *range(7, len(pieces) - 1, 7), len(pieces) - 1]
    assert TOLD.score_texts([text], [1])[0] == pytest.approx(max(each[seen]), abs=1e-5)
    assert max(np.diff(sorted(set(seen))), default=0) <= 7  # of 15 tokens: each part lies well inside a window
    assert TOLD.score_texts([text], [1])[0] >= max(each[0], each[-1]) - 1e-5


def test_images_of_other_levels_are_read_at_the_levels_of_the_run():
    told, images = ClassifierRun(telling_run(IMAGES)), np.random.default_rng(0).integers(0, 16, (5, 16, 16, 1), np.uint8)
    np.testing.assert_allclose(told.score_images(images, [2], 16), told.score_images(images * 17, [2], 256), atol=1e-6)
    np.testing.assert_allclose(told.probabilities(images).sum(1), 1, atol=1e-5)
    assert (TOLD.reads, told.reads) == ("text", "image")
    with pytest.raises(RestoreError, match="16 pixels a side and 1 channels, and these have 8 and 3"):
        told.score_images(np.zeros((1, 8, 8, 3), np.uint8), [0], 256)


def test_labels_are_numbers_and_others_are_refused():
    assert TOLD.numbers(["0", 2]) == [0, 2]
    with pytest.raises(RestoreError, match="tells no labels; name a run of one of the families classifier, masked"):
        ClassifierRun(fresh_run(FAMILIES["transformer"]))
