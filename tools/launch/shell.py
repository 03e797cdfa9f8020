"""Words quoted for bash, on one line, so that they arrive unchanged through any number of shells."""

import shlex
from collections.abc import Iterable


def quote(word: str, escape: str = "") -> str:
    """`word` quoted for bash. Characters that are not printable or are in `escape` are written as bytes: $'a\\x0ab'.

    The result never has a newline, so it can stand in a here-document, a YAML block or a terminal.
    """
    if word.isprintable() and not set(word) & set(escape):
        return shlex.quote(word)
    return "$'" + "".join(
        c if c.isprintable() and c not in "\\'" + escape
        else "".join(f"\\x{byte:02x}" for byte in c.encode("utf-8", "surrogateescape")) for c in word) + "'"


def join(words: Iterable[str], escape: str = "") -> str:
    return " ".join(quote(word, escape) for word in words)


def bash(script: str) -> str:
    """A script of one line as a command for any login shell: bash -c '...'."""
    return join(["bash", "-c", script])
