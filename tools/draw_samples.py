"""What models of several workdirs drew, from the smallest to the largest, as one figure.

    python -m tools.draw_samples --workdirs=runs/vae,runs/gan --names=VAE,GAN --output=samples.png

A row is a study, and a block of a row the first samples of one size, from the pictures that the study wrote.
"""

import io
import pathlib

import matplotlib.image
import numpy as np
from absl import app, flags
from etils import epath
from matplotlib.figure import Figure

from scaling.figures import plot, words
from scaling.report import pictures
from scaling.store import files

ROWS, COLUMNS = 3, 4  # of a block

_WORKDIRS = flags.DEFINE_list("workdirs", [], "Workdirs of finished studies of images, one for each row.")
_NAMES = flags.DEFINE_list("names", [], "A name for each workdir; by default that of its folder.")
_OUTPUT = flags.DEFINE_string("output", None, "The figure, a PNG.", required=True)


def blocks(workdir) -> dict[int, np.ndarray]:
    """{parameters: the first samples of that size [height, width, 4]}, by ascending size."""
    workdir = epath.Path(workdir)
    shown, lost = pictures.read_listed(workdir, files.read_json(workdir / "pictures.json"))
    if lost:
        raise app.UsageError(f"{workdir}: {lost}")
    samples = sorted((each for each in shown if each["name"] == "samples"), key=lambda each: each["params_non_embedding"])
    return {each["params_non_embedding"]: first_images(each) for each in samples}


def first_images(picture: dict) -> np.ndarray:
    """The upper left of a grid of images: ROWS by COLUMNS of them, or all that there are."""
    grid = matplotlib.image.imread(io.BytesIO(picture["png"]))
    height, width = grid.shape[0] / picture["rows"], grid.shape[1] / picture["columns"]
    return grid[:round(height * min(ROWS, picture["rows"])), :round(width * min(COLUMNS, picture["columns"]))]


@plot.styled
def draw(studies: dict[str, dict[int, np.ndarray]]) -> Figure:
    """The blocks of each study, {its name: as `blocks` gives them}."""
    columns = max(map(len, studies.values()))
    figure, grid = plot.panels(len(studies), columns, width=1.75, height=1.45)
    for row, (name, found) in zip(grid, studies.items(), strict=True):
        for axes in row:
            axes.set_axis_off()
        for axes, (size, image) in zip(row, found.items(), strict=False):
            axes.imshow(image, interpolation="nearest")
            axes.set_title(f"{name}, {words.count(size)}", fontsize=8)
    return figure


def main(argv):
    if argv[1:] or not _WORKDIRS.value or len(_NAMES.value) not in (0, len(_WORKDIRS.value)):
        raise app.UsageError("write --workdirs=A,B and as many --names, or none")
    names = _NAMES.value or [pathlib.Path(workdir).name for workdir in _WORKDIRS.value]
    plot.save_figure(_OUTPUT.value, draw({name: blocks(workdir) for name, workdir in zip(names, _WORKDIRS.value)}))
    print(f"written: {_OUTPUT.value}")


if __name__ == "__main__":
    app.run(main)
