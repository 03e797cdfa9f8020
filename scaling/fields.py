"""Fields of the frozen dataclasses that make an experiment: their values, their ranges, and the errors about wrong ones.

* `static` fields change shapes or the program (sizes, batch, optimiser): experiments that differ in them are different
  compiled programs;
* `knob` fields leave every shape alone (seed, learning rate, ...): they are arguments of the program, so experiments that
  differ only in them share one program and can be packed with `vmap`;
* `how` fields say how a result is computed, not which (feeding, microbatches, rematerialisation): they are part of the
  program but not of the run's name.

A field declares beside its default which values it takes, as in `knob(0.9, least=0, below=1)`.
`convert_fields` turns numbers of any library into Python's own, and `check_fields` refuses all other values.
"""

import contextlib
import dataclasses
import decimal
import difflib
import math
import numbers
import os
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

LISTED = 24  # names that an error lists, where none is near
SMALLEST = float(np.finfo(np.float32).tiny)  # smaller numbers are zero on most devices
WANTED = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}  # types of fields, in words
GIVEN = {bool: "True or False", int: "a number", float: "a number", str: "text", types.NoneType: "empty"}


class ConfigError(ValueError):
    """A configuration that cannot be run; the message says which field and what to write instead."""


class DataError(ValueError):
    """The data asked for does not exist, is empty or too small; the message says what to write instead."""


class EvaluateError(ValueError):
    """A feature space that cannot be used, or samples that cannot be judged; the message says what to write instead."""


# ---------------------------------------------------------------------------------------- declarations


@dataclasses.dataclass(frozen=True)
class Limits:
    """The values that a field takes: numbers from `least` (or above `above`) to `most` (or below `below`), or `choices`.

    `meaning` says in words what the number is, where people often take it for something else.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    choices: tuple = ()
    meaning: str = ""

    def hold(self, value) -> bool:
        """True if the number is within the range, and also as float32, in which programs compute."""
        rounded = value if isinstance(value, int) else float(_float32(value))
        return all((self.least is None or x >= self.least) and (self.above is None or x > self.above)
                   and (self.most is None or x <= self.most) and (self.below is None or x < self.below)
                   for x in (value, rounded))

    @property
    def text(self) -> str:
        """The range in words: "from 0 to 1", "at least 0 and below 1", "above 0"."""
        if self.least is not None and self.most is not None:
            return f"from {self.least} to {self.most}"
        parts = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        return " and ".join(f"{word} {value}" for word, value in parts.items() if value is not None)


def static(default, later=False, **limits):
    """A field that is part of the compiled program; the keywords are those of `Limits`. A `later` one is younger than the
    names of runs: at its default it is no part of them."""
    return dataclasses.field(default=default, metadata={"later": later, "limits": Limits(**limits)})


def knob(default, **limits):
    """A field that is an argument of the compiled program."""
    return dataclasses.field(default=default, metadata={"knob": True, "limits": Limits(**limits)})


def how(default, also=types.MappingProxyType({}), **limits):
    """A field that is part of the program but not of the run's name. `also` maps older spellings of its values to them."""
    return dataclasses.field(default=default, metadata={"how": True, "also": also, "limits": Limits(**limits)})


# ------------------------------------------------------------------------------------------- numbers


def is_traced(value) -> bool:
    """True for an abstract value of a program that JAX is tracing, as knobs are there."""
    jax = sys.modules.get("jax")  # without JAX nothing is traced, and reading a page need not import it
    return jax is not None and isinstance(value, jax.core.Tracer)


def python_value(value, wanted: type = object):
    """A scalar of any library as a plain Python value, as `wanted` (int or float) where the two are equal.

    A number of lower precision becomes the shortest decimal that it stands for: np.float32(0.001) is 0.001, which rounds
    to it, and to which NumPy says that it is equal. Traced values and what is no scalar stay.
    """
    if is_traced(value) or value is None or type(value) is bool:
        return value
    if isinstance(value, (str, os.PathLike)):
        return str(os.fspath(value)) if isinstance(os.fspath(value), str) else value
    if getattr(value, "shape", None) == () and hasattr(value, "dtype"):
        scalar = np.asarray(value)[()]
        kind = scalar.dtype.kind
        value = scalar.item() if kind in "biuU" else _shortest(scalar) if kind in "fV" else value  # V is bfloat16
    elif isinstance(value, (numbers.Real, decimal.Decimal)) and type(value) not in (int, float):
        with contextlib.suppress(OverflowError, ValueError):  # fractions beyond every float, and decimals that signal
            value = int(value) if isinstance(value, numbers.Integral) else float(value)
    if wanted is int and type(value) is float and value.is_integer():
        return int(value)
    if wanted is float and type(value) is int and abs(value) < 2**1000:
        return float(value)
    return value


def _shortest(scalar):
    """The shortest decimal that a floating-point scalar of NumPy stands for; what is no such scalar stays."""
    try:
        number = float(scalar)
    except (TypeError, ValueError):
        return scalar
    candidates = (float(f"{number:.{digits}g}") for digits in range(1, 17))
    return next((x for x in candidates if scalar.dtype.type(x) == scalar), number) if math.isfinite(number) else number


def shown(value) -> str:
    """A value as it is written in Python, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python does not write integers of thousands of digits
        return f"<a {type(value).__name__} of thousands of digits>"
    return text if len(text) <= 80 else f"{text[:60]}..."


# ----------------------------------------------------------------------------------- conversion and checks


def convert_fields(node):
    """Turns the numbers of a frozen dataclass that was just made into Python's own: NumPy's, JAX's, 2e6 for an integer.

    Equal values are then one value, whatever library they came from. Traced values stay.
    """
    for f in dataclasses.fields(node):
        kinds, _ = _kinds(f)
        if kinds:
            object.__setattr__(node, f.name, _spelled(python_value(getattr(node, f.name), kinds[0]), f))


def check_fields(node, prefix: str = ""):
    """Raises a ConfigError for the first field of a dataclass whose value has the wrong type or is out of its range.

    The sentence names the dotted field, the value, what is wrong, and what to write. Traced values pass.
    """
    checked_values(type(node), fields(node), prefix)


def _spelled(value, f):
    """The value for which a field has this other spelling, or the value itself."""
    return f.metadata.get("also", {}).get(str(value), value) if type(value) in (bool, str) else value


def _kinds(f) -> tuple[tuple[type, ...], bool]:
    """(types of a field's values, whether it may be None); no types for a field that holds another dataclass."""
    given = typing.get_args(f.type) if isinstance(f.type, types.UnionType) else (f.type,)
    return tuple(kind for kind in given if kind in WANTED), types.NoneType in given


def _wrong(value, f) -> str:
    """What is wrong with a value of a field, and what to write instead; '' if nothing is."""
    kinds, optional = _kinds(f)
    if value is None and optional:
        return ""
    limits = f.metadata.get("limits", Limits())
    if type(value) not in kinds:
        found = GIVEN.get(type(value), f"a {type(value).__name__}")
        found = "not whole" if kinds == (int,) and type(value) is float else found
        return f"is {found}; write {' or '.join(WANTED[kind] for kind in kinds)}, {_example(f, limits)}"
    if limits.choices:
        return "" if value in limits.choices else f"is not known; {nearest(str(value), map(str, limits.choices))}"
    if type(value) is str:
        return "holds a character that no file name can have; leave it out" if "\0" in value else ""
    if type(value) is bool:
        return ""
    meaning = f"it is {limits.meaning}; " if limits.meaning else ""
    if type(value) is float and not math.isfinite(_float32(value)):
        return f"is not a finite number (of float32); {meaning}write a number {limits.text}, {_example(f, limits)}"
    if type(value) is float and 0 < abs(value) < SMALLEST:
        return f"is so small that float32 takes it for 0; write 0 or at least {SMALLEST:.2g}, {_example(f, limits)}"
    if not limits.hold(value):
        return f"is out of range; {meaning}write a number {limits.text}, {_example(f, limits)}"
    return ""


def _example(f, limits) -> str:
    default = f.default if f.default not in (dataclasses.MISSING, None, "") else None
    if default is None:
        return f"such as {limits.least or 1}" if int in _kinds(f)[0] else "or leave it out"
    return f"such as {default!r}"


def _float32(value: float):
    with np.errstate(over="ignore", under="ignore"):
        return np.float32(value)


# --------------------------------------------------------------------------------------- whole dataclasses


def checked_values(cls, values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of fields of a dataclass as Python's own. Raises a ConfigError for the first that is wrong, or of no field."""
    known, found = {f.name: f for f in dataclasses.fields(cls)}, {}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"no field {prefix}{name} in {cls.__name__}; {nearest(str(name), known)}")
        kinds, _ = _kinds(known[name])
        found[name] = _spelled(python_value(value, kinds[0]), known[name]) if kinds else value
        if kinds and not is_traced(value) and (wrong := _wrong(found[name], known[name])):
            raise ConfigError(f"{prefix}{name}={shown(found[name])} {wrong}")
    return found


def build(cls, values: Mapping[str, Any], prefix: str):
    """`cls(**values)`. Raises a ConfigError that names `prefix` and the nearest fields for a value of no field."""
    names = [f.name for f in dataclasses.fields(cls)]
    for name in values:
        if name not in names:
            raise ConfigError(f"no field {prefix}{name} in {cls.__name__}; {nearest(str(name), names)}")
    return cls(**values)


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


def replace(node, changes: Mapping[str, Any], prefix: str = ""):
    """A copy of a (nested) dataclass with dotted fields changed, all at once. Raises a ConfigError for an unknown field.

    `prefix` is the path of `node` itself, for the error.
    """
    own, inner, names = {}, {}, fields(node)
    for path, value in changes.items():
        first, _, rest = str(path).partition(".")
        if first not in names or (rest and not dataclasses.is_dataclass(names[first])):
            raise ConfigError(f"no field {prefix + str(path)!r} in {type(node).__name__}; {nearest(first, names)}")
        if rest:
            inner.setdefault(first, {})[rest] = value
        else:
            own[first] = value
    own |= {name: replace(own.get(name, names[name]), below, f"{prefix}{name}.") for name, below in inner.items()}
    return dataclasses.replace(node, **own)


def leaves(node, prefix="") -> dict[str, tuple[Any, str]]:
    """{dotted path: (value, kind)} of every leaf field; kind is "plain", "knob" or "how". Fields that are declared "apart",
    which hold another experiment, are left out."""
    out = {}
    for f in (f for f in dataclasses.fields(node) if not f.metadata.get("apart")):
        value = getattr(node, f.name)
        if dataclasses.is_dataclass(value):
            out |= leaves(value, f"{prefix}{f.name}.")
        else:
            kind = "knob" if f.metadata.get("knob") else "how" if f.metadata.get("how") else "plain"
            out[prefix + f.name] = (value, kind)
    return out
