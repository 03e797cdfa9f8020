"""Windows of tokens on disk: packed, shuffled once, and written in large array_record records.

The documents of a split are taken in one fixed random order. Each block of about `BLOCK` bytes of them is tokenised,
joined by the separator, and cut into windows of length + 1 tokens that overlap by one, so that each token after the
first is predicted exactly once. Fewer than `length` tokens at the end of a block are dropped. The windows of a block
are shuffled by a fixed key and written in that order. So the first D tokens are a random sample of the corpus at any
D (within one block, of the block's documents), and of a large corpus only the blocks that are needed are prepared.

A block is two files, `<split>-<block>.array_record` and `.json`. The second is renamed into place last, and a block
without it does not exist.
"""
import functools
import hashlib
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

from scaling.data import order
from scaling.data.tokenizers import Tokenizer
from scaling.fields import DataError
from scaling.store.files import replacing, write_json
from scaling.store.prepared import find_index, locked, say_damaged

VERSION = 1                   # of the order and layout above; part of a source's fingerprint
BLOCK = 64 << 20              # bytes of text
RECORD = 64 << 10             # bytes; array_record reads records of one window at under 1 Mtok/s
CACHED = 256 << 20            # bytes of records kept in memory: it takes 0.1 ms to read one, 1 us to copy a window
DOCUMENTS, WINDOWS = 1, 2     # keys of the shuffles: permute(i, n, key(DOCUMENTS)), ...key(WINDOWS, block)


class Windows:
    """The prepared windows of one split, with random access by window."""

    def __init__(self, directory: pathlib.Path, split: str, length: int, dtype: np.dtype):
        self._directory, self._split, self._row, self._dtype = directory, split, length + 1, dtype
        self._per_record = max(1, RECORD // (self._row * dtype.itemsize))
        self._readers: dict[int, object] = {}
        kept = max(1, CACHED // (self._per_record * self._row * dtype.itemsize))
        self._record = functools.lru_cache(kept)(self._read)
        self.blocks: list[dict] = []
        while (block := find_index(self._path(len(self.blocks), "json"), "windows", "next", "last")) is not None:
            records = -(-block["windows"] // self._per_record)
            if (found := self._open(len(self.blocks))) != records:      # it and those after it are prepared again
                say_damaged(self._path(len(self.blocks), "array_record"), f"it has {found} records of {records}")
                break
            self.blocks.append(block)
        self._starts = np.cumsum([0] + [block["windows"] for block in self.blocks])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def whole(self) -> bool:
        """True if every document of the split is prepared."""
        return bool(self.blocks) and self.blocks[-1]["last"]

    def _path(self, block: int, suffix: str) -> pathlib.Path:
        return self._directory / f"{self._split}-{block:05d}.{suffix}"

    def __reduce__(self):                                  # open readers and cached records stay in their process
        return Windows, (self._directory, self._split, self._row - 1, self._dtype)

    def _open(self, block: int) -> int:
        """Opens the records of a block. Returns their number: 0 for a file that was cut short, as array_record says."""
        from array_record.python import array_record_module
        try:
            self._readers[block] = array_record_module.ArrayRecordReader(
                str(self._path(block, "array_record")), "readahead_buffer_size:0,max_parallelism:0")
            return self._readers[block].num_records()
        except Exception:        # array_record raises many kinds: no file, no footer, ...
            return 0

    def _read(self, block: int, record: int) -> np.ndarray:
        try:
            (data,) = self._readers[block].read([record])
        except Exception as error:       # array_record checks its records, and says so in many kinds of errors
            path = self._path(block, "array_record")
            raise DataError(f"{path} is damaged: record {record} cannot be read; delete it, and it is prepared "
                            "again") from error
        return np.frombuffer(data, self._dtype).reshape(-1, self._row)

    def __getitem__(self, indices) -> np.ndarray:
        """Windows by index: [k] -> [k, length + 1]."""
        indices = np.asarray(indices, np.int64)
        out = np.empty((len(indices), self._row), self._dtype)
        blocks = np.searchsorted(self._starts, indices, side="right") - 1
        records, inside = np.divmod(indices - self._starts[blocks], self._per_record)
        at = np.flatnonzero(np.diff(blocks, prepend=-1) | np.diff(records, prepend=-1))   # runs of one record
        for start, stop in zip(at, [*at[1:], len(indices)], strict=True):
            out[start:stop] = self._record(int(blocks[start]), int(records[start]))[inside[start:stop]]
        return out

    def first(self, count: int) -> np.ndarray:
        """The first `count` windows: [count, length + 1]."""
        return self[np.arange(count)]

    def append(self, documents: Sequence[str], tokenizer: Tokenizer, progress: bool, desc: str) -> "Windows":
        """Prepares the next block. Returns the windows with it."""
        block = len(self.blocks)
        start = self.blocks[-1]["next"] if self.blocks else 0
        texts, at = take(documents, start, progress, f"{desc}: reading")
        tokens = tokenizer.pack(texts)
        length = self._row - 1
        count = max(0, (len(tokens) - 1) // length)
        starts = order.permutation(count, WINDOWS, block) * length
        from array_record.python import array_record_module
        digest = hashlib.sha256()
        with replacing(self._path(block, "array_record")) as path:
            writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1,uncompressed")
            for first in range(0, count, self._per_record):
                rows = starts[first:first + self._per_record, None] + np.arange(self._row)
                data = tokens[rows].tobytes()
                digest.update(data)
                writer.write(data)
            writer.close()
        write_json(self._path(block, "json"), {
            "windows": count, "documents": at - start, "next": at, "last": at == len(documents),
            "tokens": len(tokens), "sha256": digest.hexdigest()})
        return Windows(self._directory, self._split, length, self._dtype)


def take(documents: Sequence[str], start: int = 0, progress: bool = False,
         desc: str = "") -> tuple[list[str], int]:
    """The documents of one block, starting at place `start` of the fixed order, and the place after the last one."""
    texts, size, at = [], 0, start
    with tqdm(desc=desc, unit="B", unit_scale=True, disable=not progress) as bar:
        while at < len(documents) and size < BLOCK:
            places = np.arange(at, min(at + 256, len(documents)))
            for index in order.permute(places, len(documents), order.key(DOCUMENTS)):
                texts.append(documents[int(index)])
                read = len(texts[-1].encode())
                size, at = size + read, at + 1
                bar.update(read)
                if size >= BLOCK:
                    break
    return texts, at


def prepare(directory: pathlib.Path, split: str, length: int, tokenizer: Tokenizer,
            documents: Callable[[], Sequence[str]], tokens: int = 0, progress: bool = True,
            desc: str = "data") -> Windows:
    """The windows of `split`: at least `tokens` tokens if the corpus has that many, all of them if `tokens` is 0.

    `documents()` returns the split's documents. It is called only if some windows are still to be prepared.
    """
    found = Windows(directory, split, length, tokenizer.dtype)
    if found.whole or 0 < tokens <= len(found) * length:
        return found
    with locked(directory):
        found, read = Windows(directory, split, length, tokenizer.dtype), documents()
        while not found.whole and not 0 < tokens <= len(found) * length:
            found = found.append(read, tokenizer, progress, desc)
    return found
