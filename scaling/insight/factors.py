"""Factors whose values are known at every place: what probes look for in activations.

Of Python source: the syntax class of a token's last byte, by Python's own tokenizer, and the depth of its indentation. Of
images: what the source knows of each image, such as the character, font, slant and size of a glyph; factors without names
are cut into four classes at their quartiles.
"""

import io
import keyword
import tokenize
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scaling.data import order
from scaling.data.corpus import find_corpus
from scaling.data.windows import DOCUMENTS
from scaling.fields import DataError
from scaling.insight.activations import read_activations, refuse
from scaling.store.prepared import data_directory

SYNTAX = ("space", "name", "keyword", "number", "string", "comment", "operator")
DEPTHS = ("0", "1", "2", "3 or more")
QUARTERS = ("lowest", "second", "third", "highest")  # quarter of a factor without names
TEXT_LABELS = ("syntax", "depth")
PICTURED = ("character", "font", "weight", "slant", "size", "rotation", "stroke", "shift_x")  # of `factors` of images
PLACES = 36  # of a document's window
HELD_OUT = 3  # every third document or image


class FactorTable(NamedTuple):
    """Activations and factors of the same examples.

    features: float32 [n, width] of each layer, the first before all layers.
    factors: {name: (integer [n], names of the values)}.
    groups, types: integer [n], as `scaling.insight.probes.score_probe` takes them.
    test: bool [n], the examples that are held out.
    """

    features: tuple[np.ndarray, ...]
    factors: dict[str, tuple[np.ndarray, tuple[str, ...]]]
    groups: np.ndarray
    types: np.ndarray
    test: np.ndarray


def known_factors(run, size: int = 240) -> FactorTable:
    """Activations and factors of a run's evaluation data: `size` documents of Python, or 16 times as many images.

    Raises InsightError for data of which no factors are known.
    """
    if hasattr(run.experiment.data, "examples"):
        return image_factors(run, 16 * size)
    return code_factors(run, size)


def code_factors(run, documents: int) -> FactorTable:
    """Factors of places in `documents` documents of the first evaluation split that Python's tokenizer accepts."""
    data = run.experiment.data
    if data.numbers is not None:
        refuse(run, f"was trained on {data.name}, of whose tokens no factors are known; probes read Python source and "
                    "images with factors")
    try:
        corpus = find_corpus(data.name, data_directory(data.data_dir or None), False, data.encoding, data.field)
    except DataError as error:
        refuse(run, f"reads text that is not here: {error}")
    texts, rng = corpus.documents(corpus.splits[0]), np.random.default_rng(0)
    windows, labels = [], []
    for place in order.permutation(len(texts), DOCUMENTS):
        if len(windows) == documents:
            break
        text, length = texts[int(place)], data.length
        tokens = np.concatenate([[0], run.tokenizer.encode(text)])
        classes = python_labels(text)
        if classes is None or len(tokens) <= length:
            continue
        ends = np.cumsum(run.tokenizer.bytes_per_token[tokens[1:]]) - 1  # the place in the text of each token's last byte
        classes = np.concatenate([np.full((2, 1), -1), classes[:, ends]], axis=1)
        start = int(rng.integers(len(tokens) - length))
        windows.append(tokens[start:start + length + 1])
        labels.append(classes[:, start:start + length])
    if not windows:
        refuse(run, f"was trained on {data.name}, which has no whole file of Python source longer than a window")
    chosen = np.stack([rng.choice(data.length, min(PLACES, data.length), replace=False) for _ in windows])
    read = read_activations(run, {"tokens": np.stack(windows).astype(np.int32)})
    rows = np.arange(len(windows))[:, None]
    found = np.stack(labels, axis=1)[:, rows, chosen].reshape(2, -1)
    kept = (found >= 0).all(0)
    features = tuple(x[rows, chosen].reshape(-1, x.shape[-1])[kept] for x in read.residual)
    groups = np.repeat(np.arange(len(windows)), chosen.shape[1])[kept]
    types = np.stack(windows)[rows, chosen].ravel()[kept]
    named = {name: (values, names) for name, values, names in zip(TEXT_LABELS, found[:, kept], (SYNTAX, DEPTHS))
             if len(np.unique(values)) > 1}
    return FactorTable(features, named, groups, types, groups % HELD_OUT == 0)


def python_labels(text: str) -> np.ndarray | None:
    """(syntax, depth) of every byte of a text in UTF-8, integer [2, bytes], numbers of `SYNTAX` and `DEPTHS`.

    What lies between tokens is space. The depth of a line is that of the block that it stands in. None for a text that
    is no Python.
    """
    lines = text.splitlines(keepends=True)
    starts = np.cumsum([0, *(len(line) for line in lines)])
    syntax, depth = np.zeros(len(text), int), np.zeros(len(text), int)
    level, last = 0, 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text, newline="").readline):
            start, stop = (int(starts[row - 1]) + column for row, column in (token.start, token.end))
            level += {tokenize.INDENT: 1, tokenize.DEDENT: -1}.get(token.type, 0)
            syntax[start:stop] = SYNTAX.index(_syntax(token))
            depth[last:stop] = level
            last = max(last, stop)
    except (tokenize.TokenError, SyntaxError, IndexError):
        return None
    sizes = np.array([len(character.encode()) for character in text], int)
    return np.repeat(np.stack([syntax, np.minimum(depth, len(DEPTHS) - 1)]), sizes, axis=1)


def _syntax(token) -> str:
    if token.type == tokenize.NAME:
        return "keyword" if keyword.iskeyword(token.string) else "name"
    name = tokenize.tok_name[token.type]
    if name in ("STRING", "FSTRING_START", "FSTRING_MIDDLE", "FSTRING_END"):
        return "string"
    return {"NUMBER": "number", "COMMENT": "comment", "OP": "operator"}.get(name, "space")


def image_factors(run, count: int) -> FactorTable:
    """Factors of the first `count` images of the first evaluation split; activations are means over the image."""
    source = run.source
    if not hasattr(source, "factors"):
        refuse(run, f"was trained on {source.name}, of whose examples no factors are known; probes read Python source and "
                    "images with factors, such as glyphs")
    split = source.splits[0]
    known = source.factors(split, count)
    named = {name: _classed(source, name, known[name]) for name in PICTURED if name in known}
    named = {name: found for name, found in named.items() if found is not None}
    batch = source.evaluation(split, count) | {"example": np.arange(count, dtype=np.int32)}
    residual = read_activations(run, batch).residual
    if not residual or not named:
        refuse(run, "has no layers, or whose images have no factor that varies")
    features = tuple(x.reshape(count, -1, x.shape[-1]).mean(1) for x in residual)
    first = next(iter(named.values()))[0]
    groups = np.arange(count)
    return FactorTable(features, named, groups, first, groups % HELD_OUT == 0)


def _classed(source, name: str, values) -> tuple[np.ndarray, Sequence[str]] | None:
    """A factor as classes, or None where it does not vary."""
    values = np.asarray(values)
    if len(np.unique(values)) < 2:
        return None
    if np.issubdtype(values.dtype, np.integer):
        return values, tuple(source.classes(name))
    return np.searchsorted(np.quantile(values, (0.25, 0.5, 0.75)), values), QUARTERS
