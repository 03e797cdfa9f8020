"""What is said when the data is not as asked."""
import difflib
from collections.abc import Iterable


class DataError(ValueError):
    """The data asked for does not exist, is empty or too small; the message says what to write instead."""


def nearest(name: str, names: Iterable[str], count: int = 3) -> str:
    """'; did you mean a or b?' for the names closest to `name`, or '' where none is close."""
    close = difflib.get_close_matches(name, list(names), count, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""
