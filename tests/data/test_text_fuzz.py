"""Any bytes in any files give a source whose text is right and whose counts add up, or one sentence."""
import bz2
import gzip
import json
import lzma
import pathlib
import tempfile
import warnings

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling import data
from scaling.data import corpus, curate, reading
from scaling.fields import DataError

COMPRESS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
            ".zst": lambda content: pyarrow.Codec("zstd").compress(content, asbytes=True)}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "latin-1", "cp1252", "cp1251", "shift_jis", "gb18030")
WORDS = ("alpha", "naïve", "Straße", "съешь", "булок", "日本語", "\0", "\r\n", "\r", "\n", " ", "\u2028", "\x1b", "😀")

texts = st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join) | st.text(max_size=200)
long_texts = st.tuples(st.sampled_from(WORDS), st.integers(1, 900), st.text(max_size=20)).map(
    lambda parts: "".join(f"{parts[0]}{i}{parts[2]}" for i in range(parts[1])))
encoded = st.tuples(texts | long_texts, st.sampled_from(ENCODINGS)).map(lambda pair: pair[0].encode(pair[1], "ignore"))
records = st.lists(st.dictionaries(st.sampled_from(["text", "id"]), texts | st.none() | st.integers(), max_size=2)
                   | st.integers() | st.text(max_size=9), max_size=8).map(
    lambda rows: "\n".join(map(json.dumps, rows)).encode())
STARTS = (b"PAR1", b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\xff\xfe", b"BZh91AY&SY", b"")
damaged = st.tuples(st.sampled_from(STARTS), st.binary(max_size=99)).map(b"".join)
files = st.lists(st.tuples(encoded | records | damaged | st.binary(max_size=400), st.sampled_from(list(COMPRESS)),
                           st.sampled_from(["txt", "py", "jsonl", "[x]", "é"])), min_size=1, max_size=30)
asked = st.sampled_from(["", "", "", *ENCODINGS])


def texts_of(readings) -> set[str]:
    return {read.text for read in readings if read.text is not None and read.text.strip()}


@pytest.mark.slow
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(files=files, plain=st.sampled_from([0, 3, 3, 25]), encoding=asked, field=st.sampled_from(["", "", "text"]))
def test_a_source_is_right_or_refused_in_a_sentence(files, plain, encoding, field):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        root, prepared = pathlib.Path(folder) / "in [1] é", pathlib.Path(folder) / "data"
        root.mkdir()
        for number, (content, compression, suffix) in enumerate(files):
            (root / f"{number:02}.{suffix}{compression}").write_bytes(COMPRESS[compression](content))
        for number in range(plain):                # without some that are right, most examples would be refused
            text = f"This is file {number}, " + "with more and more of its own words in it, " * number
            (root / f"plain{number}").write_text(json.dumps({"text": text}) if field else text)
        asked = {"progress": False, "encoding": encoding, "field": field}
        try:
            source = data.load_text(f"text:{root}", length=1, batch=2, data_dir=prepared, **asked)
            source.evaluation("file", 0)
        except DataError as error:
            assert "\n" not in str(error) and str(error)[-1] not in ".:"
            return
        readings = [read for path in sorted(root.iterdir()) for read in reading.read_file(path, encoding, field)]
        texts, found = texts_of(readings), source.contents
        read = corpus.find_corpus(f"text:{root}", prepared, **asked)
        documents = [text for split in ("train", *read.splits) for text in read.documents(split)]
        assert found["documents"] == len(documents) == len(set(documents))
        assert found["bytes"] == sum(len(text.encode()) for text in documents)
        assert all("\0" not in text and "\r" not in text and any(text in whole for whole in texts) for text in documents)
        # every document that was read is kept or counted once, and what is kept is all of the text but near duplicates
        repeated = found["left_out"].pop("near_duplicate", 0)
        assert len(readings) == sum(found["left_out"].values()) + len(texts)
        if not any("divided" in note for note in found["notes"]):
            assert len(documents) + repeated == len(texts)
        if not repeated:
            whole, kept = sum(map(len, texts)), sum(map(len, documents))
            assert whole - 2 * curate.LEAST_PIECE * (len(documents) > len(texts)) <= kept <= whole     # blank pieces go
