"""Draw the rooms of the package, and the way of a study through them, into docs/figures/rooms.svg.

    python -m tools.draw_rooms

`ROOMS` lists every room of `scaling/` in the order of imports: a room imports only rooms that stand before it. The number
in a box is its place in that list.
"""

import pathlib

from tools._diagram import Diagram

FIGURE = pathlib.Path(__file__).parents[1] / "docs" / "figures" / "rooms.svg"
ROOMS = ("faces", "fields", "axes", "devices", "cost", "nn", "store", "families", "data", "evaluate", "experiment",
         "results", "exchange", "figures", "laws", "report", "training", "sweeps", "study", "insight", "serve", "claims",
         "pods")
WAY = {  # the stages of a study, from left to right, and what each one makes
    "experiment": ("experiments:", "all that", "determines a run"),
    "sweeps": ("a plan: trunks", "and packs, and", "who trains what"),
    "training": ("one compiled", "program a pack,", "checkpoints"),
    "results": ("records, curves,", "tuned runs"),
    "laws": ("fit, intervals,", "back-test,", "forecast"),
    "report": ("one HTML page", "that opens", "offline"),
}
BELOW = (  # what the stages use
    {"families": ("one file a family:", "network, losses, sizes"),
     "data": ("one file a source:", "batches by seed and step"),
     "evaluate": ("scores of generated", "images"), "figures": ("plots, colours,", "numbers in words")},
    {"exchange": ("checkpoints of other", "programs, and back"), "insight": ("what layers know",),
     "serve": ("a run behind HTTP",),
     "claims": ("what is said of scale,", "on trial"), "pods": ("compiles for TPUs", "that are not here")},
    {"nn": ("layers, attention",), "devices": ("layouts, shards,", "hosts"), "store": ("files, checkpoints",),
     "cost.py": ("FLOPs, counted",), "axes.py": ("names of axes",), "fields.py": ("fields, errors",),
     "faces.py": ("lazy imports",)},
)
WIDTH, EDGE, GAP = 1000, 20, 16


def drawn() -> set[str]:
    """The rooms that the picture shows."""
    return {name.removesuffix(".py") for row in (WAY, *BELOW) for name in row} | {"study"}


def _mark(name: str) -> str:
    return str(ROOMS.index(name.removesuffix(".py")) + 1)


def draw() -> str:
    """The picture, as the text of an SVG file."""
    drawing = Diagram(WIDTH, 536, "From a config file to a report, and the rooms of the package that do it")
    drawing.text(EDGE, 30, "The way of a study", "name")
    width = (WIDTH - 2 * EDGE - len(WAY) * GAP) / (len(WAY) + 1)
    left = [EDGE + i * (width + GAP) for i in range(len(WAY) + 1)]
    top, height = 92, 86
    drawing.box(left[0], top, width, height, "configs/", "a study in a file:", "config, sweep,", "target", kind="deep")
    for x, (name, lines) in zip(left[1:], WAY.items(), strict=True):
        drawing.box(x, top, width, height, name, *lines, mark=_mark(name), kind="deep")
        drawing.arrow((x - GAP, top + height / 2), (x - 2, top + height / 2))
    drawing.rectangle(left[2] - 7, 44, WIDTH - left[2] - EDGE + 14, 176, "frame")
    drawing.text(left[2] + 2, 64, "study", "name")
    drawing.text(left[2] + 48, 64, "runs these stages in order and can be interrupted in any of them", "note")
    drawing.text(WIDTH - EDGE - 8, 64, _mark("study"), "mark", "end")
    low = top + height + 22
    drawing.arrow((left[5] + width / 2, top + height), (left[5] + width / 2, low), (left[2] + width / 2, low),
                  (left[2] + width / 2, top + height + 2))
    between = (left[2] + left[5] + width) / 2
    drawing.text(between, low - 6, "the target is trained after its forecast is written", "note", "middle")
    drawing.text(EDGE, 262, "What the stages use", "name")
    for row, y, height in zip(BELOW, (278, 360, 442), (66, 66, 60), strict=True):
        width = (WIDTH - 2 * EDGE - (len(row) - 1) * GAP) / len(row)
        for i, (name, lines) in enumerate(row.items()):
            drawing.box(EDGE + i * (width + GAP), y, width, height, name, *lines, mark=_mark(name))
    drawing.text(EDGE, 524, "A room imports only rooms with a smaller number.", "note")
    return drawing.svg()


if __name__ == "__main__":
    FIGURE.write_text(draw())
    print(f"written: {FIGURE}")
