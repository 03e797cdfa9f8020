"""`load_pairs`: from the name of pairs of texts to a source of batches."""

import os

import numpy as np

from scaling.data import contents, lohelp, postfix, records, tokenizers
from scaling.data.examples import SPLIT, Divided, document_numbers, hold_out_documents, padded, texts_of
from scaling.data.functions import find_docstrings
from scaling.data.noise import Corruption
from scaling.data.order import key as order_key
from scaling.data.order import permutation
from scaling.data.other_kinds import of_other_kind
from scaling.data.table import TableSource
from scaling.fields import DataError, nearest
from scaling.store.prepared import data_directory, preparing

KNOWN = ("postfix", "docstrings", "lohelp/en-de", "tfds:<name>", "pairs:<files>", "own:<module>.<function>")
MISMATCHED = 13          # the key of targets of other pairs; noise.py, examples.py, ... have other keys


def load_pairs(name: str, fields: str = "source,target", tokenizer: str = "bytes", source_length: int = 64,
               length: int = 64, batch: int = 16, unique_examples: int = 0, noise: float = 0.0, dirty: float = 1.0,
               noises: str = "tokens", data_dir: str | os.PathLike | None = None, progress: bool = True) -> TableSource:
    """The source of pairs called `name`. A batch is {"source": int32 [batch, source_length], "target": int32 [batch,
    length + 1]}.

    A source is its tokens, a 0 that ends it, and zeros. A target has a 0 before it as well. Evaluation also has "bytes",
    int32 [n, length], of the text that each target token stands for, with 1 for the token that ends it and 0 after that,
    and "document", int32 [n].

    Args:
      name: "postfix[:<operators>]" (`scaling.data.postfix`), "docstrings[/<collection>]" (`scaling.data.functions`),
        "lohelp/<from>-<to>[:<folder>]" (`scaling.data.lohelp`), "tfds:<name>[/<config>]" or "pairs:<file, folder or
        glob>" of JSON lines or Parquet.
      fields: of the records of TFDS and of files: the names of the two texts, with a comma between them.
      tokenizer: "bytes", or "bpe:<vocab>", trained on both texts of the training pairs.
      source_length, length: the most tokens of a source and of a target, ends included. Longer pairs are left out.
      batch: pairs in a (global) batch.
      unique_examples: how many training pairs to use, the first ones of the fixed order; 0 for all.
      noise, dirty, noises: with noises="tokens", the share of the tokens of a dirty training target that are random, and
        the share of pairs that are dirty; with noises="target", the share of training pairs with another one's target.
      data_dir: default $SCALING_DATA_DIR, else ~/.cache/scaling/data.
      progress: whether to show progress bars.

    Raises DataError where there are no such pairs, or fewer than asked for; DiskFull.
    """
    root, noisy = data_directory(data_dir), Corruption(noise, dirty)
    with preparing(root):
        divided, languages = _find_pairs(name, records.two_fields(fields), unique_examples, root, progress)
        found = tokenizers.find_tokenizer(tokenizer, root / "tokenizers", divided.fingerprint,
                                          lambda: texts_of(divided.train), progress)
    train, long = _encoded(divided.train, found, source_length, length)
    held_out, long_too = _encoded(divided.held_out, found, source_length, length)
    if not len(train["target"]) or not len(held_out["target"]):
        raise DataError(f"no pairs of {name} are as short as data.source_length={source_length} and data.length={length} "
                        f"tokens of {found.name}, in training or in evaluation; write larger ones")
    left = divided.left_out | ({"too_long": long + long_too} if long + long_too else {})
    described = contents.totals(_sizes(train), {SPLIT: _sizes(held_out)}, left, [])
    train = _noisy({key: train[key] for key in ("source", "target")}, noisy, noises, found.vocab)
    identity = f"{divided.fingerprint} {found.fingerprint} {source_length} {length}{noisy.identity}"
    source = TableSource(name, identity + (f" {noises}" if noisy else ""), train, {SPLIT: held_out}, batch, unique_examples,
                         {**described, "things": "pairs"}, found)
    source.languages = languages
    return source


def _find_pairs(name, fields, unique, root, progress) -> tuple[Divided, tuple[str, ...]]:
    """The pairs called `name`, and the languages of source and target, where these are known."""
    kind, _, rest = name.partition(":")
    first = kind.split("/")[0]
    if first == "postfix":
        train, held_out = postfix.find_expressions(name, unique)
        return Divided(train, held_out, {}, f"{kind} {rest or postfix.OPERATORS} {len(train)}"), ()
    if first == "docstrings":
        return hold_out_documents(name, find_docstrings(name, root, progress)), ("code", "en")
    if first == "lohelp" and "/" in kind:
        pairs, languages = lohelp.find_translations(name, root, progress)
        return hold_out_documents(name, pairs), languages
    if kind == "pairs" and rest:
        return hold_out_documents(name, records.find_records(kind, rest, fields, root, progress)), ()
    if kind == "tfds" and rest:
        given = None if fields == ("source", "target") else fields
        return hold_out_documents(name, *records.find_tfds_examples(rest, given, root)), given or ()
    wrong = of_other_kind(name, "pairs of texts") or f"no pairs are called {name!r}"
    raise DataError(f"{wrong}; write one of {', '.join(KNOWN)}; {nearest(first, KNOWN)}")


def _encoded(examples, tokenizer, source_length, length):
    """({"source", "target", "bytes", "document"} of the examples that are short enough, the number of the others)."""
    both = [tuple(tokenizer.encode(text.replace("\0", "")) for text in example.texts) for example in examples]
    short = [i for i, (a, b) in enumerate(both) if len(a) < source_length and len(b) < length]
    sources, targets = ([both[i][which] for i in short] for which in (0, 1))
    target = padded([np.concatenate([[0], own]) for own in targets], length + 1, tokenizer.dtype)
    inside = np.arange(length) <= (target[:, 1:] != 0).sum(1)[:, None]  # the tokens and the one that ends them
    return {"source": padded(sources, source_length, tokenizer.dtype), "target": target,
            "bytes": np.where(inside, tokenizer.bytes_per_token[target[:, 1:]], 0).astype(np.int32),
            "document": document_numbers([examples[i] for i in short])}, len(examples) - len(short)


def _sizes(rows) -> dict:
    return {"documents": len(rows["target"]), "bytes": int(rows["bytes"].sum() - len(rows["target"]))}


def _noisy(train, noise: Corruption, noises: str, vocab: int):
    """The training pairs with the noise of the data."""
    if not noise:
        return train
    target, numbers = train["target"], np.arange(len(train["target"]))
    if noises == "target":
        wrong = order_key(MISMATCHED, 0, numbers) < np.uint32(min(round(noise.share * 2**32), 2**32 - 1))
        others = numbers[wrong][permutation(int(wrong.sum()), MISMATCHED)] if wrong.any() else numbers[wrong]
        target = target.copy()
        target[wrong] = train["target"][others]
    else:
        inside = target != 0
        target = np.where(inside, noise.add(target, numbers, 1, vocab - 1), target)
    return train | {"target": target}
