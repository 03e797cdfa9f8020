"""Images as one PNG."""

import io

import numpy as np

from scaling import nn

SCALE = 4  # screen pixels a pixel
BLANK = 0.5  # grey of the gaps, between black at 0 and white at 1


def image_grid(images: np.ndarray, levels: int, gap: int = 1) -> bytes:
    """Images, integer [rows, columns, H, W, C] with values below `levels`, as one PNG with a gap between them."""
    import matplotlib.image

    rows, columns, height, width, _ = images.shape
    values = nn.levels_to_unit(images, levels)
    framed = np.full((rows, height + gap, columns, width + gap, 3), BLANK, np.float32)
    framed[:, :height, :, :width] = values.transpose(0, 2, 1, 3, 4)  # one channel serves all three
    grid = framed.reshape(rows * (height + gap), columns * (width + gap), 3)[:-gap, :-gap]
    out = io.BytesIO()
    matplotlib.image.imsave(out, grid.repeat(SCALE, 0).repeat(SCALE, 1), format="png")
    return out.getvalue()


def grey_png(image: np.ndarray) -> bytes:
    """An image, uint8 [H, W] from black at 0 to white at 255, as one PNG of its size."""
    import matplotlib.image

    out = io.BytesIO()
    matplotlib.image.imsave(out, np.repeat(image[..., None], 3, -1), format="png")
    return out.getvalue()
