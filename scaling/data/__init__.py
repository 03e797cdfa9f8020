"""Data: a name in, a `Source` of batches out.

    source = load("pycode/stdlib", length=256, batch=16)
    source.batch(seed=0, step=3)["tokens"]         # int32 [16, 257], a pure function of its arguments

Names: `pycode/stdlib` and `pycode/environment` (Python source on this machine; no network),
  `tfds:<name>[/<config>]` (any TFDS text data set), `text:<glob>` (text files of one's own).

    source = load_images("glyphs/letters", size=16, batch=64)
    source.batch(seed=0, step=3)["image"]          # uint8 [64, 16, 16, 1]

Names: `glyphs` and `glyphs/<set>` (characters of the fonts inside matplotlib, rendered without end),
  `tfds:<name>[/<config>]` (any TFDS image data set).
"""
import functools
import os

from scaling.data import corpus, tokenizers, windows
from scaling.data.images import ImageSource, load_images
from scaling.data.source import Source
from scaling.fields import DataError
from scaling.store.files import data_directory, data_room

__all__ = ["DataError", "ImageSource", "Source", "load", "load_images"]


def load(name: str, tokenizer: str = "bytes", length: int = 256, batch: int = 16, unique_tokens: int = 0,
         data_dir: str | os.PathLike | None = None, progress: bool = True) -> Source:
    """The source called `name`, prepared once under `data_dir` and found there afterwards.

    Args:
      name: see the module.
      tokenizer: "bytes", or "bpe:<vocab>", trained on (the first 64 MB of) the training split.
      length: tokens predicted per window; windows hold one more.
      batch: windows in a (global) batch.
      unique_tokens: how many training tokens to use, the first ones of the one fixed shuffle, rounded down
        to whole windows; 0 for all. Of a corpus larger than 64 MB no more than needed is prepared, so say
        how much of c4 you want.
      data_dir: default $SCALING_DATA_DIR, else ~/.cache/scaling/data.
      progress: whether to show bars while preparing.

    Raises DataError where there is no such corpus, or less of it than is asked for.
    """
    least = {"length": (length, 1), "batch": (batch, 1), "unique_tokens": (unique_tokens, 0)}
    for field, (value, smallest) in least.items():
        if value < smallest:
            raise DataError(f"{field}={value} is too small; write at least {smallest}")
    root = data_directory(data_dir)
    with data_room(root):
        found = corpus.find(name, root, progress)
        tokens = tokenizers.get(tokenizer, root / "tokenizers", found.fingerprint,
                                lambda: windows.take(found.documents("train"))[0], progress)
    directory = root / "windows" / f"{found.fingerprint}-{tokens.fingerprint}-{length}-{windows.VERSION}"

    def split(which: str, count: int) -> windows.Windows:
        with data_room(root):
            return windows.prepare(directory, which, length, tokens, lambda: found.documents(which), count,
                                   progress, f"{name} {which}")

    train, splits = split("train", unique_tokens), {s: functools.partial(split, s) for s in found.splits}
    return Source(name, found.fingerprint, tokens, length, batch, unique_tokens, train, splits)
