"""Files of tables: CSV and its kin, JSON, JSON lines and Parquet, plain or compressed, in any usual encoding."""
from __future__ import annotations

import bz2
import codecs
import gzip
import hashlib
import io
import json
import lzma
import os
import pathlib
import zipfile
import zlib

import pandas as pd

from scaling.laws.forms.form import LawError
from scaling.laws.tables.cells import CellError, column_of
from scaling.laws.tables.delimited import parse_table

DELIMITED = (".csv", ".tsv", ".tab", ".txt", ".dat")
LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
PACKED = (".gz", ".zst", ".bz2", ".xz", ".zip")
READ = (*DELIMITED, *LINES, ".json", *PARQUET)
MAGIC = {b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7zXZ\x00": lzma.decompress,
         b"\x28\xb5\x2f\xfd": lambda data: _unpack_zstd(data), b"PK\x03\x04": lambda data: _unpack_zip(data)}
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
         (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_table(path) -> tuple[pd.DataFrame, dict]:
    """(the table of a file, its source: kind, path, SHA-256 and comment lines). Raises LawError in one sentence."""
    path = pathlib.Path(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = next((suffix for suffix in reversed(suffixes) if suffix not in PACKED), "")
    if kind not in READ:
        raise LawError(f"{path} has no suffix of a table that can be read: {', '.join(READ)}, also with "
                       f"{', '.join(PACKED)}")
    try:
        content = path.read_bytes()
        source = {"kind": "file", "path": os.fspath(path), "sha256": hashlib.sha256(content).hexdigest()}
        frame, comments = _parsed(_unpacked(content) if kind not in PARQUET else content, kind)
    except FileNotFoundError:
        raise LawError(f"there is no file {path}") from None
    except LawError as error:
        raise LawError(f"{path} could not be read as a table: {error}") from None
    except (ValueError, OSError, EOFError, zlib.error, lzma.LZMAError, ImportError, RecursionError,
            zipfile.BadZipFile) as error:
        said = str(error).splitlines() or [type(error).__name__]
        raise LawError(f"{path} could not be read as a table: {said[0]}") from None
    return frame, source | ({"comment_lines": comments} if comments else {})


def _parsed(content: bytes, kind: str) -> tuple[pd.DataFrame, int]:
    if kind in PARQUET:
        return _from_parquet(content), 0
    text = _decoded(content)
    if kind in DELIMITED:
        return parse_table(text)
    return _from_lines(text) if kind in LINES else _from_json(text), 0


def _unpacked(content: bytes) -> bytes:
    """The content without compression, whatever the file's suffix says."""
    for magic, unpack in MAGIC.items():
        if content.startswith(magic):
            return unpack(content)
    return content


def _unpack_zstd(content: bytes) -> bytes:
    import pyarrow as arrow  # here, since only some tables need it
    with arrow.CompressedInputStream(arrow.BufferReader(content), "zstd") as stream:
        return stream.read()


def _unpack_zip(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
        if len(names) != 1:
            raise LawError(f"it is a zip of {len(names)} files: unpack it, and name one table")
        return archive.read(names[0])


def _decoded(content: bytes) -> str:
    """The text of bytes: by its mark, as UTF-16 without a mark, UTF-8, or else Windows-1252."""
    for mark, encoding in MARKS:
        if content.startswith(mark):
            return content.decode(encoding)
    if len(content) > 3 and len(content) % 2 == 0:
        even, odd = content[::2], content[1::2]
        for encoding, zeros, others in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
            if zeros.count(0) > 0.5 * len(zeros) and not others.count(0):
                return content.decode(encoding)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


# ------------------------------------------------------------------------------------------------ JSON and Parquet

def _object(pairs: list) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise LawError(f"an object names {repeated!r} twice")
    return found


def _flat(record: dict, prefix: str = "") -> dict:
    """A record with the fields of inner objects as config.size."""
    found: dict = {}
    for name, value in record.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {f"{prefix}{name}": value}
        if repeated := found.keys() & inner.keys():
            raise LawError(f"an object names {sorted(repeated)[0]!r} twice")
        found |= inner
    return found


def _from_lines(text: str) -> pd.DataFrame:
    records = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, object_pairs_hook=_object)
        except json.JSONDecodeError as error:
            raise LawError(f"line {number} is no JSON: {error.msg}") from None
        if not isinstance(record, dict):
            raise LawError(f"line {number} is no object of names and values, {{...}}")
        records.append(_flat(record))
    return _of_records(records)


def _from_json(text: str) -> pd.DataFrame:
    """A list of objects, {column: list}, {column: {row: value}}, or pandas' {"columns": names, "data": rows}."""
    try:
        content = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise LawError(f"line {error.lineno} is no JSON: {error.msg}") from None
    if isinstance(content, list) and all(isinstance(record, dict) for record in content):
        return _of_records([_flat(record) for record in content])
    if isinstance(content, dict) and {"columns", "data"} <= content.keys() <= {"columns", "data", "index"}:
        names, rows = content["columns"], content["data"]
        if len(set(map(str, names))) < len(names):
            raise LawError("two of its columns have one name")
        wrong = next((place for place, row in enumerate(rows) if len(row) != len(names)), None)
        if wrong is not None:
            raise LawError(f"row {wrong} has {len(rows[wrong])} cells for {len(names)} columns")
        return _of_records([dict(zip(map(str, names), row)) for row in rows])
    if isinstance(content, dict) and content:
        columns = list(content.values())
        if all(isinstance(column, list) for column in columns) and len({len(column) for column in columns}) == 1:
            return _of_records([dict(zip(content, row)) for row in zip(*columns)])
        if all(isinstance(column, dict) for column in columns):
            rows = dict.fromkeys(row for column in columns for row in column)
            return _of_records([{name: content[name].get(row) for name in content} for row in rows])
    raise LawError("it is neither a list of objects nor an object of columns of one length")


def _of_records(records: list[dict]) -> pd.DataFrame:
    if not records:
        raise LawError("it holds no rows")
    names = dict.fromkeys(name for record in records for name in record)
    columns = {}
    for name in names:
        try:
            columns[name] = column_of([record.get(name) for record in records])
        except CellError as error:
            raise LawError(f"column {name!r} has in row {error.place} {error}") from None
    return pd.DataFrame(columns)


def _from_parquet(content: bytes) -> pd.DataFrame:
    frame = pd.read_parquet(io.BytesIO(content))
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    return frame
