"""What cells of a table say: a number, yes or no, nothing, or a text.

Numbers may have decimal commas or points, digits in groups of three, and the suffixes K, M, B (or G) and T. A cell that
could be two numbers, such as 1,234, is decided by its column and then by its table, and is refused where those do not say.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from scaling.laws.forms.form import LawError

EMPTY = {"", "na", "n/a", "#n/a", "#na", "<na>", "nan", "null", "none", "nil"}  # in any column
GAPS = EMPTY | {"-", "--", "—", "–", "?", ".", "-nan", "+nan", "#div/0!", "#num!", "#value!", "#ref!", "1.#qnan", "1.#ind"}
INFINITE = {"inf": np.inf, "+inf": np.inf, "-inf": -np.inf, "infinity": np.inf, "+infinity": np.inf,
            "-infinity": -np.inf, "∞": np.inf, "-∞": -np.inf, "1.#inf": np.inf, "-1.#inf": -np.inf}
WORDS = {word: value for value, words in ((True, ("true", "t", "yes", "y", "1", "1.0")),
                                          (False, ("false", "f", "no", "n", "0", "0.0"))) for word in words}
SUFFIXES = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
SHAPE = re.compile(r"(?P<sign>[-+]?)(?P<digits>[\d.,_' \u00a0\u202f]*\d[.,]?)(?P<power>e[-+]?\d+)?\s*(?P<suffix>[kmbgt]?)",
                   re.IGNORECASE)
EXACT = 2 ** 63   # integers from here on do not fit int64
SHOWN = 4         # values that a sentence shows


class CellError(ValueError):
    """A cell that is no number: its place in the column, why, and whether it may be two numbers."""

    def __init__(self, place: int, reason: str, doubtful: bool = False):
        super().__init__(reason)
        self.place, self.doubtful = place, doubtful


class Doubtful(ValueError):
    """A text that may be two numbers."""


def is_gap(cell) -> bool:
    """Whether a cell of any type holds no value."""
    if isinstance(cell, str):
        return cell.strip().lower() in GAPS
    return cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, (float, np.floating)) and np.isnan(cell))


def _shape(text: str):
    return SHAPE.fullmatch(text.strip().replace("−", "-"))


def looks_numeric(text: str) -> bool:
    """Whether a text could be a number, whatever its decimal sign."""
    return text.strip().lower() in INFINITE or _shape(text) is not None


def _evidence(text: str) -> str:
    """The decimal sign that a numeric text shows, "." or ","; "?" for a comma that may be either; "" for none."""
    found = _shape(text)
    if found is None:
        return ""
    digits = found["digits"]
    commas, points = digits.count(","), digits.count(".")
    if commas and points:
        return max(",.", key=digits.rfind)
    for sign, other, count in ((",", ".", commas), (".", ",", points)):
        if count > 1:
            return other if re.fullmatch(rf"\d{{1,3}}(?:\{sign}\d{{3}})+", digits) else ""
        if count == 1 and not re.fullmatch(rf"[1-9]\d{{0,2}}\{sign}\d{{3}}", digits):
            return sign
    return "?" if commas else ""


def decimal_sign(texts: Iterable[str], otherwise: str = "") -> str:
    """The decimal sign that the numbers of a column show; `otherwise` if they show none; "?" if they show two."""
    seen = {_evidence(text) for text in texts} - {""}
    clear = seen - {"?"}
    if len(clear) > 1:
        return "?"
    return clear.pop() if clear else otherwise or ("?" if seen else "")


def _groups_points(texts: Iterable[str]) -> bool:
    """Whether points divide thousands in a column: some number has several, or one before a comma."""
    shapes = [found["digits"] for found in map(_shape, texts) if found]
    return any(digits.count(".") > 1 or 0 <= digits.find(".") < digits.find(",") for digits in shapes)


def _number(text: str, decimal: str, grouped: bool) -> int | float:
    """The number of a text. Raises ValueError, in words, if it is none or may be two. grouped: see `_groups_points`."""
    plain = text.strip().replace("−", "-").lower()
    if plain in INFINITE:
        return INFINITE[plain]
    found = _shape(text)
    if found is None:
        raise ValueError("it is no number")
    digits = found["digits"]
    if decimal == "?" and "," in digits:
        raise Doubtful("its comma may be a decimal sign or divide thousands")
    group = "," if decimal != "," else "."
    if decimal == "," and digits.count(".") == 1 and "," not in digits and not grouped:
        raise Doubtful("its point may be a decimal sign or divide thousands, since other numbers have decimal commas")
    whole, sign, rest = digits.partition("," if decimal == "," else ".")
    for mark in (group, " ", "\u00a0", "\u202f", "'", "_"):
        if re.fullmatch(rf"\d{{1,3}}(?:{re.escape(mark)}\d{{3}})+", whole):
            whole = whole.replace(mark, "")
    if not re.fullmatch(r"\d*", whole) or not re.fullmatch(r"\d*", rest):
        raise ValueError("it is no number")
    power, suffix = found["power"] or "", found["suffix"].lower()
    if not (sign or power or suffix):
        return int(found["sign"] + whole)
    value = float(f"{found['sign']}{whole or '0'}{sign and '.'}{rest}{power}") * SUFFIXES.get(suffix, 1.0)
    if np.isinf(value):
        raise ValueError("it is too large for a number")
    return value


def to_numbers(cells: Sequence, otherwise: str = "") -> np.ndarray:
    """The numbers of a column's cells, [n], int64 or float64; NaN where there is none.

    Cells are numbers or texts. otherwise: the decimal sign of the table, for a column that shows none. Raises CellError at
    the first cell that is no number.
    """
    texts = [cell for cell in cells if isinstance(cell, str) and not is_gap(cell)]
    decimal, grouped, values, whole = decimal_sign(texts, otherwise), _groups_points(texts), [], True
    for place, cell in enumerate(cells):
        if is_gap(cell):
            value = np.nan
        elif isinstance(cell, str):
            try:
                value = _number(cell, decimal, grouped)
            except ValueError as error:
                raise CellError(place, f"{cell!r}: {error}", isinstance(error, Doubtful)) from None
        elif isinstance(cell, (complex, np.complexfloating)) or not hasattr(cell, "__float__"):
            raise CellError(place, f"{cell!r}: it is no number")
        else:
            value = cell
        exact = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        whole = whole and exact and abs(int(value)) < EXACT
        values.append(value)
    if whole and values:
        return np.array([int(value) for value in values], np.int64)
    return np.array([_float(value) for value in values], float)


def _float(value) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond 1e308
        return np.inf if value > 0 else -np.inf


def column_of(cells: Sequence, otherwise: str = "") -> np.ndarray:
    """A column of its cells: numbers or true and false if all cells are, else objects; missing cells are NaN.

    Raises CellError for a number that may be two.
    """
    present = [cell for cell in cells if not is_gap(cell)]
    said = [str(cell).strip().lower() for cell in present]
    if present and set(said) <= {"true", "false"}:
        values = [np.nan if is_gap(cell) else str(cell).strip().lower() == "true" for cell in cells]
        return np.array(values, bool if len(present) == len(cells) else object)
    try:
        return to_numbers(cells, otherwise)
    except CellError as error:
        if error.doubtful:
            raise
        out = np.empty(len(cells), object)
        for place, cell in enumerate(cells):
            out[place] = np.nan if (cell.strip().lower() in EMPTY if isinstance(cell, str) else is_gap(cell)) else cell
        return out


def numeric(column: pd.Series) -> np.ndarray:
    """The numbers of a column of any type, [n] of float64. Raises CellError for what is no number, dates too."""
    if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_timedelta64_dtype(column):
        raise CellError(0, f"{str(column.iloc[0])!r}: it is a time") if len(column) else CellError(0, "it holds times")
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column):
        return column.to_numpy(float, na_value=np.nan)
    return to_numbers(column.tolist()).astype(float)


def truths(column: pd.Series, said: str, advice: str) -> pd.Series:
    """A column as people write yes and no, nullable; what is missing is neither. `said` and `advice` are for LawError."""
    values, odd = [], []
    for cell in column.tolist():
        word = str(cell).strip().lower()
        if is_gap(cell):
            values.append(pd.NA)
        elif word in WORDS:
            values.append(WORDS[word])
        else:
            odd.append(cell)
    if odd:
        shown = [f"{cell:g}" if isinstance(cell, float) else repr(cell) for cell in dict.fromkeys(odd)]
        more = ", ..." if len(shown) > SHOWN else ""
        raise LawError(f"{said} is not true or false: it has the values {', '.join(shown[:SHOWN])}{more}; {advice}")
    return pd.Series(pd.array(values, dtype="boolean"), column.index)
