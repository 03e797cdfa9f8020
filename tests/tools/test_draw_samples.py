"""The figure of what models drew shows the first images of each size, from the smallest to the largest."""

import numpy as np
import pytest
from absl import app
from boxed_flags import Box

from scaling.figures import pixels
from scaling.store import files

with Box():
    from tools import draw_samples


@pytest.fixture
def study(tmp_path):
    """A workdir with the samples of two sizes, the larger first: image (i, j) of the grid has the level 8 i + j."""
    (tmp_path / "pictures").mkdir()
    levels = np.arange(32).reshape(4, 8, 1, 1, 1) * np.ones((1, 1, 6, 6, 1), int)
    entries = []
    for size, moved in ((400, 1), (100, 0)):
        for name in ("samples", "interpolations"):
            path = f"pictures/{size}-{name}.png"
            (tmp_path / path).write_bytes(pixels.image_grid(levels + moved, levels=33))
            entries.append({"params_non_embedding": size, "name": name, "path": path, "rows": 4, "columns": 8})
    files.write_json(tmp_path / "pictures.json", entries)
    return tmp_path


def test_a_block_has_the_first_samples_of_a_size(study):
    found = draw_samples.blocks(study)
    assert list(found) == [100, 400]
    scale, side = pixels.SCALE, 7 * pixels.SCALE  # of an image and the gap beside it
    for moved, image in enumerate(found.values()):
        wanted = draw_samples.ROWS * side, draw_samples.COLUMNS * side
        assert max(abs(a - b) for a, b in zip(image.shape, wanted, strict=False)) <= scale  # less a gap
        for row, column in ((0, 0), (2, 3), (1, 2)):
            value = image[row * side + 2 * scale, column * side + 2 * scale, 0]
            assert value == pytest.approx((8 * row + column + moved) / 32, abs=0.01)


def test_the_figure_has_a_title_for_each_size(study):
    figure = draw_samples.draw({"VAE": draw_samples.blocks(study), "GAN": draw_samples.blocks(study)})
    assert [axes.get_title() for axes in figure.axes] == ["VAE, 100", "VAE, 400", "GAN, 100", "GAN, 400"]


def test_a_picture_that_is_lost_is_named(study):
    (study / "pictures" / "100-samples.png").unlink()
    with pytest.raises(app.UsageError, match="100-samples"):
        draw_samples.blocks(study)
