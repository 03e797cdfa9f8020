"""Fields of the frozen dataclasses that make an experiment, and the error messages about wrong ones.

* plain fields change shapes or the program (sizes, batch, optimiser): experiments that differ in them are different
  compiled programs;
* `knob` fields leave every shape alone (seed, learning rate, ...): they are arguments of the program, so experiments that
  differ only in them share one program and can be packed with `vmap`;
* `how` fields say how a result is computed, not which (feeding, microbatches, rematerialisation): they are part of the
  program but not of the run's name.
"""

import dataclasses
import difflib
from collections.abc import Iterable
from typing import Any

LISTED = 24  # names that an error lists, where none is near


class ConfigError(ValueError):
    """A configuration that cannot be run; the message says which field and what to write instead."""


class DataError(ValueError):
    """The data asked for does not exist, is empty or too small; the message says what to write instead."""


class EvaluateError(ValueError):
    """A feature space that cannot be used, or images that cannot be judged; the message says what to write instead."""


def knob(default):
    """A field that is an argument of the compiled program."""
    return dataclasses.field(default=default, metadata={"knob": True})


def how(default):
    """A field that is part of the program but not of the run's name."""
    return dataclasses.field(default=default, metadata={"how": True})


def at_defaults(node):
    """A copy of a dataclass with every `how` field at its default: which result it is, however it is computed."""
    return dataclasses.replace(node, **{f.name: f.default for f in dataclasses.fields(node) if f.metadata.get("how")})


def fields(node) -> dict[str, Any]:
    """{name: value} of a dataclass's fields."""
    return {f.name: getattr(node, f.name) for f in dataclasses.fields(node)}


def nearest(name: str, names: Iterable[str]) -> str:
    """"nearest: a, b" for the names closest to `name`, or "there are: ..." with the first names if none is close."""
    names = list(names)
    close = difflib.get_close_matches(name, names, n=5, cutoff=0.3)
    if close:
        return "nearest: " + ", ".join(close)
    shown = sorted(names)[:LISTED]
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return "there are: " + ", ".join(shown) + more


def did_you_mean(name: str, names: Iterable[str], count: int = 3) -> str:
    """'; did you mean a or b?' for the names closest to `name`, or '' if none is close."""
    close = difflib.get_close_matches(name, list(names), count, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def replace(node, changes: dict[str, Any]):
    """A copy of a (nested) dataclass with dotted fields changed. Raises a ConfigError for an unknown field."""
    for path, value in changes.items():
        node = _replace(node, path.split("."), value, path)
    return node


def _replace(node, parts, value, path):
    names = fields(node)
    if parts[0] not in names:
        raise ConfigError(f"no field {path!r} in {type(node).__name__}; {nearest(parts[0], names)}")
    if len(parts) > 1:
        value = _replace(getattr(node, parts[0]), parts[1:], value, path)
    return dataclasses.replace(node, **{parts[0]: value})


def leaves(node, prefix="") -> dict[str, tuple[Any, str]]:
    """{dotted path: (value, kind)} of every leaf field; kind is "plain", "knob" or "how"."""
    out = {}
    for f in dataclasses.fields(node):
        value = getattr(node, f.name)
        if dataclasses.is_dataclass(value):
            out |= leaves(value, f"{prefix}{f.name}.")
        else:
            kind = "knob" if f.metadata.get("knob") else "how" if f.metadata.get("how") else "plain"
            out[prefix + f.name] = (value, kind)
    return out
