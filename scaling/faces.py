"""Names that are imported when they are first used: those of packages, and classes in files of the same name.

A face is a package that offers the names of its modules (PEP 562).

    if TYPE_CHECKING:  # the names, for people, type checkers and `lazy` alike
        from scaling.laws.fitting.search import fit

    __getattr__, __dir__ = lazy(__name__)
    __all__ = ["fit"]

So a command loads what it uses, and not every room below it. The library `lazy_loader` does the same, but wants each name
twice, or a stub file beside each face.
"""

import ast
import functools
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from typing import Any


def lazy(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package that imports its names under `if TYPE_CHECKING:`."""
    found: dict[str, tuple[str, str]] = {}

    def offered(name: str) -> Any:
        if name.startswith("__"):  # which import machinery and debuggers ask every module for
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if not found:
            found.update(_names(package))
        if name not in found:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it offers {', '.join(found)}")
        module, original = found[name]
        value = None if module == package else getattr(importlib.import_module(module), original, None)
        if value is None:
            value = importlib.import_module(f"{module}.{original}")
        setattr(sys.modules[package], name, value)
        return value

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *_names(package)})

    return offered, listed


def _names(package: str) -> dict[str, tuple[str, str]]:
    """{name: (module, its name there)} of the imports under `if TYPE_CHECKING:` in the source of a package."""
    loader = importlib.util.find_spec(package).loader
    blocks = [node.body for node in ast.parse(loader.get_source(package)).body
              if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"]
    imports = [node for body in blocks for node in body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: (node.module or package, alias.name) for node in imports for alias in node.names}


class ByFile:
    """The classes of a package whose file `wavenet.py` holds the class `WaveNet` (in any capitals).

    Files whose names start with an underscore are parts of the others.
    """

    def __init__(self, package: str):
        self.package = package

    @functools.cached_property
    def modules(self) -> dict[str, str]:
        """{name of a class in small letters: name of its file}, in the order of file names."""
        folders = importlib.util.find_spec(self.package).submodule_search_locations
        found = sorted(module.name for module in pkgutil.iter_modules(folders))
        return {name.replace("_", ""): name for name in found if not name.startswith("_")}

    @functools.cached_property
    def classes(self) -> tuple[type, ...]:
        return tuple(map(self.load, self.modules))

    def load(self, name: str) -> type:
        """The class of this name, a key of `modules`."""
        module = importlib.import_module(f"{self.package}.{self.modules[name]}")
        for given, value in vars(module).items():
            if isinstance(value, type) and given.lower() == name:
                return value
        raise ImportError(f"{module.__file__} must define a class called {name!r} in any capitals")
