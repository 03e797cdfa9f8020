"""The families of this package, found by the names of their files."""

import functools
import importlib
import os
import pkgutil

from scaling.fields import ConfigError, nearest, shown


@functools.cache
def all() -> tuple[type, ...]:
    """Every family class in this package, in the order of file names."""
    return tuple(map(_load, _modules()))


def find(name: str) -> type:
    """The family class called `name`, in any capitals: `find("transformer")`."""
    known = {module.replace("_", ""): module for module in _modules()}
    if str(name).lower() not in known:
        raise ConfigError(f"no family is called {shown(name)}, as in family.name=; {nearest(str(name).lower(), known)}")
    return _load(known[str(name).lower()])


@functools.cache
def _modules() -> list[str]:
    """The names of the files of this package that hold a family."""
    names = [module.name for module in pkgutil.iter_modules([os.path.dirname(__file__)])]
    return [name for name in names if not name.startswith("_")]


def _load(module_name):
    """The family class in a file of this package."""
    module = importlib.import_module(f"scaling.families.{module_name}")
    wanted = module_name.replace("_", "")
    for name, value in vars(module).items():
        if isinstance(value, type) and name.lower() == wanted:
            return value
    raise ImportError(f"{module.__file__} must define the family's class, called {wanted!r} in any capitals")


def name(family) -> str:
    """The name of a family or of its class, as `find` takes it."""
    return (family if isinstance(family, type) else type(family)).__name__.lower()
