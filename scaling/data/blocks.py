"""The windows of one block on disk: a flat file that is memory-mapped, or array_record records of many windows.

A flat file (`<split>-<block>.npy`) is what blocks are written as unless records are asked for. A window costs 0.02 us,
wherever it lies, and nothing is held in memory but pages that the system may drop. Each piece of `PIECE` bytes is checked
against its hash when it is first read. A record (`<split>-<block>.array_record`) is read whole, in 5 us, and checked by
array_record. It suits storage on which a memory map is slow, such as a mounted bucket.
"""
import functools
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from scaling.fields import DataError

STORAGES = ("mapped", "array_record")
PIECE = 64 << 10              # bytes that are checked together
RECORD = 8 << 10              # bytes of a record: a window at a random place needs a whole one, which takes 5 us to read
OLD_RECORD = 64 << 10         # where the index of a block does not say it
CACHED = 256 << 20            # bytes of records kept in memory, of all blocks together


def rows_in(size: int, row: int, dtype: np.dtype) -> int:
    """The number of windows of `row` tokens in a piece or record of `size` bytes, at least one."""
    return max(1, size // (row * dtype.itemsize))


class MappedBlock:
    """The windows of a flat file, by index: `block[indices]` is [k, row]. `hashes` are those of its pieces of `size` bytes.

    Raises ValueError or OSError where the file is not there or was cut short.
    """

    def __init__(self, path: pathlib.Path, windows: int, row: int, dtype: np.dtype, size: int, hashes: str):
        self._path, self._per = path, rows_in(size, row, dtype)
        self._rows = np.asarray(np.load(path, mmap_mode="r")) if windows else np.empty((0, row), dtype)
        if self._rows.shape != (windows, row) or self._rows.dtype != dtype:
            raise ValueError(f"it holds {self._rows.dtype} {self._rows.shape} instead of {dtype} {(windows, row)}")
        self._hashes = np.frombuffer(bytes.fromhex(hashes), ">u8")
        self._checked = np.zeros(-(-windows // self._per), bool)
        if len(self._hashes) != len(self._checked):
            raise ValueError(f"its index has {len(self._hashes)} hashes of {len(self._checked)}")

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        if not self._checked.all():
            self._check(indices // self._per)
        return self._rows.take(indices, 0)

    def _check(self, pieces: np.ndarray) -> None:
        for piece in np.unique(pieces[~self._checked[pieces]]):
            if _hash(self._rows[piece * self._per:(piece + 1) * self._per]) != self._hashes[piece]:
                raise _damaged(self._path, f"piece {piece}")
            self._checked[piece] = True


class RecordBlock:
    """The windows of an array_record file, by index: `block[indices]` is [k, row].

    `cached` wraps the function that reads a record; all blocks of a split share one cache. Raises ValueError where the
    file is not there or was cut short.
    """

    def __init__(self, path: pathlib.Path, windows: int, row: int, dtype: np.dtype, size: int, cached: Callable):
        from array_record.python import array_record_module
        self._path, self._row, self._dtype, self._per = path, row, dtype, rows_in(size, row, dtype)
        self._record = functools.partial(cached, self)
        try:
            self._reader = array_record_module.ArrayRecordReader(str(path), "readahead_buffer_size:0,max_parallelism:0")
            found = self._reader.num_records()
        except Exception:        # array_record raises many kinds: no file, no footer, ...
            found = 0
        if found != (wanted := -(-windows // self._per)):
            raise ValueError(f"it has {found} records of {wanted}")

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        out = np.empty((len(indices), self._row), self._dtype)
        records, inside = np.divmod(indices, self._per)
        by_record = np.argsort(records, kind="stable")          # each record is read once, however windows are shuffled
        records, starts = np.unique(records[by_record], return_index=True)
        for record, here in zip(records, np.split(by_record, starts[1:])):
            out[here] = self._record(int(record))[inside[here]]
        return out

    def read(self, record: int) -> np.ndarray:
        """The windows of a record: [windows, row]."""
        try:
            (data,) = self._reader.read(record, record + 1)     # read([record]) takes time for each record of the file
        except Exception as error:       # array_record checks its records, and says so in many kinds of errors
            raise _damaged(self._path, f"record {record}") from error
        return np.frombuffer(data, self._dtype).reshape(-1, self._row)


def record_cache(size: int, row: int, dtype: np.dtype) -> Callable[[RecordBlock, int], np.ndarray]:
    """`RecordBlock.read` with a memory of the `CACHED` bytes that were used last, of records of at most `size` bytes."""
    return functools.lru_cache(max(1, CACHED // (rows_in(size, row, dtype) * row * dtype.itemsize)))(RecordBlock.read)


def _hash(rows: np.ndarray) -> int:
    import xxhash  # which preparing and reading need, but not compiling for an accelerator
    return xxhash.xxh3_64_intdigest(rows)


def _damaged(path: pathlib.Path, part: str) -> DataError:
    return DataError(f"{path} is damaged: {part} cannot be read; delete it, and it is prepared again")


def write_mapped(path: pathlib.Path, pieces: Iterator[np.ndarray], windows: int, row: int, dtype: np.dtype) -> dict:
    """Writes a flat file of `pieces`, each [rows_in(PIECE, ...), row] but the last. Returns its entries of the index."""
    hashes = []
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (windows, row)})
        for piece in pieces:
            file.write(piece.tobytes())
            hashes.append(_hash(piece))
    return {"piece": PIECE, "hashes": np.array(hashes, ">u8").tobytes().hex()}


def write_records(path: pathlib.Path, pieces: Iterator[np.ndarray]) -> dict:
    """Writes `pieces`, each [rows_in(RECORD, ...), row] but the last, as records. Returns its entries of the index."""
    from array_record.python import array_record_module
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    for piece in pieces:
        writer.write(piece.tobytes())
    writer.close()
    return {"record": RECORD}
