"""Advice names what exists: every keyword and flag in a message of the laws is one of their functions or commands."""
import ast
import inspect
import pathlib
import re

import pytest

from scaling import laws

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = sorted({*(ROOT / "scaling" / "laws").rglob("*.py"), ROOT / "experiments" / "fit.py",
                  ROOT / "experiments" / "_fit_parts.py", ROOT / "experiments" / "_points.py",
                  ROOT / "experiments" / "forecast.py"})
FUNCTIONS = (laws.fit, laws.bootstrap, laws.isoflop, laws.Runs.from_dataframe, laws.frontier, laws.profile, laws.suggest,
             laws.first_grid, laws.two_step, laws.forecast.check, laws.forecast.write, laws.Form, laws.Parameter)
PLACEHOLDERS = {"x", "E", "N", "D", "C", "U", "M", "form"}   # inputs and parameters of examples, and form = Form(...)


def messages(path):
    """Every text of a module that is no docstring, with {} for what is filled in."""
    tree = ast.parse(path.read_text())
    documented = {id(node.body[0].value) for node in ast.walk(tree)
                  if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and isinstance(node.body[0], ast.Expr)}
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (documented | inside):
            yield node.value


def flags_of_commands():
    found = set()
    for path in (ROOT / "experiments").glob("*.py"):
        found |= set(re.findall(r'\bDEFINE_\w+\(\s*"(\w+)"', path.read_text()))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_flags_and_keywords_of_messages_exist(path):
    keywords = {name for function in FUNCTIONS for name in inspect.signature(function).parameters}
    for text in messages(path):
        for flag in re.findall(r"(?<![\w-])--([a-z_]+)", text):
            assert flag in flags_of_commands(), (path, text)
        for word in re.findall(r"(?<![\w\-=.,{])([A-Za-z_]+)=(?=['{<\s,;.]|$)", text):
            assert word in keywords | flags_of_commands() | PLACEHOLDERS, (path, text)
