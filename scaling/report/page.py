"""An HTML page that opens offline: templates, style, script and figures in one file."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources

import jinja2
from etils import epath

from scaling.figures.palette import Palette
from scaling.report import glossary
from scaling.store import files


def render_page(template: str, palette: Palette, drawn: dict[str, dict], nouns: tuple[str, str], script: str = "sort.js",
                **content) -> str:
    """The page as text. `drawn` are the figures, as `plots.draw_all` returns them; `content` is for the template.

    Words are linked where they first appear, and explained in a glossary at the end. nouns: what the page calls the unit of
    data and the metric, such as ("tokens", "loss"). script: the file of the page's script.

    The content security policy of the page refuses every request, and every script but the page's own, whatever a
    sample or a title contains. All content is also escaped.
    """
    code = _text(script)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    text = _environment().get_template(template).render(
        palette=palette, figures=drawn, style=_text("style.css"), script=code, script_digest=digest,
        **content)
    head, opening, rest = text.partition("<main>")
    main, closing, tail = rest.rpartition("</main>")
    main, explained = glossary.link_words(main, *nouns)
    explained = _environment().get_template("glossary.html.j2").render(words=explained)
    return "".join([head, opening, main, explained, closing, tail])


def write_page(directory, text: str, drawn: dict[str, dict]) -> epath.Path:
    """Writes figures/*.png and then index.html (atomically) into `directory`; returns the path of the page."""
    directory = epath.Path(directory).expanduser()
    for name, figure in drawn.items():
        files.atomic_write(directory / "figures" / f"{name}.png", figure["png"])
    files.atomic_write(directory / "index.html", text)
    return directory / "index.html"


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(loader=jinja2.FunctionLoader(_text), autoescape=True,
                              undefined=jinja2.StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)


def _text(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
