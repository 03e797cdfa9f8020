"""The generated reference has every field, command, flag and public name; no link of the site leads nowhere.

The pages are made here as the site makes them, but without MkDocs, which `.ci/run docs` runs.
"""

import dataclasses
import posixpath
import re

import pytest
import test_structure
import yaml

from experiments.__main__ import commands
from scaling import experiment, families
from scaling.experiment.experiment import StudyFields
from scaling.fields import how, knob, static
from tools import _docs_hooks, _docs_links, _reference_api, _reference_commands, _reference_fields

ROOT = test_structure.ROOT
ADDRESS = "https://code.example.org/scaling"
DEFINED = re.compile(r"\b(?:DEFINE_\w+\(|add_argument\()\s*\"(?:--)?(\w+)\"")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def pages():
    """{path in the site: Markdown} of the generated pages."""
    return _docs_hooks.generated()


def section(page, title):
    """What stands on a page under a heading."""
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text):
    """{flag: its other cells} of the tables of a text."""
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| `--")]
    return {name.strip(" `-"): [cell.strip() for cell in rest] for name, *rest in cells}


# ------------------------------------------------------------------------------------------------ fields


FIELDS = [*(("families", families.name(cls), cls, "family.") for cls in families.all()),
          *(("data", cls.__name__.lower(), cls, "data.") for cls in _reference_fields.kinds()),
          ("fields", "The study", StudyFields, ""), ("fields", "The experiment", experiment.Experiment, ""),
          ("fields", "The optimiser", experiment.Optim, "optim.")]


@pytest.mark.parametrize("page,title,cls,prefix", FIELDS, ids=[title for _, title, _, _ in FIELDS])
def test_every_field_has_a_row_with_its_values_and_its_meaning(pages, page, title, cls, prefix):
    found = rows(section(pages[f"reference/{page}.md"], title))
    assert list(found) == [f"config.{prefix}{f.name}" for f in dataclasses.fields(cls)]
    for name, (values, default, meaning, effect) in found.items():
        assert values and meaning and effect, f"{name} needs a comment, or meaning=, where it is declared"
        assert default or "](" in values, name  # a group of fields is a link to them


@dataclasses.dataclass(frozen=True)
class Declared:
    """A class. The `quoted` field is told here."""

    # above it
    above: int = static(2**20, least=1, most=2**20)
    behind: float | None = knob(None, above=0, meaning="a share")  # behind it
    quoted: str = how("a", choices=("a", "b|c"))
    bare: bool = static(True)


def test_a_row_says_what_the_declaration_says():
    assert _reference_fields.rows(Declared, "x.") == [
        "| `--config.x.above` | int from 1 to 2^20 | `1048576` | above it | changes the program |\n",
        "| `--config.x.behind` | float or None above 0 | `None` | a share; behind it | can be swept in one program |\n",
        "| `--config.x.quoted` | `a`, `b|c` | `a` | The `quoted` field is told here. | does not change results |\n"
        .replace("b|c", r"b\|c"),
        "| `--config.x.bare` | bool | `True` |  | changes the program |\n"]


def test_the_default_of_a_family_is_that_of_its_config():
    found = rows("".join(_reference_fields.family_rows(families.find("transformer"))))
    defaults = {name.removeprefix("config.family."): default for name, (_, default, *_) in found.items()}
    assert defaults["width"] == _reference_fields.BY_SIZE and defaults["vocab"] == _reference_fields.BY_DATA
    assert defaults["norm"] == "`rmsnorm`" and defaults["remat"] == "`none`"


# ---------------------------------------------------------------------------------------------- commands


def test_every_command_has_a_section_in_the_order_of_the_help(pages):
    shown = re.findall(r"^## scaling (\w+)$", pages["reference/commands.md"], re.MULTILINE)
    assert shown == list(commands())
    tools = [name for name in _reference_commands.command_paths() if name.startswith("tools.")]
    assert re.findall(r"^## python -m ([\w.]+)$", pages["reference/tools.md"], re.MULTILINE) == tools and len(tools) > 10


@pytest.mark.parametrize("module", _reference_commands.command_paths())
def test_every_flag_that_a_command_defines_is_in_its_section(pages, module):
    page, title = (("commands", f"scaling {module.partition('.')[2]}") if module.startswith("experiments.")
                   else ("tools", f"python -m {module}"))
    said = section(pages[f"reference/{page}.md"], title)
    defined = DEFINED.findall(_reference_commands.command_paths()[module].read_text())
    assert set(defined) <= set(rows(said)) and said.strip()


def test_flags_that_commands_share_and_their_defaults_are_shown(pages):
    found = rows(section(pages["reference/commands.md"], "scaling fit"))
    assert {"points", "bootstrap", "output"} <= set(found) and found["bootstrap"][0] == "`1000`"
    assert {"dry_run", "cluster"} <= set(rows(section(pages["reference/tools.md"], "python -m tools.launch.gke")))


# ------------------------------------------------------------------------------------------ public names


def test_every_public_name_is_on_the_page_of_its_face(pages):
    found = _reference_api.faces()
    assert set(found) == set(test_structure.FACES)
    for face, names in found.items():
        page = pages[f"reference/api/{_reference_api.page_name(face)}"]
        shown = re.findall(rf"^(?:## |::: {re.escape(face)}\.)(\w+)$", page, re.MULTILINE)
        assert shown == names, face


# ------------------------------------------------------------------------------------------------- links


def anchors(text):
    """The names of the headings of a page."""
    words = [re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading) for heading in HEADING.findall(_docs_links.CODE.sub(_kept, text))]
    return {_docs_links.slug(each) for each in words}


def _kept(match):
    return "" if match[1] else match[0]  # only fenced blocks go


def site(pages, address):
    """{path in the site: Markdown with the links of the site} of all pages."""
    own = {page: _docs_links.rewritten((ROOT / source).read_text(), source, address)
           for source, page in _docs_links.sources().items()}
    return pages | own


@pytest.mark.parametrize("address", ["", ADDRESS], ids=["without a repository", "with one"])
def test_no_link_of_the_site_leads_nowhere(pages, address):
    whole, nowhere = site(pages, address), []
    for page, text in whole.items():
        for link in _docs_links.links(text):
            path, _, anchor = link.partition("#")
            if link.startswith(f"{ADDRESS}/blob/main/"):
                there = (ROOT / path.removeprefix(f"{ADDRESS}/blob/main/")).exists()
            elif re.match(r"https?://|mailto:", link):
                continue
            else:
                target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
                there = target in whole or (ROOT / "docs" / target).is_file()
                there = there and (not anchor or anchor in anchors(whole[target]))
            nowhere += [] if there else [f"{page}: {link}"]
    assert not nowhere and sum(len(_docs_links.links(text)) for text in whole.values()) > 150


@pytest.mark.parametrize("text,source,with_one,without", [
    ("[a](docs/laws.md#b)", "README.md", "[a](laws.md#b)", "[a](laws.md#b)"),
    ("[the README](../README.md)", "docs/gpu.md", "[the README](index.md)", "[the README](index.md)"),
    ("![a b](../figures/x.png)", "docs/claims/size.md", "![a b](../figures/x.png)", "![a b](../figures/x.png)"),
    ("[`a.py`](../configs/a.py)", "docs/gpu.md", f"[`a.py`]({ADDRESS}/blob/main/configs/a.py)", "`a.py` (`configs/a.py`)"),
    ("[`a/b.py`](a/b.py)", "README.md", f"[`a/b.py`]({ADDRESS}/blob/main/a/b.py)", "`a/b.py`"),
    ("[![a](docs/f.svg)](docs/colab.md)", "README.md", "[![a](f.svg)](colab.md)", "[![a](f.svg)](colab.md)"),
    ("[up](https://a.org/b.md) and [here](#c)", "README.md", *2 * ["[up](https://a.org/b.md) and [here](#c)"]),
    ("`[a](docs/b.md)`\n```\n[a](docs/b.md)\n```", "README.md", *2 * ["`[a](docs/b.md)`\n```\n[a](docs/b.md)\n```"]),
])
def test_links_become_those_of_the_site_and_code_stays(text, source, with_one, without):
    assert _docs_links.rewritten(text, source, ADDRESS) == with_one
    assert _docs_links.rewritten(text, source, "") == without


def test_the_navigation_has_every_page_once(pages):
    def leaves(node):
        if isinstance(node, str):
            return [node]
        return [leaf for each in (node.values() if isinstance(node, dict) else node) for leaf in leaves(each)]

    listed = leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(listed) == sorted(site(pages, ""))
