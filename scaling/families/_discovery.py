"""The families of this package, found by the names of their files."""

import functools
import importlib
import os
import pkgutil

from scaling.fields import ConfigError, nearest, shown


@functools.cache
def all() -> tuple[type, ...]:
    """Every family class in this package, in the order of file names."""
    modules = [module.name for module in pkgutil.iter_modules([os.path.dirname(__file__)])]
    return tuple(_load(module) for module in modules if not module.startswith("_"))


def find(name: str) -> type:
    """The family class called `name`, in any capitals: `find("transformer")`."""
    known = {cls.__name__.lower(): cls for cls in all()}
    if str(name).lower() not in known:
        raise ConfigError(f"no family is called {shown(name)}, as in family.name=; {nearest(str(name).lower(), known)}")
    return known[str(name).lower()]


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
