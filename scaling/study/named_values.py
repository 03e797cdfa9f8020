"""Values by name in one text, as flags and fields of configs spell them: "E=1.69,alpha=0.34"."""

import re
from collections.abc import Callable
from typing import Any

PARTS = re.compile(r"(?:`[^`]*`|\([^)]*\)|[^,`])+")  # between commas that are not in a name or a call


def named_values(text: str | None, what: str, value: Callable[[str], Any] = float) -> dict[str, Any]:
    """"a=1,b=2" -> {"a": 1.0, "b": 2.0}. ValueError says which part is no such pair; `what` is the flag or field."""
    found: dict[str, Any] = {}
    for part in filter(None, PARTS.findall(text or "")):
        name, equals, given = (piece.strip() for piece in part.partition("="))
        try:
            if not (name and equals and given) or name in found:
                raise ValueError
            found[name] = value(given)
        except ValueError:
            raise ValueError(f"{what} takes name=value pairs separated by commas, each name once, and {part!r} is not such "
                             "a pair") from None
    return found
