"""The kinds of data of this package, found by the names of their files."""

import dataclasses

from scaling import families
from scaling.experiment.kinds._kind import DataKind
from scaling.faces import ByFile
from scaling.fields import ConfigError, build, nearest, shown

_KINDS = ByFile("scaling.experiment.kinds")


def find_kind(name: str) -> type:
    """The class of the kind called `name`: `find_kind("text")`."""
    if name not in _KINDS.modules:
        raise ConfigError(f"no kind of data is called {shown(name)}; {nearest(str(name), _KINDS.modules)}")
    return _KINDS.load(name)


def kind_read(family, kind: str = "") -> type:
    """The class of the kind that a family, or its class, reads: the one called `kind`, or else its first.

    Raises a ConfigError if the family reads no such kind.
    """
    known = families.reads(family)
    if kind and kind not in known:
        raise ConfigError(f"data.kind={shown(kind)} is not what a {families.name(family)} reads; write "
                          f"{' or '.join(known)}")
    return find_kind(kind or known[0])


def said_kind(family, data) -> dict:
    """{"kind": the name of the kind} of data that are not of the first kind that the family reads, else {}."""
    kind = type(data).__name__.lower()
    return {"kind": kind} if kind != families.reads(family)[0] else {}


def determined(family, data) -> dict:
    """{field of a family: its value} of what data determine. Fields that only another kind of data which the family reads
    determines have their defaults: a family that reads texts with labels and without has no classes without."""
    others = {name for kind in families.reads(family) for name in find_kind(kind)().family_fields()}
    own = {f.name: f.default for f in dataclasses.fields(family) if f.name in others}
    return own | data.family_fields() if len(families.reads(family)) > 1 else data.family_fields()


def build_data(family, values) -> DataKind:
    """The data of these values of fields, and of "kind" where the family reads several."""
    values = dict(values)
    return build(kind_read(family, values.pop("kind", "")), values, "data.")
