"""Teachers by name: `zipf:1.5,contexts=4096` is the teacher `zipf` whose first field is 1.5, and whose other fields are as
named or at their defaults."""
import dataclasses
import functools

from scaling.data.known.grammar import Grammar
from scaling.data.known.hmm import HiddenMarkov
from scaling.data.known.raster import Raster
from scaling.data.known.repeats import Repeats
from scaling.data.known.zipf import Zipf
from scaling.fields import ConfigError, checked_values

TOKENS = {"zipf": Zipf, "hmm": HiddenMarkov, "grammar": Grammar, "repeats": Repeats}
IMAGES = {"teacher": Raster}


def token_teacher(name: str) -> Zipf | HiddenMarkov | Grammar | Repeats | None:
    """The teacher of tokens called `name`; None if it is the name of something else."""
    return _find(name, "tokens")


def image_teacher(name: str) -> Raster | None:
    """The teacher of images called `name`; None if it is the name of something else."""
    return _find(name, "images")


@functools.lru_cache(maxsize=64)
def _find(name: str, kind: str):
    first, _, rest = name.partition(":")
    cls = (TOKENS if kind == "tokens" else IMAGES).get(first)
    if cls is None:
        return None
    names, values = [f.name for f in dataclasses.fields(cls)], {}
    for place, part in enumerate(filter(None, rest.split(","))):
        field, equals, value = part.partition("=")
        if not equals and place:
            raise ConfigError(f"data.name={name!r}: {part!r} has no name; write <field>={part}, with one of "
                              f"{', '.join(names)}")
        field, value = (field, value) if equals else (names[0], field)
        if field in values:
            raise ConfigError(f"data.name={name!r} has {field} twice; write it once")
        try:
            values[field] = float(value)
        except ValueError:
            raise ConfigError(f"data.name={name!r}: {field}={value} is not a number; write a number, such as "
                              f"{field}={getattr(cls, field, 1)}") from None
    return cls(**checked_values(cls, values, f"data.name={name!r}: "))
