"""A strict parser for reports, and the page of a workdir without its PNGs."""

from __future__ import annotations

from html import escape
from html.parser import HTMLParser
from unittest import mock

from scaling.figures import svg
from scaling.report import reading, study_page


class Page(HTMLParser):
    """Parses a page, checks that tags nest and close, and collects ids, references and the text of each element."""
    VOID = {"meta", "link", "br", "hr", "img", "input", "path", "use", "rect"}

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.stack, self.ids, self.elements, self.references = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.stack, f"never closed: {self.stack}"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        links = ("href", "src", "srcset", "xlink:href", "data", "action")
        self.references += [value for name, value in attributes.items() if name in links]
        element = {"tag": tag, "text": "", **attributes}
        self.elements.append(element)
        if tag not in self.VOID:
            self.stack.append(element)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.stack and self.stack[-1]["tag"] == tag, f"</{tag}> closes {self.stack[-1:]}"
            self.stack.pop()

    def handle_data(self, data):
        for element in self.stack:
            element["text"] += data

    def all(self, tag, **attributes):
        wanted = {name.strip("_"): value for name, value in attributes.items()} | {"tag": tag}
        return [element for element in self.elements if wanted.items() <= element.items()]

    @property
    def text(self):
        return " ".join(self.all("main")[0]["text"].split())


def words_of(workdir):
    """The page of one study without any figure, parsed."""
    study = reading.read_study(workdir)
    return Page(study_page.study_html(study, study_page.study_palette(study), {}))


def page_of(workdir):
    """The page of one study. Its PNGs are left out, because they take most of the time."""
    study = reading.read_study(workdir)
    palette = study_page.study_palette(study)
    return study_page.study_html(study, palette, study_page.draw_figures(study, palette, png=False))


def sketch_of(workdir):
    """The page of one study whose figures are drawn but not rendered, which takes most of the time that PNGs leave.

    It is for tests of which figures there are, and of what their captions say.
    """
    with mock.patch.object(svg, "to_svg", lambda figure, palette, name, title: f'<svg aria-label="{escape(title)}"></svg>'):
        return page_of(workdir)
