"""Windows of tokens on disk: packed, shuffled once, and written where any of them can be read at once.

The documents of a split are taken in one fixed random order. Each block of about `BLOCK` bytes of them is tokenised,
joined by the separator, and cut into windows of length + 1 tokens that overlap by one, so that each token after the
first is predicted exactly once. Fewer than `length` tokens at the end of a block are dropped. The windows of a block
are shuffled by a fixed key and written in that order. So the first D tokens are a random sample of the corpus at any
D (within one block, of the block's documents), and of a large corpus only the blocks that are needed are prepared.

A block is two files: its windows, in one of the ways of `blocks.py`, and its index, `<split>-<block>.json`. The second is
renamed into place last, and a block without it does not exist.
"""
import hashlib
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

from scaling.data import blocks, order
from scaling.data.tokenizers import Tokenizer
from scaling.store.files import replacing, write_json
from scaling.store.prepared import find_index, locked, say_damaged

VERSION = 1                   # of the order and layout above; part of a source's fingerprint
BLOCK = 64 << 20              # bytes of text
FEW = 16                      # documents that are read at once before their mean size is known
DOCUMENTS, WINDOWS = 1, 2     # keys of the shuffles: permute(i, n, key(DOCUMENTS)), ...key(WINDOWS, block)


class Windows:
    """The prepared windows of one split, with random access by window."""

    def __init__(self, directory: pathlib.Path, split: str, length: int, dtype: np.dtype):
        self._directory, self._split, self._row, self._dtype = directory, split, length + 1, np.dtype(dtype)
        found = []
        while (block := find_index(self._path(len(found), "json"), "windows", "next", "last")) is not None:
            found.append(block)
        records = [block.get("record", blocks.OLD_RECORD) for block in found if "hashes" not in block]
        self._cache = blocks.record_cache(max(records, default=blocks.RECORD), self._row, self._dtype)
        self._opened: list[blocks.MappedBlock | blocks.RecordBlock] = []
        for number, block in enumerate(found):
            try:
                self._opened.append(self._open(number, block))
            except (ValueError, OSError) as error:       # it and those after it are prepared again
                say_damaged(self._file(number, block), error)
                break
        self.blocks: list[dict] = found[:len(self._opened)]
        self._starts = np.cumsum([0] + [block["windows"] for block in self.blocks])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def whole(self) -> bool:
        """True if every document of the split is prepared."""
        return bool(self.blocks) and self.blocks[-1]["last"]

    def _path(self, block: int, suffix: str) -> pathlib.Path:
        return self._directory / f"{self._split}-{block:05d}.{suffix}"

    def _file(self, number: int, block: dict) -> pathlib.Path:
        return self._path(number, "npy" if "hashes" in block else "array_record")

    def _open(self, number: int, block: dict) -> blocks.MappedBlock | blocks.RecordBlock:
        path, shape = self._file(number, block), (block["windows"], self._row, self._dtype)
        if "hashes" in block:
            return blocks.MappedBlock(path, *shape, block["piece"], block["hashes"])
        return blocks.RecordBlock(path, *shape, block.get("record", blocks.OLD_RECORD), self._cache)

    def __reduce__(self):                                  # open files and cached records stay in their process
        return Windows, (self._directory, self._split, self._row - 1, self._dtype)

    def __getitem__(self, indices) -> np.ndarray:
        """Windows by index: [k] -> [k, length + 1]."""
        indices = np.asarray(indices, np.int64)
        if len(self._opened) == 1:
            return self._opened[0][indices]
        out = np.empty((len(indices), self._row), self._dtype)
        numbers = np.searchsorted(self._starts, indices, side="right") - 1
        for number in np.unique(numbers):
            here = numbers == number
            out[here] = self._opened[number][indices[here] - self._starts[number]]
        return out

    def first(self, count: int) -> np.ndarray:
        """The first `count` windows: [count, length + 1]."""
        return self[np.arange(count)]

    def documents(self, count: int) -> np.ndarray:
        """The documents that the first `count` windows begin in: int32 [count], numbers in the order of the split.

        Token 0 ends a document, and nothing else is token 0.
        """
        found, first = [np.zeros(0, np.int64)], 0
        for number, (block, opened) in enumerate(zip(self.blocks, self._opened)):
            if sum(map(len, found)) >= count:
                break
            places = order.permutation(block["windows"], WINDOWS, number)  # of the windows, in the order of the text
            ends = np.zeros(block["windows"], np.int64)
            ends[places] = (opened[np.arange(block["windows"])][:, 1:] == 0).sum(1)
            found.append(first + (np.cumsum(ends) - ends)[places])
            first += block["documents"]
        return np.concatenate(found)[:count].astype(np.int32)

    def append(self, documents: Sequence[str], tokenizer: Tokenizer, progress: bool, desc: str,
               storage: str = "mapped") -> "Windows":
        """Prepares the next block, in one of `blocks.STORAGES`. Returns the windows with it."""
        block = len(self.blocks)
        start = self.blocks[-1]["next"] if self.blocks else 0
        texts, at = take(documents, start, progress, f"{desc}: reading")
        tokens = tokenizer.pack(texts)
        length = self._row - 1
        count = max(0, (len(tokens) - 1) // length)
        starts = order.permutation(count, WINDOWS, block) * length
        digest = hashlib.sha256()

        def pieces(size: int):
            together = blocks.rows_in(size, self._row, self._dtype)
            for first in range(0, count, together):
                piece = tokens[starts[first:first + together, None] + np.arange(self._row)]
                digest.update(piece)
                yield piece

        mapped = storage == "mapped"
        with replacing(self._path(block, "npy" if mapped else "array_record")) as path:
            written = (blocks.write_mapped(path, pieces(blocks.PIECE), count, self._row, self._dtype) if mapped else
                       blocks.write_records(path, pieces(blocks.RECORD)))
        write_json(self._path(block, "json"), {
            "windows": count, "documents": at - start, "next": at, "last": at == len(documents),
            "tokens": len(tokens), "sha256": digest.hexdigest(), **written})
        return Windows(self._directory, self._split, length, self._dtype)


def take(documents: Sequence[str], start: int = 0, progress: bool = False,
         desc: str = "") -> tuple[list[str], int]:
    """The documents of one block, starting at place `start` of the fixed order, and the place after the last one."""
    texts, size, at, together = [], 0, start, FEW
    read = getattr(documents, "__getitems__", lambda places: [documents[place] for place in places])
    with tqdm(desc=desc, unit="B", unit_scale=True, disable=not progress) as bar:
        while at < len(documents) and size < BLOCK:
            places = np.arange(at, min(at + together, len(documents)))
            for text in read([int(i) for i in order.permute(places, len(documents), order.key(DOCUMENTS))]):
                texts.append(text)
                length = len(text if isinstance(text, bytes) else text.encode())
                size, at = size + length, at + 1
                bar.update(length)
                if size >= BLOCK:
                    break
            left = (BLOCK - size) * len(texts) // max(1, size)      # documents of the mean size
            together = max(FEW, min(4 * together, left))
    return texts, at


def prepare(directory: pathlib.Path, split: str, length: int, tokenizer: Tokenizer,
            documents: Callable[[], Sequence[str]], tokens: int = 0, progress: bool = True,
            desc: str = "data", storage: str = "mapped") -> Windows:
    """The windows of `split`: at least `tokens` tokens if the corpus has that many, all of them if `tokens` is 0.

    `documents()` returns the split's documents. It is called only if some windows are still to be prepared. Those are
    written in `storage`, one of `blocks.STORAGES`; blocks that are there are read as they are.
    """
    found = Windows(directory, split, length, tokenizer.dtype)
    if found.whole or 0 < tokens <= len(found) * length:
        return found
    with locked(directory):
        found, read = Windows(directory, split, length, tokenizer.dtype), documents()
        while not found.whole and not 0 < tokens <= len(found) * length:
            found = found.append(read, tokenizer, progress, desc, storage)
    return found
