"""The reference of the public names, as Markdown with directives of mkdocstrings, which reads signatures and docstrings.

The public names are those of `__all__` in the faces: the packages of scaling/ that offer names of their modules.
"""

import ast
import inspect
import pathlib
import pkgutil
from collections.abc import Mapping

ROOT = pathlib.Path(__file__).parents[1]


def faces(root: pathlib.Path = ROOT) -> dict[str, list[str]]:
    """{package: the names in its `__all__`, sorted} of every package that has some."""
    found = {}
    for path in sorted((root / "scaling").rglob("__init__.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
                found[".".join(path.parent.relative_to(root).parts)] = sorted(ast.literal_eval(node.value), key=str.lower)
    return found


def page_name(face: str) -> str:
    """The file of the page of a face: that of scaling.laws is laws.md."""
    return f"{face.removeprefix('scaling.').replace('.', '_')}.md"


def api_page(face: str, names: list[str], others: dict[str, list[str]]) -> str:
    """The page of a face. Names that are faces themselves are links to their pages, which `others` has.

    Modules, classes and functions are shown by mkdocstrings; other names with their values.
    """
    own = "{members: false, show_root_heading: false, show_root_toc_entry: false}"
    parts = [f"# {face}\n\n::: {face}\n    options: {own}\n"]
    for name in names:
        full = f"{face}.{name}"
        value = pkgutil.resolve_name(full)
        if full in others:
            parts.append(f"## {name}\n\nIt has [a page of its own]({page_name(full)}).\n")
        elif inspect.ismodule(value) or inspect.isroutine(value) or isinstance(value, type):
            parts.append(f"::: {full}\n")
        else:
            parts.append(f"## {name}\n\n{_described(value)}\n")
    return "\n".join(parts)


def _described(value) -> str:
    """A constant in words."""
    if isinstance(value, Mapping):
        return f"A {type(value).__name__} with the keys " + ", ".join(f"`{key}`" for key in value) + "."
    return f"`{value!r}`"
