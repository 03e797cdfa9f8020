"""`lohelp/en-de`: LibreOffice's help in two languages, paragraph by paragraph, from the packages of a Linux distribution.

Debian and Ubuntu have a package for each of some thirty languages: `libreoffice-help-en-us`, `libreoffice-help-de`,
`libreoffice-help-zh-cn` and so on. The pages of all languages have the same names, and a paragraph has the same `id` in
all of them. Elsewhere a folder with a subfolder for each language will do: `lohelp/en-de:<folder>`. The texts are under the
Mozilla Public License 2.0.
"""

import html.parser
import pathlib
import re

from tqdm import tqdm

from scaling.data.digests import content_digest
from scaling.data.examples import Example, kept_examples
from scaling.fields import DataError, nearest

FOLDER = pathlib.Path("/usr/share/libreoffice/help")  # of Debian's packages
VERSION = 1                                           # of what is taken from a page
BLOCKS = ("p", "h1", "h2", "h3", "h4", "h5", "h6")


class Page(html.parser.HTMLParser):
    """The paragraphs of a page: {id: text}. Of texts that differ by operating system, that of the others than macOS."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.paragraphs: dict[str, str] = {}
        self._open, self._parts, self._spans = "", [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag in BLOCKS and attrs.get("id"):
            self._open, self._parts, self._spans = attrs["id"], [], []
        elif tag == "span" and self._open:
            self._spans.append("MAC" in (attrs.get("class") or "").split())
        elif tag == "br" and self._open:
            self._parts.append(" ")

    def handle_endtag(self, tag):
        if tag == "span" and self._spans:
            self._spans.pop()
        elif tag in BLOCKS and self._open:
            text = re.sub(r"\s+", " ", "".join(self._parts)).strip()
            if text:
                self.paragraphs[self._open] = text
            self._open = ""

    def handle_data(self, data):
        if self._open and not any(self._spans):
            self._parts.append(data)


def find_translations(name: str, root: pathlib.Path, progress: bool = True) -> tuple[list[Example], tuple[str, str]]:
    """The pairs of `lohelp/<from>-<to>[:<folder>]`, and the two languages. Pairs of equal texts are left out.

    A language is the name of its folder, or the beginning of the only one that begins so: "en" for "en-US". Raises
    DataError where a language is not installed.
    """
    pair, _, folder = name.removeprefix("lohelp/").partition(":")
    base = pathlib.Path(folder).expanduser() if folder else FOLDER
    known = sorted(path.name for path in base.iterdir() if (path / "text").is_dir()) if base.is_dir() else []
    languages = _two_languages(name, pair, known, base)
    pages = [sorted(path.relative_to(base / one) for path in (base / one / "text").rglob("*.html")) for one in languages]
    shared = sorted(set(pages[0]) & set(pages[1]))
    content = content_digest([base / one / page for one in languages for page in shared], root / "index", progress, name)

    def read() -> list[Example]:
        found = []
        for page in tqdm(shared, desc=f"{name}: reading", unit=" pages", disable=not progress):
            first, second = (Page((base / one / page).read_text("utf-8", "replace")).paragraphs for one in languages)
            found += [Example(page.as_posix(), (text, second[key])) for key, text in first.items()
                      if key in second and text != second[key]]
        return found

    first, second = (one.lower().split("-")[0] for one in languages)
    return kept_examples(root, ["lohelp", str(VERSION), *languages, content], read), (first, second)


def _two_languages(name: str, pair: str, known: list[str], base: pathlib.Path) -> list[str]:
    if not known:
        raise DataError(f"{name}: there is no help of LibreOffice in {base}; install its packages, such as `apt-get "
                        "install libreoffice-help-en-us libreoffice-help-de`, or write lohelp/en-de:<folder> with a folder "
                        "for each language")
    lower = {one.lower(): one for one in known}
    for at in (i for i, letter in enumerate(pair) if letter == "-"):  # "zh-cn-en-us" has several
        first, second = (_language(part.lower(), lower) for part in (pair[:at], pair[at + 1:]))
        if first and second and first != second:
            return [first, second]
    last = pair.split("-")[-1]
    raise DataError(f"{name}: {pair!r} names no two different languages of {base}, which has {', '.join(known)}; write two "
                    f"of them, as in lohelp/en-de, or install a package such as libreoffice-help-{last or 'de'}; "
                    f"{nearest(last, known)}")


def _language(written: str, lower: dict[str, str]) -> str | None:
    begun = [one for key, one in lower.items() if key.split("-")[0] == written]
    return lower.get(written) or (begun[0] if len(begun) == 1 else None)
