"""Text with a row a line, its cells divided by commas, semicolons, tabs, bars or spaces.

A cell belongs to the column whose name stands in its place. A row with more or fewer cells than the header is refused, with
two exceptions that are no doubt: a separator at the end of lines, and the row numbers of R's write.table, which quotes them
and every name, and gives their column no name.
"""
from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from scaling.laws.forms.form import LawError
from scaling.laws.tables.cells import CellError, column_of, decimal_sign, is_gap, looks_numeric

SEPARATORS = ("\t", ";", "|", ",", " ")
NAMES = {"\t": "tabs", ";": "semicolons", "|": "bars", ",": "commas", " ": "spaces"}
WORD = re.compile(r'"((?:[^"\\]|""|\\.)*)"(?=\s|$)|([^\s"]\S*)')
BLANK = re.compile(r"|:?-{3,}:?")  # cells of rows without a run: blank ones, and rules
R_NAME = re.compile(r'\s*"(\d+)"')        # a row name that R gave
QUOTED = re.compile(r'"[-+]?[\d.,]+(?:e[-+]?\d+)?"', re.IGNORECASE)  # a number in quotes
HINT = re.compile(r"sep=(.)\s*", re.IGNORECASE)  # a first line that tells Excel the separator


class Record(NamedTuple):
    """One row of the text: the number of its first line, that line, and its cells."""
    line: int
    text: str
    cells: list[str]


class Sheet(NamedTuple):
    """The text as one separator reads it. problem: why its rows do not fit its header, or ""."""
    separator: str
    header: list[str]
    rows: list[Record]
    problem: str
    comments: int


class _Lines:
    """The lines of a text, without comments. `fresh` says that a record begins, so that a quoted cell may hold a #."""

    def __init__(self, lines: list[str], comments: bool):
        self.lines, self.comments, self.number = lines, comments, 0
        self.fresh, self.first, self.said = True, 0, []

    def __iter__(self):
        return self

    def __next__(self) -> str:
        while self.number < len(self.lines):
            line = self.lines[self.number]
            self.number += 1
            if self.fresh and self.comments and line.lstrip().startswith("#"):
                self.said.append((self.number, line.strip()))
                continue
            if self.fresh:
                self.first, self.fresh = self.number, False
            return line
        raise StopIteration


def _records(lines: _Lines, separator: str, escaped: bool) -> Iterator[Record]:
    """The records that a separator gives, without blank lines. Raises ValueError for quotes that do not match."""
    if separator == " ":
        for line in lines:
            lines.fresh = True
            words, end = [], 0
            for match in WORD.finditer(line):
                if line[end:match.start()].strip():
                    break
                word = match[2] if match[1] is None else re.sub(r'\\(.)|"(")', r"\1\2", match[1])
                words.append(word)
                end = match.end()
            if line[end:].strip():
                raise ValueError(f"line {lines.first} has quotes that do not match")
            if words:
                yield Record(lines.first, line, words)
        return
    reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=separator != "\t",
                        escapechar="\\" if escaped else None)
    while True:
        lines.fresh = True
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"line {lines.first} has quotes that do not match, or a cell too long ({error})") from None
        if cells and (len(cells) > 1 or cells[0].strip() or '"' in lines.lines[lines.first - 1]):
            yield Record(lines.first, lines.lines[lines.first - 1], [cell.strip() for cell in cells])


def _sheet(lines: list[str], separator: str, comments: bool, escaped: bool) -> Sheet:
    source = _Lines(lines, comments)
    try:
        records = list(_records(source, separator, escaped))
    except ValueError as error:
        return Sheet(separator, [], [], str(error), 0)
    if not records:
        return Sheet(separator, [], [], "it holds no rows", len(source.said))
    header, rows, used = records[0].cells, records[1:], 0
    if _all_numbers(header):  # NumPy's savetxt writes the names into a comment
        above = [text for number, text in source.said if number < records[0].line]
        try:
            names = list(_records(_Lines([above[-1].lstrip("#")], False), separator, escaped)) if above else []
        except ValueError:
            names = []
        if not names or len(names[0].cells) != len(header) or _all_numbers(names[0].cells):
            return Sheet(separator, header, rows, "its first line holds numbers: it must name the columns", 0)
        header, rows, used = names[0].cells, records, 1
    rows = [row for row in rows if len(row.cells) == 1 or not all(BLANK.fullmatch(cell) for cell in row.cells)]
    header, rows = _trailing(header, rows)
    if rows and all(len(row.cells) == len(header) + 1 for row in rows) and _is_of_r(records[0], rows):
        header = ["", *header]
    wrong = next((row for row in rows if len(row.cells) != len(header)), None)
    problem = ""
    if wrong is not None:
        problem = (f"row {rows.index(wrong)} (line {wrong.line}) has {len(wrong.cells)} cells, but the header names "
                   f"{len(header)} columns ({', '.join(header)}; divided by {NAMES[separator]}): give every row a cell for "
                   "every column, and every column a name")
    return Sheet(separator, header, rows, problem, len(source.said) - used)


def _all_numbers(cells: list[str]) -> bool:
    return all(looks_numeric(cell) for cell in cells)


def _trailing(header: list[str], rows: list[Record]) -> tuple[list[str], list[Record]]:
    """Header and rows without separators at the end of lines."""
    while len(header) > 1 and not header[-1] and all(
            len(row.cells) < len(header) or not any(row.cells[len(header) - 1:]) for row in rows):
        header = header[:-1]
    if rows and all(len(row.cells) > len(header) for row in rows) and any(any(row.cells[len(header):]) for row in rows):
        return header, rows  # some row has a value there, so it is a column
    return header, [row._replace(cells=row.cells[:len(header)]) if not any(row.cells[len(header):]) else row
                    for row in rows]


def _is_of_r(header: Record, rows: list[Record]) -> bool:
    """Whether the first cells are row names as R writes them by itself: "1", "3", "4" in quotes, as all names of the header
    are, while no number is. Another table whose header lacks a name looks otherwise."""
    names = [R_NAME.match(row.text) for row in rows]
    if not all(names) or header.text.count('"') < 2 * len(header.cells) or any(map(looks_numeric, header.cells)):
        return False
    numbers = [int(name[1]) for name in names if name]
    rest = [row.text[name.end():] for row, name in zip(rows, names) if name]
    return numbers == sorted(set(numbers)) and not any(QUOTED.search(text) for text in rest) and any(
        looks_numeric(cell) for row in rows for cell in row.cells[1:])


def _share(sheet: Sheet) -> float:
    """The share of cells that are numbers."""
    cells = [cell for row in sheet.rows[:1000] for cell in row.cells if cell]
    return sum(map(looks_numeric, cells)) / max(len(cells), 1)


def parse_table(text: str) -> tuple[pd.DataFrame, int]:
    """(the table of a text, the number of its comment lines). Raises LawError, in words that follow a file's name."""
    if "\0" in text:
        raise LawError("it is no text")
    lines = list(io.StringIO(text, newline=""))
    hint = HINT.fullmatch(lines[0]) if lines else None
    lines = ["\n", *lines[1:]] if hint else lines
    filled = [line.strip() for line in lines if line.strip()]
    if not filled:
        raise LawError("it is empty")
    marked = [line.startswith("#") for line in filled]
    named = re.match(r"#\s*[\t;|,]", filled[0]) is not None     # a column that is called #
    comments = any(marked) and not named and not (len(filled) > 1 and all(marked[1:]) and not marked[0])
    tried = [_sheet(lines, separator, comments, '\\"' in text) for separator in ([hint[1]] if hint else SEPARATORS)]
    fitting = [sheet for sheet in tried if not sheet.problem and len(sheet.header) > 1]
    single = [sheet for sheet in tried if not sheet.problem and sheet.separator == ","]
    if fitting:
        best = max(fitting, key=_share)
    elif single:
        best = single[0]
    else:
        def promise(sheet):
            right = sum(len(row.cells) == len(sheet.header) for row in sheet.rows) / max(len(sheet.rows), 1)
            return len(sheet.header) > 1, right > 0.5, sheet.separator != " ", len(sheet.header)
        raise LawError(max(tried, key=promise).problem)
    return _frame(best), best.comments


def _frame(sheet: Sheet) -> pd.DataFrame:
    names = [name or f"Unnamed: {place}" for place, name in enumerate(sheet.header)]
    cells = list(zip(*(row.cells for row in sheet.rows))) or [()] * len(names)
    repeated = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if repeated is not None:
        raise LawError(f"two of its columns are called {repeated!r}: give each its own name")
    numeric = [column for column in cells if all(is_gap(cell) or looks_numeric(cell) for cell in column)]
    decimal = decimal_sign(cell for column in numeric for cell in column if not is_gap(cell))
    columns = {}
    for name, given, column in zip(names, sheet.header, cells):
        try:
            if given or any(column):
                columns[name] = column_of(column, decimal.replace("?", "")) if column else np.array([], float)
        except CellError as error:
            line = sheet.rows[error.place].line
            raise LawError(f"column {name!r} has in row {error.place} (line {line}) {error}; write all numbers with "
                           "decimal points, or give one that leaves no doubt") from None
    return pd.DataFrame(columns)
