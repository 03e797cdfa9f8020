"""From bytes to text: encodings, compression, newlines, and records of JSON lines and Parquet."""
import bz2
import gzip
import json
import lzma

import numpy as np
import pandas as pd
import pyarrow
import pytest

from scaling import data
from scaling.data import reading
from scaling.fields import DataError

PLAIN = "Ein Jäger überquert die Straße.\nNaïve façades, déjà vu.\n"
SENTENCES = {
    "cp1251": "Съешь ещё этих мягких французских булок, да выпей чаю.\n",
    "koi8-r": "Съешь ещё этих мягких французских булок, да выпей чаю.\n",
    "cp1253": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία και πάω στο σπίτι.\n",
    "shift_jis": "これは日本語の文章です。文字コードを調べるために書きました。\n",
    "gb18030": "这是一个中文句子，用来测试编码检测。他们昨天去了北京。\n"}


def zstd(content: bytes) -> bytes:
    return pyarrow.Codec("zstd").compress(content, asbytes=True)


def read(tmp_path, content: bytes, name="a.txt", **asked):
    (tmp_path / name).write_bytes(content)
    return list(reading.read_file(tmp_path / name, **asked))


@pytest.mark.parametrize("encoding, said", [
    ("utf-8", "utf-8"), ("utf-8-sig", "utf-8"), ("utf-16", "utf-16"), ("utf-16-le", "utf-16-le"),
    ("utf-16-be", "utf-16-be"), ("utf-32", "utf-32"), ("latin-1", "cp1252 (guessed)"), ("cp1252", "cp1252 (guessed)")])
@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd])
def test_encodings_are_found_in_any_compression(tmp_path, encoding, said, compress):
    (found,) = read(tmp_path, compress(PLAIN.encode(encoding)))
    assert (found.text, found.encoding, found.reason) == (PLAIN, said, "")


@pytest.mark.parametrize("encoding", SENTENCES)
def test_other_scripts_are_guessed_and_said_to_be(tmp_path, encoding):
    text = 3 * SENTENCES[encoding]
    (found,) = read(tmp_path, text.encode(encoding))
    assert found.text == text and found.encoding.endswith("(guessed)")


@pytest.mark.parametrize("text", ["déjà", "é", "Über Öl", "<p>coöperate, façade, naïveté</p>", "ÀÉ ça"])
def test_short_texts_in_latin_scripts_are_read_as_such(tmp_path, text):
    (found,) = read(tmp_path, text.encode("latin-1"))
    assert (found.text, found.encoding) == (text, "cp1252 (guessed)")


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_no_text(tmp_path, seed):
    (found,) = read(tmp_path, np.random.default_rng(seed).integers(1, 256, 2000, np.uint8).tobytes())
    assert found.text is None and found.reason in ("undecodable", "binary")


@pytest.mark.parametrize("encoding", ["cp1250", "iso8859-2", "mac_roman", *SENTENCES])
def test_an_encoding_that_is_asked_for_decides(tmp_path, encoding):
    text = "Zażółć gęślą jaźń\n" if encoding in ("cp1250", "iso8859-2") else SENTENCES.get(encoding, "déjà vu\n")
    (found,) = read(tmp_path, text.encode(encoding), encoding=encoding)
    assert found.text == text
    (found,) = read(tmp_path, b"\xff\xfe\xfd", encoding="utf-8")
    assert (found.text, found.reason) == (None, "undecodable")


@pytest.mark.parametrize("encoding", ["utf9", "latin 1 or so", "hex", "rot13", "\0"])
def test_an_encoding_that_is_none_is_refused(tmp_path, encoding):
    (tmp_path / "a.txt").write_text(PLAIN)
    with pytest.raises(DataError, match="data.encoding=.*not known.*latin-1"):
        data.load_text(f"text:{tmp_path}/a.txt", data_dir=tmp_path / "data", progress=False, encoding=encoding)


def test_newlines_nulls_and_byte_order_marks_are_no_text(tmp_path):
    (found,) = read(tmp_path, "\ufeffone\r\ntwo\rthree\n\0four and so on, a line of text\n".encode())
    assert found.text == "one\ntwo\nthree\nfour and so on, a line of text\n" and found.nulls == 1


@pytest.mark.parametrize("content, reason", [
    (b"\x7fELF\x02\x01\x01" + bytes(60) + b"\x90\xff" * 9, "binary"), (b"\xef\xbb\xbf\xff\xff", "undecodable"),
    (gzip.compress(b"text " * 99)[:-9], "damaged"), (zstd(b"text" * 99)[:-3], "damaged"),
    (bz2.compress(b"text" * 99)[:-3], "damaged"), (lzma.compress(b"text" * 99)[:-3], "damaged"),
    (b"PAR1 and no more", "damaged"), (bytes([*range(1, 9), *range(14, 32)]), "binary")],
    ids=["elf", "utf-8", "gzip", "zstd", "bzip2", "xz", "parquet", "controls"])
def test_what_is_no_text_has_a_reason(tmp_path, content, reason):
    (found,) = read(tmp_path, content)
    assert (found.text, found.reason, found.size) == (None, reason, len(content))


LINES = [{"id": 1, "text": "one\r\n"}, {"id": 2, "text": None}, {"id": 3}, {"id": 4, "text": "four é \u2028"}]


@pytest.mark.parametrize("content", [
    "".join(json.dumps(line) + "\n" for line in LINES).encode(), json.dumps(LINES, indent=1).encode(),
    gzip.compress("\n\n".join(json.dumps(line, ensure_ascii=False) for line in LINES).encode("utf-16"))],
    ids=["lines", "array", "compressed"])
def test_records_of_json_are_documents(tmp_path, content):
    found = read(tmp_path, content, "a.jsonl", field="text")
    assert [(f.text, f.reason, f.record) for f in found] == [
        ("one\n", "", 0), (None, "no_text", 1), (None, "no_field", 2), ("four é \u2028", "", 3)]


def test_lines_that_are_no_json_and_halves_of_characters_are_counted(tmp_path):
    found = read(tmp_path, b'{"text": "a"}\n{"text": \n[]\n{"text": "\\ud800"}\n' + b"[" * 10**5, field="text")
    assert [f.reason for f in found] == ["", "not_json", "not_json", "undecodable", "not_json"]
    assert [f.reason for f in read(tmp_path, b"plain text\n", field="text")] == ["not_json"]


@pytest.mark.parametrize("compression", ["snappy", "zstd", None])
def test_columns_of_parquet_are_documents(tmp_path, compression):
    pd.DataFrame({"id": [1, 2, 3], "text": ["one", None, "number three\0"]}).to_parquet(
        tmp_path / "p", compression=compression)
    found = read(tmp_path, (tmp_path / "p").read_bytes(), field="text")
    assert [(f.text, f.reason) for f in found] == [("one", ""), (None, "no_text"), ("number three", "")]
    with pytest.raises(DataError, match="is a Parquet file: write --config.data.field=.*id, text"):
        read(tmp_path, (tmp_path / "p").read_bytes())


def test_a_field_that_is_not_there_is_refused_with_the_nearest(tmp_path):
    pd.DataFrame({"id": [1], "content": ["one"]}).to_parquet(tmp_path / "p")
    for content in (b'{"id": 1, "content": "one"}\n', (tmp_path / "p").read_bytes()):
        with pytest.raises(DataError, match="data.field='contents' is not in .*a.txt; nearest: content"):
            read(tmp_path, content, field="contents")


def test_how_files_are_read_is_not_asked_of_other_data(tmp_path):
    with pytest.raises(DataError, match="data.encoding='latin-1' says how files of text:"):
        data.load_text("pycode/stdlib", data_dir=tmp_path, progress=False, encoding="latin-1")
