"""`load_text`: from the name of a corpus to a source of batches of tokens."""
import functools
import os

from scaling.data import blocks, corpus, imported, tokenizers, windows
from scaling.data.known.names import token_teacher
from scaling.data.known.streams import TokenStream
from scaling.data.noise import Corruption
from scaling.data.pixels import Pixels, PixelSource, pixels_of
from scaling.data.sound import Sound, SoundSource, sound_of
from scaling.data.source import TextSource
from scaling.data.waves import MuLaw
from scaling.fields import DataError
from scaling.store.prepared import data_directory, preparing


def load_text(name: str, tokenizer: str = "bytes", length: int = 256, batch: int = 16, unique_tokens: int = 0,
              data_dir: str | os.PathLike | None = None, progress: bool = True, encoding: str = "",
              field: str = "", storage: str = "mapped", noise: float = 0.0,
              dirty: float = 1.0) -> TextSource | TokenStream | PixelSource | imported.ImportedText:
    """The source of text called `name`. It is prepared once under `data_dir` and found there afterwards.

    Tokens of a teacher, such as `zipf:1.5`, need no tokenizer and are drawn without end; see `scaling.data.known`. Those of
    `pixels:<images>` are the pixels of images in raster order; see `scaling.data.pixels`. Those of `music/audio` and
    `speech/<language>` are samples of sound; see `scaling.data.sound`. The text of an imported model,
    `imported:<name>`, is not here: its source has a tokenizer and no examples.

    Args:
      name: a corpus; `scaling.data` lists the kinds of names.
      tokenizer: "bytes"; "bpe:<vocab>", trained on (the first 64 MB of) the training split; or "stored:<name>", that of an
        imported checkpoint.
      length: tokens predicted per window; a window holds one more.
      batch: windows in a (global) batch.
      unique_tokens: how many training tokens to use: the first ones of the one fixed shuffle, rounded down to whole
        windows; 0 for all. Of a corpus larger than 64 MB only as much is prepared as this asks for, so set it for a
        corpus such as c4.
      data_dir: default $SCALING_DATA_DIR, else ~/.cache/scaling/data.
      progress: whether to show progress bars.
      encoding: of the files of `text:`, any name that Python knows; empty detects it, see `scaling.data.reading`.
      field: of JSON lines and Parquet files of `text:`, which field is the text; empty for plain text.
      storage: how windows are stored that are still to be prepared, see `scaling.data.blocks`: "mapped", a flat file
        that is memory-mapped, or "array_record". Those that are there are read as they are. Batches do not depend on it.
      noise, dirty: the share of the tokens of a dirty training window that are replaced by random ones, and the share of
        windows that are dirty; see `scaling.data.noise`.

    Raises DataError when there is no such corpus, or when it has less text than is asked for; DiskFull.
    """
    smallest = {"length": (length, 1), "batch": (batch, 1), "unique_tokens": (unique_tokens, 0)}
    for asked, (value, least) in smallest.items():
        if value < least:
            raise DataError(f"data.{asked}={value} is too small; write at least {least}")
    if storage not in blocks.STORAGES:
        raise DataError(f"data.storage={storage!r} is not known; write {' or '.join(blocks.STORAGES)}")
    noisy = Corruption(noise, dirty)
    if numbers := token_teacher(name) or pixels_of(name) or sound_of(name):
        if noisy:
            raise DataError(f"data.noise={noise} is for text, and {name} has none; write data.noise=0")
        if encoding or field:
            raise DataError(f"data.encoding and data.field say how files of text:... are read, and {name} has none; leave "
                            "them empty")
        if isinstance(numbers, Pixels):
            return PixelSource(name, numbers, length, batch, unique_tokens, data_dir, progress)
        if not isinstance(numbers, Sound):
            return TokenStream(name, numbers, length, batch, unique_tokens)
    root, sound = data_directory(data_dir), sound_of(name)
    if name.startswith(imported.PREFIX):
        known = tokenizers.find_tokenizer(tokenizer, root / "tokenizers", name, tuple)
        return imported.ImportedText(name, known, length, batch)
    with preparing(root):
        found = sound.recordings(root, progress) if sound else corpus.find_corpus(name, root, progress, encoding, field)
        tokens = MuLaw() if sound else tokenizers.find_tokenizer(tokenizer, root / "tokenizers", found.fingerprint,
                                           lambda: windows.take(found.documents("train"))[0], progress)
    directory = root / "windows" / f"{found.fingerprint}-{tokens.fingerprint}-{length}-{windows.VERSION}"

    def split_windows(split: str, count: int) -> windows.Windows:
        with preparing(root):
            return windows.prepare(directory, split, length, tokens, lambda: found.documents(split), count, progress,
                                   f"{name} {split}", storage)

    train = split_windows("train", unique_tokens)
    splits = {split: functools.partial(split_windows, split) for split in found.splits}
    source = SoundSource if sound else TextSource
    return source(name, found.fingerprint, tokens, length, batch, unique_tokens, train, splits, found.contents, noisy)
