"""Matplotlib figures as PNG, and as SVG inside an HTML page.

Inside a page, an SVG takes the page's fonts and colours. Text stays text: small, sharp, searchable, and resized by the
style sheet on a phone. Colours become CSS variables. Ids start with the figure's name, so that they do not collide. No
library does this; matplotlib writes fixed colours, and global ids and styles.
"""

from __future__ import annotations

import html
import io
import re

import matplotlib
from matplotlib.figure import Figure

from scaling.figures.palette import Palette

# The layout is measured in the font that matplotlib ships. It is wider than the system fonts of the page, so nothing
# overflows.
STYLE = {"svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 11, "axes.linewidth": 0.8,
         "axes.unicode_minus": True,
         "lines.linewidth": 1.6, "lines.markersize": 5, "xtick.major.size": 3.5, "ytick.major.size": 0,
         "xtick.minor.size": 2,
         "figure.constrained_layout.use": True, "path.simplify": True}


def to_png(figure: Figure, palette: Palette, dpi: int = 220, about: str = "") -> bytes:
    """The figure as the bytes of a PNG, in the light colours. The file says `about`, which readers of images do not see."""
    buffer, words = io.BytesIO(), {"Software": None} | ({"Description": about} if about else {})
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=dpi, facecolor=palette.paper, metadata=words)
    return buffer.getvalue()


def to_svg(figure: Figure, palette: Palette, name: str, title: str) -> str:
    """The figure as an `<svg>` element with the label `title` and ids that start with `name`.

    The same figure gives the same text.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    box = re.search(r'viewBox="[^"]+"', text).group()
    body = text[text.index(">", text.index("<svg")) + 1:text.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)  # it would apply to the whole page
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', body))
    used = {first or second for first, second in used}
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', body)
    body = body.replace("url(#", f"url(#{name}-")
    body = re.sub(r"font: (?:\w+ )*?([\d.]+)px [^;\"]+", r"font-size: \1px", body)  # the family is the page's
    # Coordinates to a hundredth of a point; never inside text.
    body = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), body)
    body = re.sub(r"\n\s*", "\n", body).replace("stroke-linecap: square", "stroke-linecap: butt")
    return f'<svg {box} role="img" aria-label="{html.escape(title)}">{palette.themed(body).strip()}</svg>'
