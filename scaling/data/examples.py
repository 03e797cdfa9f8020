"""Examples of a few texts each, such as pairs: divided by document, so that none of training is near one of evaluation."""

import hashlib
import pathlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from scaling.data import order
from scaling.fields import DataError
from scaling.store.files import write_json
from scaling.store.prepared import find_index, locked

HELD_OUT = 0.05          # the least share of examples whose documents are for evaluation
DOCUMENTS, SHARE = 300, 0.2  # that are held out if they are at most that share, since results scatter between documents
EXAMPLES = 12            # the key of these shuffles; source.py, noise.py, ... have other keys
VERSION = 1              # of how examples are divided and ordered
SPLIT = "document"       # the evaluation split


class Example(NamedTuple):
    document: str            # the page or file that it is from
    texts: tuple[str, ...]   # a source and a target, or a text and its label


class Divided(NamedTuple):
    """Examples in the fixed order of training, of which smaller sets are prefixes, and those of evaluation."""

    train: list[Example]
    held_out: list[Example]
    left_out: dict[str, int]
    fingerprint: str


def hold_out_documents(name: str, found: Iterable[Example], held_out: Iterable[Example] = ()) -> Divided:
    """Removes duplicates and orders the examples. Without `held_out` ones, documents with at least 5% of them are.

    An example whose first text is in a training example is left out of evaluation. Raises DataError where nothing is left
    to train or to evaluate on.
    """
    unique, doubled = _unique(found)
    aside, doubled_too = _unique(held_out) if held_out else ([], 0)
    if held_out:
        train = unique
    else:
        held = _held_out_documents(name, unique)
        train, aside = ([e for e in unique if (e.document in held) == out] for out in (False, True))
    known = {example.texts[0] for example in train}
    new = [example for example in aside if example.texts[0] not in known]
    if not train or not new:
        raise DataError(f"{name} has {len(train)} examples to train on, and {len(new)} to evaluate on that are not among "
                        "them; give more text")
    left_out = {"duplicate": doubled + doubled_too, "in_training": len(aside) - len(new)}
    digest = hashlib.sha256(repr((VERSION, train, aside)).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return Divided(_shuffled(train, 1), _shuffled(new, 2), {k: n for k, n in left_out.items() if n}, digest)


def _unique(found) -> tuple[list[Example], int]:
    """The examples without those whose texts an example of an earlier document has, in order, and how many these are."""
    read = sorted(found)
    first: dict[tuple[str, ...], Example] = {}
    for example in read:
        first.setdefault(example.texts, example)
    return list(first.values()), len(read) - len(first)


def _held_out_documents(name: str, examples: list[Example]) -> set[str]:
    sizes = Counter(example.document for example in examples)
    documents = sorted(sizes)
    if len(documents) < 2:
        raise DataError(f"{name} has examples of {len(documents)} documents, and needs two or more, to hold one out for "
                        "evaluation; give more files or pages")
    held, size, wanted = set(), 0, max(1, round(HELD_OUT * len(examples)))
    least = min(DOCUMENTS, int(SHARE * len(documents)))
    for place in order.permutation(len(documents), EXAMPLES, 0)[:-1]:
        if size >= wanted and len(held) >= least:
            break
        held.add(documents[place])
        size += sizes[documents[place]]
    return held


def _shuffled(examples: list[Example], key: int) -> list[Example]:
    return [examples[place] for place in order.permutation(len(examples), EXAMPLES, key)]


def kept_examples(root: pathlib.Path, key: Sequence[str], read: Callable[[], list[Example]]) -> list[Example]:
    """The examples that `read()` finds, kept on disk under `root` for later runs with an equal `key`."""
    described = hashlib.sha256(repr((VERSION, *key)).encode()).hexdigest()[:16]
    path = root / "examples" / f"{described}.json"
    found = find_index(path, "examples")
    if found is None:
        with locked(path):
            found = find_index(path, "examples")
            if found is None:
                found = {"examples": [[example.document, list(example.texts)] for example in read()]}
                write_json(path, found)
    return [Example(document, tuple(texts)) for document, texts in found["examples"]]


def document_numbers(examples: Sequence[Example]) -> np.ndarray:
    """The number of the document of each example, int32 [examples]; documents are numbered as they appear."""
    numbers = {document: i for i, document in enumerate(dict.fromkeys(example.document for example in examples))}
    return np.array([numbers[example.document] for example in examples], np.int32)


def padded(tokens: Sequence[np.ndarray], length: int, dtype) -> np.ndarray:
    """Rows [examples, length] of tokens, each with a 0 after its last one, and zeros from there."""
    rows = np.zeros((len(tokens), length), dtype)
    for row, own in zip(rows, tokens, strict=True):
        row[:len(own)] = own
    return rows


def texts_of(examples: list[Example], most: int = 64 << 20) -> list[str]:
    """The texts of the first examples, of about `most` characters, on which a tokenizer is trained."""
    found, size = [], 0
    for example in examples:
        found += example.texts
        size += sum(map(len, example.texts))
        if size > most:
            break
    return found
