"""Every page of docs/ and the README has a figure that exists, is small, and has a text for those who cannot see it."""

import pathlib
import re
import xml.etree.ElementTree as ElementTree

import pytest

from tools import draw_pages

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FIGURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
LARGEST = 250_000  # bytes


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_figures_with_alternative_texts(page):
    figures = FIGURE.findall(page.read_text())
    assert figures, "the page has no figure"
    for text, path in figures:
        assert len(text.split()) >= 2, f"{path} needs an alternative text that says what it shows"
        assert 0 < (page.parent / path).stat().st_size <= LARGEST, path


def test_every_figure_is_on_a_page():
    shown = {(page.parent / path).resolve() for page in PAGES for _, path in FIGURE.findall(page.read_text())}
    assert shown == {path.resolve() for path in (ROOT / "docs" / "figures").rglob("*.*")}


@pytest.mark.parametrize("name", draw_pages.DIAGRAMS)
def test_a_diagram_is_the_one_that_the_tool_draws(name):
    text = draw_pages.DIAGRAMS[name]()
    assert (ROOT / "docs" / "figures" / name).read_text() == text, "run python -m tools.draw_pages"
    ElementTree.fromstring(text)


def test_the_plots_draw_what_the_page_says():
    """The roofline has one line per row of the table on docs/hardware.md, the trunk one label per run."""
    rows = re.findall(r"^\| (?:transformer|vae|gan) ", (ROOT / "docs" / "hardware.md").read_text(), re.MULTILINE)
    assert len(draw_pages.roofline().axes[0].get_yticks()) == len(rows) > 10
    assert len(draw_pages.trunk().axes[0].texts) == 4
