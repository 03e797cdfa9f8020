"""The families of this package, found by the names of their files, and the kinds of data that they read."""

from scaling.faces import ByFile
from scaling.fields import ConfigError, nearest, shown

_FAMILIES = ByFile("scaling.families")


def all() -> tuple[type, ...]:
    """Every family class in this package, in the order of file names."""
    return _FAMILIES.classes


def find(name: str) -> type:
    """The family class called `name`, in any capitals: `find("transformer")`."""
    known = str(name).lower()
    if known not in _FAMILIES.modules:
        raise ConfigError(f"no family is called {shown(name)}, as in family.name=; {nearest(known, _FAMILIES.modules)}")
    return _FAMILIES.load(known)


def name(family) -> str:
    """The name of a family or of its class, as `find` takes it."""
    return (family if isinstance(family, type) else type(family)).__name__.lower()


def reads(family) -> tuple[str, ...]:
    """The names of the kinds of data that a family or its class can train on; the first is the one that configs take."""
    return (family.reads,) if isinstance(family.reads, str) else tuple(family.reads)
