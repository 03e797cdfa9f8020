"""The functions of Python files: what they do, as `docstrings` says it, and which package they are from (`packages`)."""

import ast
import pathlib
import re
import textwrap
import warnings
from collections import Counter

from tqdm import tqdm

from scaling.data import pycode, reading
from scaling.data.digests import content_digest
from scaling.data.examples import Example, kept_examples
from scaling.fields import DataError, nearest

VERSION = 1              # of what is taken from a function
LEAST_STATEMENTS = 2     # beside the docstring: one-line functions say little of either task
LEAST_WORDS, MOST_WORDS = 3, 40  # of a docstring's first sentence
CALLED = "f"             # what stands for the name of a function


def find_docstrings(name: str, root: pathlib.Path, progress: bool = True) -> list[Example]:
    """Pairs of a function without its docstring and name, and the first sentence of the docstring."""
    return [Example(e.document, e.texts[:2]) for e in _functions(name, root, progress) if e.texts[1]]


def find_packages(name: str, root: pathlib.Path, classes: int, progress: bool = True) -> list[Example]:
    """The bodies of functions with their package, of the `classes` packages with the most functions.

    A body has no name, header, docstring or comment. Raises DataError for fewer packages than `classes`.
    """
    found = [Example(e.document, (e.texts[2], e.texts[3])) for e in _functions(name, root, progress)]
    counts = Counter(package for _, (_, package) in dict.fromkeys(found))
    if len(counts) < classes:
        raise DataError(f"data.classes={classes} is more than the {len(counts)} packages of {name}; write at most that")
    kept = sorted(counts, key=lambda package: (-counts[package], package))[:classes]
    return [example for example in found if example.texts[1] in kept]


def _functions(name: str, root: pathlib.Path, progress: bool) -> list[Example]:
    """The functions of the files of pycode: (code without docstring and name, sentence or "", body, package)."""
    what, _, config = name.partition("/")
    config = config or "stdlib"
    if config not in pycode.CONFIGS:
        raise DataError(f"{name}: no collection of Python files is called {config!r}; {nearest(config, pycode.CONFIGS)}")
    files = pycode.CONFIGS[config]()
    content = content_digest([file.path for file in files], root / "index", progress, name)

    def read() -> list[Example]:
        found = []
        for file in tqdm(files, desc=f"{name}: reading", unit=" files", disable=not progress):
            text = next((read.text for read in reading.read_file(file.path) if read.text), None)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes and the like in files of others
                try:
                    tree = ast.parse(text or "")
                except (SyntaxError, ValueError, RecursionError):
                    continue  # a file of another Python, or one that is damaged on purpose, as tests have
                for node in ast.walk(tree):
                    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (texts := _texts(node)):
                        found.append(Example(file.name, (*texts, file.package)))
        return found

    return kept_examples(root, ["functions", str(VERSION), config, content], read)


def _texts(node) -> tuple[str, str, str] | None:
    """The code without docstring and name, the docstring's first sentence or "", and the body; None of a short function."""
    said = ast.get_docstring(node) or ""
    body = node.body[1:] if said else node.body
    if len(body) < LEAST_STATEMENTS:
        return None
    node.name, node.body, node.decorator_list = CALLED, body, []
    inside = textwrap.dedent("\n".join(map(ast.unparse, body)))
    return ast.unparse(node).replace("\0", ""), first_sentence(said), inside.replace("\0", "")


def first_sentence(docstring: str) -> str:
    """The first sentence of a docstring in one line, or "" where that is no sentence of a few words."""
    paragraph = re.sub(r"\s+", " ", docstring.strip().split("\n\n")[0]).strip()
    sentence = re.split(r"(?<=[.!?])\s", paragraph)[0]
    words = sentence.split()
    plain = sentence.isprintable() and re.match(r"[A-Z][a-z]", sentence) and sentence[-1] == "."
    return sentence if plain and LEAST_WORDS <= len(words) <= MOST_WORDS else ""
