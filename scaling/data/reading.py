"""From the bytes of a file to its texts: compression, encodings, and the records of JSON lines and Parquet.

Compression (gzip, bzip2, xz, Zstandard) is known by a file's first bytes, whatever its name. The encoding is the one that
is asked for, or else found by these rules, of which the first that holds decides:

1. A `.py` file is decoded as PEP 263 says.
2. A byte order mark says UTF-8, UTF-16 or UTF-32.
3. Bytes that are valid UTF-8 are UTF-8.
4. Zero bytes on even places only, or on odd places only, are those of UTF-16 without a mark.
5. Any other file with zero bytes is binary.
6. If bytes above 127 seldom follow each other, as accents do, the text is in a Latin script: Windows-1252, which contains
   Latin-1.
7. Otherwise `charset_normalizer` guesses which of `OTHERS` it is (Cyrillic, Greek, Chinese, ...). It is not asked about
   Latin scripts, where it takes French for Windows-1250, nor about EBCDIC, for which it takes random bytes.

Encodings by rules 6 and 7 are guesses, and are reported as such. In every text "\\r\\n" and "\\r" become "\\n", a byte
order mark goes, and so do NUL characters, because token 0 separates documents; a text with many control characters is
binary.
"""
import bz2
import codecs
import gzip
import io
import json
import lzma
import re
import tokenize
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scaling.fields import DataError, did_you_mean, nearest

LATIN = 0.5              # the largest share of bytes above 127 that stand in threes in a text of a Latin script
OTHERS = ["cp1251", "koi8_r", "koi8_u", "cp866", "mac_cyrillic", "cp1253", "iso8859_7", "cp1255", "cp1256", "cp874",
          "cp932", "shift_jis", "euc_jp", "gb18030", "big5", "cp949", "euc_kr"]
CONTROLS = 0.1           # the share of control characters from which a text is binary
GUESSED = " (guessed)"   # ends the name of an encoding that rules 6 and 7 found
MARKS = (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (
    codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")
_IN_THREES = re.compile(b"[\x80-\xff]{3,}")
_CONTROL = re.compile("[\0-\x06\x0e-\x1a\x1c-\x1f\x7f]")


class ReadText(NamedTuple):
    """One document of a file, or the reason why it is none."""
    text: str | None
    reason: str = ""
    size: int = 0            # bytes of the text as UTF-8, or of the file where there is no text
    record: int | None = None     # the number of a record in its file
    encoding: str = ""
    nulls: int = 0           # NUL characters that were removed


def check_encoding(encoding: str) -> None:
    """Raises DataError unless `encoding` is empty or a text encoding that Python knows."""
    try:
        known = not encoding or codecs.lookup(encoding)._is_text_encoding
    except (LookupError, ValueError):
        known = False
    if not known:
        common = ("utf-8", "utf-16", "latin-1", "cp1252", "cp1250", "cp1251", "koi8-r", "shift_jis", "euc_jp",
                  "gb18030", "big5", "euc_kr")
        raise DataError(f"data.encoding={encoding!r} is not known; write one of Python's, such as {', '.join(common)}, "
                        "or leave it empty to detect it" + did_you_mean(encoding, common))


def read_file(path: Path, encoding: str = "", field: str = "") -> Iterator[ReadText]:
    """The documents of a file: one, or one for each record if a `field` of records is asked for.

    Raises DataError where the field, or the name of a field, is missing.
    """
    try:
        data = path.read_bytes()
    except OSError:
        yield ReadText(None, "unreadable")
        return
    size = len(data)
    try:
        data = _decompress(data)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        yield ReadText(None, "damaged", size)
        return
    if data[:4] == b"PAR1":
        yield from _parquet(data, path, size, field)
    elif field:
        yield from _json(data, path, size, encoding, field)
    else:
        found = _python(data) if path.suffix == ".py" and not encoding else decode(data, encoding)
        yield found if found.text is not None else found._replace(size=size)


def _decompress(data: bytes) -> bytes:
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    if data.startswith(b"BZh") and data[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return bz2.decompress(data)
    if data.startswith(b"\xfd7zXZ\0"):
        return lzma.decompress(data)
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow
        return pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "zstd").read()
    return data


def decode(data: bytes, encoding: str = "") -> ReadText:
    """The text of `data` in `encoding`, or in the encoding that is found by the rules above."""
    used = encoding or find_encoding(data)
    if not used:
        return ReadText(None, "binary" if b"\0" in data else "undecodable", len(data))
    try:
        text = data.decode(used.removesuffix(GUESSED)).removeprefix("\ufeff")
        return clean_text(text, len(data), used.removesuffix("-sig"))
    except (UnicodeError, LookupError):
        return ReadText(None, "undecodable", len(data))


def _python(data: bytes) -> ReadText:
    """The text of a Python file, as PEP 263 says."""
    try:
        used, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return clean_text(data.decode(used), len(data), codecs.lookup(used.removesuffix("-sig")).name)
    except (SyntaxError, UnicodeError, LookupError):
        return ReadText(None, "undecodable", len(data))


def find_encoding(data: bytes) -> str:
    """The encoding of `data`; it ends in `GUESSED` if other encodings were as possible, and is "" if none is found."""
    for mark, name in MARKS:
        if data.startswith(mark):
            return name
    with_nulls = np.frombuffer(data, np.uint8) == 0
    if with_nulls.any():
        even, odd = int(with_nulls[::2].sum()), int(with_nulls[1::2].sum())
        wide = "utf-16-le" if odd > even else "utf-16-be"
        least, most = sorted((even, odd))
        if len(data) % 2 == 0 and 10 * least <= most and 50 * most >= len(data) and _decodes(
                data, wide) and not _CONTROL.search(data.decode(wide)):
            return wide
        return "utf-8" if _decodes(data, "utf-8") else ""
    if _decodes(data, "utf-8"):
        return "utf-8"
    high = np.count_nonzero(np.frombuffer(data, np.uint8) > 127)
    if sum(map(len, _IN_THREES.findall(data))) < LATIN * high:
        return f"cp1252{GUESSED}" if _decodes(data, "cp1252") else ""
    import charset_normalizer
    best = charset_normalizer.from_bytes(data, cp_isolation=OTHERS).best()
    return f"{best.encoding}{GUESSED}" if best and _decodes(data, best.encoding) else ""


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeError:
        return False
    return True


def clean_text(text: str, size: int, encoding: str = "") -> ReadText:
    """The text with "\\n" for every newline and without NUL characters, or the reason why it is no text."""
    controls = len(_CONTROL.findall(text))
    if controls > CONTROLS * len(text):
        return ReadText(None, "binary", size)
    nulls = text.count("\0") if controls else 0
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    try:
        return ReadText(text, "", len(text.encode()), None, encoding, nulls)
    except UnicodeEncodeError:       # half of a surrogate pair, which an escape in JSON can write
        return ReadText(None, "undecodable", size)


def _parquet(data: bytes, path: Path, size: int, field: str) -> Iterator[ReadText]:
    import pyarrow
    from pyarrow import parquet
    try:
        table = parquet.ParquetFile(pyarrow.BufferReader(data))
        names, values = table.schema_arrow.names, []
        if field in names:
            values = [value for batch in table.iter_batches(columns=[field]) for value in batch.column(0).to_pylist()]
    except (pyarrow.ArrowException, OSError, ValueError):
        yield ReadText(None, "damaged", size)
        return
    if field not in names:
        raise _no_field(field, path, names)
    yield from _records(values, size)


def _json(data: bytes, path: Path, size: int, encoding: str, field: str) -> Iterator[ReadText]:
    found = decode(data, encoding)
    if found.text is None or not found.text.strip():
        yield found._replace(size=size)
        return
    values = _parse(found.text)
    values = values if isinstance(values, list) else [values]
    if values == [None]:                                             # not one JSON value; JSON lines have one each
        values = [_parse(line) for line in found.text.split("\n") if line.strip()]
    tables = [value for value in values if isinstance(value, dict)]
    if tables and not any(field in table for table in tables):
        raise _no_field(field, path, dict.fromkeys(name for table in tables for name in table))
    if not tables:
        yield ReadText(None, "not_json", size)
        return
    records = _records([value.get(field) if isinstance(value, dict) else value for value in values], size)
    for value, record in zip(values, records, strict=True):
        reason = "not_json" if not isinstance(value, dict) else "no_field" if field not in value else record.reason
        yield record._replace(text=None if reason else record.text, reason=reason, encoding=found.encoding)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _records(values: list, size: int) -> Iterator[ReadText]:
    if not values:
        yield ReadText(None, "empty", size)
    for number, value in enumerate(values):
        found = decode(value, "utf-8") if isinstance(value, bytes) else clean_text(value, len(value)) if isinstance(
            value, str) else ReadText(None, "no_text")
        yield found._replace(record=number)


def _no_field(field: str, path: Path, names) -> DataError:
    if not field:
        return DataError(f"{path} is a Parquet file: write --config.data.field=<name of the column with the text>; "
                         f"it has {', '.join(names)}")
    return DataError(f"data.field={field!r} is not in {path}; {nearest(field, names)}")
