"""Expressions in the columns of a table, for `where` and for columns that are computed.

They are those of pandas.DataFrame.eval: arithmetic, comparisons, `and`, `or`, `not`, and functions such as log and sqrt.
Names that Python could not read stand in backticks: `train/loss` < 4. `inf` and `nan` are numbers.
"""
from __future__ import annotations

import ast
import keyword
import re

import numpy as np
import pandas as pd

from scaling.laws.forms.form import LawError
from scaling.laws.tables.cells import CellError, numeric, truths

TOKEN = re.compile(r"""(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|`(?P<name>[^`]+)`|(?P<mark>[&|])""", re.DOTALL)
CONSTANTS = {"inf": np.inf, "nan": np.nan, "pi": np.pi}


def quoted(name: str) -> str:
    """A column's name as it is written in an expression: in backticks unless it is an identifier."""
    return name if name.isidentifier() and not keyword.iskeyword(name) and name not in CONSTANTS else f"`{name}`"


def listed(frame: pd.DataFrame) -> str:
    return ", ".join(map(str, frame.columns))


def value_of(frame: pd.DataFrame, expression: str):
    """The value of an expression, a Series or a number. Columns that are asked yes or no are read as people write those.

    Raises LawError, in one sentence, for what cannot be evaluated.
    """
    named = {str(column): frame[column] for column in frame.columns}
    try:
        tree, hidden = _parsed(expression)
        values = _Names(named, hidden, tree).values
        with np.errstate(all="ignore"):
            return pd.eval(ast.unparse(tree), engine="python", resolvers=[values], local_dict={}, global_dict={})
    except LawError:
        raise
    except Exception as error:  # pandas raises whatever Python's parser and the columns' types make of it
        raise LawError(f"{expression!r} cannot be evaluated: {str(error).splitlines()[0]}; the columns are "
                       f"{listed(frame)}") from None


def _parsed(expression: str) -> tuple[ast.Expression, dict[str, str]]:
    """(the tree of an expression, {identifier that stands for a name in backticks: that name})."""
    hidden: dict[str, str] = {}

    def plain(match):
        if match["mark"]:  # as in pandas, & and | bind as `and` and `or` do
            return " and " if match["mark"] == "&" else " or "
        if match["text"]:
            return match["text"]
        hidden[f"_column{len(hidden)}_"] = match["name"]
        return list(hidden)[-1]

    return ast.parse(TOKEN.sub(plain, expression).strip(), mode="eval"), hidden


class _Names:
    """The values of all names of an expression. Names that must be true or false get values, and names, of their own."""

    def __init__(self, named: dict[str, pd.Series], hidden: dict[str, str], tree: ast.Expression):
        self.named, self.hidden, self.values = named, hidden, dict(CONSTANTS)
        self._asked(tree.body)
        called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id not in self.values and id(node) not in called:
                self.values[node.id] = _readable(self._column(node.id))

    def _column(self, name: str) -> pd.Series:
        name = self.hidden.get(name, name)
        if name not in self.named:
            raise LawError(f"there is no column {name!r}; the columns are {', '.join(self.named)}")
        return self.named[name]

    def _asked(self, node: ast.expr) -> None:
        """Replace the columns that stand where yes or no is asked."""
        if isinstance(node, ast.BoolOp):
            for value in node.values:
                self._asked(value)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.Invert)):
            self._asked(node.operand)
        elif isinstance(node, ast.Name) and node.id not in CONSTANTS and not node.id.startswith("_asked"):
            column, name = self._column(node.id), self.hidden.get(node.id, node.id)
            node.id = f"_asked{len(self.values)}_"
            self.values[node.id] = truths(column, f"column {name!r}", f"compare it, such as {_comparison(column, name)}")


def _readable(column: pd.Series) -> pd.Series:
    """A column with its numbers as numbers, if all its cells are numbers."""
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return column
    try:
        return pd.Series(numeric(column), column.index) if column.notna().any() else column
    except CellError:
        return column


def _comparison(column: pd.Series, name: str) -> str:
    """A comparison that some row passes."""
    try:
        return f"'{quoted(name)} >= {float(np.nanmin(numeric(column)))!r}'"
    except CellError:
        return f'"{quoted(name)} == {column.dropna().iloc[0]!r}"'


def select(frame: pd.DataFrame, expression: str) -> np.ndarray:
    """The rows for which an expression is true, [n] of bool. What is missing is not true. Raises LawError."""
    try:
        found = value_of(frame, expression)
        if isinstance(found, (bool, np.bool_)):
            return np.full(len(frame), bool(found))
        if not isinstance(found, pd.Series):
            raise LawError("it is not true or false for each row")
        return truths(found, "its value", "compare it with a number or a text").fillna(False).to_numpy(bool)
    except LawError as error:
        raise LawError(f"cannot select runs by {expression!r}: {error}") from None


def computed(frame: pd.DataFrame, expression: str) -> np.ndarray | None:
    """The numbers of an expression, [n], or None if the text is a bare name or no expression. Raises LawError."""
    try:
        if isinstance(_parsed(expression)[0].body, ast.Name) and "`" not in expression:
            return None
    except SyntaxError:
        return None
    found = value_of(frame, expression)
    if not isinstance(found, pd.Series):
        raise LawError(f"{expression!r} has no column: it is one number for all rows")
    try:
        return numeric(found)
    except CellError as error:
        raise LawError(f"{expression!r} is not numeric: {error}") from None
