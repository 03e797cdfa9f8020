"""A page of sections: sentences, facts, figures and tables that a tool found, in the look of the other reports."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from scaling.figures.palette import Palette
from scaling.report import page, plots
from scaling.report.plots import PlannedFigure


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a page under a heading.

    said: sentences, a paragraph each; facts: (name, value, note); figures: names of figures of the page; table: {"columns":
    names, "rows": [(name, cells), ...]}.
    """

    id: str
    title: str
    said: Sequence[str] = ()
    facts: Sequence[tuple[str, str, str]] = ()
    figures: Sequence[str] = ()
    table: Mapping[str, Any] | None = None


def write_sections(directory, title: str, sections: Sequence[Section], figures: Mapping[str, PlannedFigure],
                   nouns: tuple[str, str] = ("tokens or examples", "loss")) -> epath.Path:
    """Writes index.html (atomically) and figures/*.png into `directory`; returns the path of the page.

    nouns: what the page calls the unit of data and the metric.
    """
    palette = Palette((), ())
    drawn = plots.draw_all(figures, palette)
    text = page.render_page("plain.html.j2", palette, drawn, nouns, title=title, sections=sections)
    return page.write_page(directory, text, drawn)
