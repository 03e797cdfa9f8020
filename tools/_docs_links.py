"""The links of the site of docs/: pages keep the links that work on GitHub, and the site gets the ones that work there.

A page of the site is a Markdown file of docs/, or one of `HOMES`, which lie beside docs/. A link from one to another leads
to the page there. A link to any other file of the repository leads to its address where `pyproject.toml` has one, and is
plain text with the path in code font where it has none.
"""

import pathlib
import posixpath
import re
import tomllib

ROOT = pathlib.Path(__file__).parents[1]
HOMES = {"README.md": "index.md", "CHANGELOG.md": "changes.md", "CONTRIBUTING.md": "contributing.md",
         "AGENTS.md": "agents.md"}
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:|//|#", re.IGNORECASE)  # of what lies elsewhere, or on the same page
CODE = re.compile(r"^(`{3,}|~{3,}).*?^\1[`~]*[ \t]*$|(`+)(?!`).+?(?<!`)\2(?!`)", re.MULTILINE | re.DOTALL)
WORDS = r"(?:[^\[\]]|!?\[[^\[\]]*\]\([^()\s]*\))*"  # of a link, which may be a figure
LINK = re.compile(rf"(?P<figure>!?)\[(?P<words>{WORDS})\]\((?P<target>[^()\s]+)\)")
SLOT = "\x00{}\x00"  # holds the place of code


def repository(root: pathlib.Path = ROOT) -> str:
    """The address of the repository in pyproject.toml, or "" while there is none."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["scaling"]["repository"].rstrip("/")


def sources(root: pathlib.Path = ROOT) -> dict[str, str]:
    """{path of a Markdown file in the repository: path of its page in the site}."""
    pages = (path.relative_to(root / "docs").as_posix() for path in sorted((root / "docs").rglob("*.md")))
    return HOMES | {f"docs/{page}": page for page in pages}


def slug(heading: str, separator: str = "-") -> str:
    """The name of a heading in links, as GitHub makes it: "From CSV, quickly" is "from-csv-quickly"."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", separator)


def rewritten(text: str, source: str, address: str) -> str:
    """The Markdown of a page with the links of the site.

    source: its path in the repository. address: that of the repository, "" for none. Code stays as it is.
    """
    kept: list[str] = []

    def keep(match: re.Match) -> str:
        kept.append(match[0])
        return SLOT.format(len(kept) - 1)

    def put_back(text: str) -> str:
        return re.sub(SLOT.format(r"(\d+)"), lambda match: kept[int(match[1])], text)

    def replaced(match: re.Match) -> str:
        words = LINK.sub(replaced, match["words"])
        return _link(match["figure"], put_back(words), match["target"], source, address)

    return put_back(LINK.sub(replaced, CODE.sub(keep, text)))


def links(text: str) -> list[str]:
    """The targets of all links and figures of a page."""
    found = []
    for match in LINK.finditer(CODE.sub("", text)):
        found += [*links(match["words"]), match["target"]]
    return found


def _link(figure: str, words: str, target: str, source: str, address: str) -> str:
    if ADDRESS.match(target):
        return f"{figure}[{words}]({target})"
    path, mark, anchor = target.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if (page := _page(path)) is not None:
        here = posixpath.dirname(_page(source) or "")
        return f"{figure}[{words}]({posixpath.relpath(page, here or '.')}{mark}{anchor})"
    if address:
        return f"{figure}[{words}]({address}/blob/main/{path}{mark}{anchor})"
    name = f"`{path}`"
    return words if name in words or path in words else f"{words} ({name})"


def _page(path: str) -> str | None:
    """The page, or other file, of the site for a path of the repository; None for a file that is not there."""
    return HOMES.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
