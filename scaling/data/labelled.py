"""`load_labelled`: from the name of texts with labels to a source of batches."""

import os
from collections import Counter

import numpy as np

from scaling.data import contents, records, tokenizers
from scaling.data.examples import SPLIT, Divided, Example, document_numbers, hold_out_documents, padded, texts_of
from scaling.data.functions import find_packages
from scaling.data.noise import Corruption
from scaling.data.other_kinds import of_other_kind
from scaling.data.table import TableSource
from scaling.fields import DataError, nearest
from scaling.store.prepared import data_directory, preparing

KNOWN = ("packages", "packages/environment", "tfds:<name>", "labelled:<files>", "own:<module>.<function>")


class LabelledSource(TableSource):
    """Texts with labels: `labels` holds the names of classes 0, 1, ..., and `common` the share of the most common one."""

    labels: tuple[str, ...]
    common: float


def load_labelled(name: str, fields: str = "text,label", tokenizer: str = "bytes", length: int = 128, classes: int = 16,
                  batch: int = 16, unique_examples: int = 0, noise: float = 0.0, dirty: float = 1.0,
                  data_dir: str | os.PathLike | None = None, progress: bool = True) -> LabelledSource:
    """The source of texts with labels called `name`. A batch is {"text": int32 [batch, length], "label": int32 [batch]}.

    A text is its tokens, cut where it is longer than `length` - 1, a 0 that ends it, and zeros. Evaluation also has
    "document", int32 [n]. Classes are numbered from the most common one of training on.

    Args:
      name: "packages[/<collection>]", whose classes are the packages that functions are from (`scaling.data.functions`),
        "tfds:<name>[/<config>]" or "labelled:<file, folder or glob>" of JSON lines or Parquet.
      fields: of the records of TFDS and of files: the names of the text and of the label, with a comma between them.
      tokenizer: "bytes", or "bpe:<vocab>", trained on the training texts.
      length: the most tokens of a text, its end included.
      classes: the number of classes: of packages, the ones with the most functions; of other data, at least as many as
        there are.
      batch: examples in a (global) batch.
      unique_examples: how many training examples to use, the first ones of the fixed order; 0 for all.
      noise, dirty: the share of the labels of dirty training examples that are random, and the share of examples that are
        dirty; see `scaling.data.noise`.
      data_dir: default $SCALING_DATA_DIR, else ~/.cache/scaling/data.
      progress: whether to show progress bars.

    Raises DataError where there are no such texts, or fewer than asked for; DiskFull.
    """
    root, noisy = data_directory(data_dir), Corruption(noise, dirty)
    with preparing(root):
        divided = _find_labelled(name, records.two_fields(fields), classes, root, progress)
        texts = [Example(example.document, example.texts[:1]) for example in divided.train]
        found = tokenizers.find_tokenizer(tokenizer, root / "tokenizers", f"{divided.fingerprint}-labelled",
                                          lambda: texts_of(texts), progress)
    counts = Counter(example.texts[1] for example in divided.train)
    labels = sorted(counts, key=lambda label: (-counts[label], label))
    if len(labels) > classes:
        raise DataError(f"data.classes={classes} is less than the {len(labels)} labels of {name}; write at least that")
    known = [example for example in divided.held_out if example.texts[1] in counts]
    left = divided.left_out | ({"unknown_label": n} if (n := len(divided.held_out) - len(known)) else {})
    train, held_out = (_rows(part, found, length, labels) for part in (divided.train, known))
    described = contents.totals(_sizes(divided.train), {SPLIT: _sizes(known)}, left, [
        f"the most common of {len(labels)} classes, {labels[0]}, has {counts[labels[0]] / len(divided.train):.0%} of them"])
    del train["document"]
    train["label"] = noisy.add(train["label"], np.arange(len(train["label"])), 0, len(labels))
    source = LabelledSource(name, f"{divided.fingerprint} {found.fingerprint} {length} {classes}{noisy.identity}", train,
                            {SPLIT: held_out}, batch, unique_examples, described, found)
    source.labels, source.common = tuple(labels), counts[labels[0]] / len(divided.train)
    return source


def _find_labelled(name, fields, classes, root, progress) -> Divided:
    kind, _, rest = name.partition(":")
    first = kind.split("/")[0]
    if first == "packages":
        return hold_out_documents(name, find_packages(name, root, classes, progress))
    if kind == "labelled" and rest:
        return hold_out_documents(name, records.find_records(kind, rest, fields, root, progress))
    if kind == "tfds" and rest:
        return hold_out_documents(name, *records.find_tfds_examples(rest, fields, root))
    wrong = of_other_kind(name, "texts with labels") or f"no texts with labels are called {name!r}"
    raise DataError(f"{wrong}; write one of {', '.join(KNOWN)}; {nearest(first, KNOWN)}")


def _rows(examples, tokenizer, length, labels):
    tokens = [tokenizer.encode(example.texts[0].replace("\0", ""))[:length - 1] for example in examples]
    number = {label: i for i, label in enumerate(labels)}
    return {"text": padded(tokens, length, tokenizer.dtype),
            "label": np.array([number[example.texts[1]] for example in examples], np.int32),
            "document": document_numbers(examples)}


def _sizes(examples) -> dict:
    return {"documents": len(examples), "bytes": sum(len(example.texts[0].encode()) for example in examples)}
