"""Scores of tunes in ABC notation, as SVG by `verovio` (https://book.verovio.org), where that package is installed."""

import functools
import importlib.util
import json
import subprocess
import sys

from scaling.data import notation
from scaling.fields import DataError

INSTALL = "write `pip install 'scaling[music]'`, or `pip install verovio`"
OPTIONS = {"inputFrom": "abc", "xmlIdSeed": 1, "scale": 40, "staffLineWidth": 0.25, "header": "none", "footer": "none",
           "svgViewBox": True, "pageWidth": 1800, "pageHeight": 60_000, "adjustPageHeight": True,
           **{f"pageMargin{side}": 40 for side in ("Left", "Right", "Top", "Bottom")}}
SECONDS = 20  # of one tune
# verovio 6.4.1 ends its whole process at some texts that are no tunes, which models write: each tune has a process.
_PROGRAM = """
import json, sys, verovio
verovio.enableLog(verovio.LOG_OFF)
engraver = verovio.toolkit()
engraver.setOptions(json.loads(sys.argv[1]))
if engraver.loadData(sys.stdin.read()) and engraver.getPageCount():
    sys.stdout.write(engraver.renderToSVG(1))
"""


@functools.cache
def engraves() -> bool:
    """Whether `verovio` is installed."""
    return importlib.util.find_spec("verovio") is not None


def check_installed() -> None:
    """Raises DataError without `verovio`."""
    if not engraves():
        raise DataError(f"scores of tunes are engraved by verovio, which is not installed; {INSTALL}")


def engrave(text: str) -> bytes | None:
    """The score of a text in ABC notation, an SVG of one page; None where the parser of `notation.read_tune` or the
    engraver takes no tune from it, or without verovio. Raises DataError where music21 is not installed."""
    if not engraves() or notation.read_tune(text) is None:
        return None
    body = text if text.startswith("X:") else f"X:1\nT:\n{text}"
    try:
        found = subprocess.run([sys.executable, "-c", _PROGRAM, json.dumps(OPTIONS)], input=body.encode(),
                               capture_output=True, timeout=SECONDS, check=False).stdout
    except subprocess.TimeoutExpired:
        return None
    return found if found.startswith(b"<svg") else None
