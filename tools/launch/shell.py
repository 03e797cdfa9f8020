"""Words for bash: quoted so that they arrive as they are, on one line, through any number of shells."""

import shlex
from collections.abc import Iterable


def quote(word: str, escape: str = "") -> str:
    """`word` for bash. What is not printable, and any character of `escape`, is written as bytes: $'a\\x0ab'.

    So the result never has a newline, and can stand in a here-document, a YAML block or a terminal.
    """
    if word.isprintable() and not set(word) & set(escape):
        return shlex.quote(word)
    return "$'" + "".join(
        c if c.isprintable() and c not in "\\'" + escape
        else "".join(f"\\x{byte:02x}" for byte in c.encode("utf-8", "surrogateescape")) for c in word) + "'"


def join(words: Iterable[str], escape: str = "") -> str:
    return " ".join(quote(word, escape) for word in words)


def bash(script: str) -> str:
    """A script of one line for whatever shell logs in at the other end: bash -c '...'."""
    return join(["bash", "-c", script])
