"""Small diagrams as SVG: boxes, arrows and words in the colours of the reports, light or dark as the reader's screen is.

    drawing = Diagram(400, 120, "A box that points at a box")
    drawing.box(10, 40, 120, 50, "laws", "fit, intervals")
    drawing.arrow((130, 65), (200, 65))
    pathlib.Path("boxes.svg").write_text(drawing.svg())

Lengths are pixels. The picture brings its own background, so it is readable on a page of either colour.
"""

import html

from scaling.figures import palette

LINE = 16  # from one line of text to the next


def _colours(scheme: dict) -> str:
    return "; ".join(f"--{name}: {colour}" for name, colour in scheme.items())


LIGHT = palette.LIGHT | {"wash": "#f1f4f8", "deep": "#dfe7f1"}
DARK = palette.DARK | {"wash": "#1e2329", "deep": "#2b3542"}
STYLE = f"""
svg {{ {_colours(LIGHT)} }}
@media (prefers-color-scheme: dark) {{ svg {{ {_colours(DARK)} }} }}
text {{ font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: var(--ink) }}
.name {{ font-weight: 600; font-size: 13px }}
.note {{ fill: var(--muted) }}
.mark {{ fill: var(--accent); font-weight: 600; font-size: 11px }}
.paper {{ fill: var(--paper) }}
.box {{ fill: var(--wash); stroke: var(--grid) }}
.deep {{ fill: var(--deep); stroke: var(--muted) }}
.frame {{ fill: none; stroke: var(--muted); stroke-dasharray: 4 4 }}
.arrow {{ fill: none; stroke: var(--muted); stroke-width: 1.6; marker-end: url(#head) }}
.head {{ fill: var(--muted) }}
"""
HEAD = ('<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="head" d="M0 0 8 4 0 8z"/></marker>')


class Diagram:
    """A picture of `width` times `height` pixels; `title` is what a screen reader says."""

    def __init__(self, width: int, height: int, title: str):
        self.width, self.height, self.title = width, height, title
        self.parts: list[str] = []

    def rectangle(self, x: float, y: float, width: float, height: float, kind: str = "box") -> None:
        """`kind` is a class of STYLE: box, deep or frame."""
        self.parts.append(f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5"/>')

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
        """One line whose baseline is at `y`. `kind` is a class of STYLE: name, note or mark."""
        self.parts.append(f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{html.escape(words)}</text>')

    def box(self, x: float, y: float, width: float, height: float, name: str, *lines: str, mark: str = "",
            kind: str = "box") -> None:
        """A box with a name and lines under it; `mark` stands in its upper right corner."""
        self.rectangle(x, y, width, height, kind)
        self.text(x + 9, y + 21, name, "name")
        for i, line in enumerate(lines):
            self.text(x + 9, y + 23 + LINE * (i + 1), line, "note")
        if mark:
            self.text(x + width - 8, y + 20, mark, "mark", "end")

    def arrow(self, *points: tuple[float, float]) -> None:
        """A line through the points, with its head at the last one."""
        self.parts.append(f'<path class="arrow" d="M{" L".join(f"{x:g} {y:g}" for x, y in points)}"/>')

    def svg(self) -> str:
        body = "\n".join(self.parts)
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
                f'height="{self.height}" role="img">\n<title>{html.escape(self.title)}</title>\n<style>{STYLE}</style>\n'
                f'<defs>{HEAD}</defs>\n<rect class="paper" width="100%" height="100%" rx="8"/>\n{body}\n</svg>\n')
