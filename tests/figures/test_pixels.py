"""Images as one PNG."""

import io

import matplotlib.image
import numpy as np

from scaling.figures.pixels import SCALE, image_grid


def test_images_lie_on_the_grid_at_their_brightness():
    images = np.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4, 1) % 16
    grid = matplotlib.image.imread(io.BytesIO(image_grid(images, 16)), format="png")[::SCALE, ::SCALE, 0]
    assert grid.shape == (9, 14)
    np.testing.assert_allclose(grid[5:9, 10:14], images[1, 2, :, :, 0] / 15, atol=1 / 255)
