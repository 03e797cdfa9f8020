"""JSON files carry the digest of their values: readers never see it, and never see values that were altered."""
import json
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.store import files, strict_json

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers()
json_values = st.recursive(numbers | st.none() | st.text(max_size=5),
                           lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from("abc"), v, max_size=3))


@settings(deadline=None, max_examples=40)
@given(json_values | st.dictionaries(st.just("list"), json_values))
def test_what_was_sealed_comes_back(value):
    text = strict_json.dumps_sealed(value)
    assert repr(strict_json.loads_sealed(text)) == repr(value)
    assert strict_json.loads_sealed(json.dumps(json.loads(text), indent=3, sort_keys=True)) == value  # the layout is free
    assert strict_json.is_sealed(text)


@pytest.mark.parametrize("value", [{"loss": 2.5, "nan": float("nan"), "name": "ü"}, [1.5, {"a": [float("inf")]}], {}])
def test_a_flipped_bit_is_found_or_changes_nothing(tmp_path, value):
    path = tmp_path / "fit.json"
    files.write_json(path, value)
    whole, found = path.read_bytes(), 0
    for bit in range(0, 8 * len(whole), 3):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            read = files.read_json(path)
        except files.DamagedFile as error:
            assert str(path) in str(error) and "restore it, or delete it" in str(error) and "\n" not in str(error)
            found += 1
            continue
        if isinstance(read, dict) and repr(read) != repr(value):  # the key of the digest itself was hit
            del read[next(key for key in read if len(key) == len(strict_json.KEY) and key not in value)]
            read = read.get(strict_json.WRAPPED, read) if not isinstance(value, dict) else read
        assert repr(read) == repr(value)
    assert found > 2 * len(whole)


def test_a_file_of_an_older_version_is_read_and_one_that_was_edited_says_how_to_keep_the_edit(tmp_path):
    path = tmp_path / "study.json"
    path.write_text('{"title": "old", "loss": null, "nonfinite": {"loss": "nan"}}')
    assert repr(files.read_json(path)) == repr({"title": "old", "loss": float("nan")})
    files.write_json(path, {"title": "mine"})
    path.write_text(path.read_text().replace("mine", "other"))
    with pytest.raises(files.DamagedFile, match=r"study\.json is not as it was written.*delete its key 'digest'"):
        files.read_json(path)
    content = json.loads(path.read_text())
    del content["digest"]
    path.write_text(json.dumps(content))
    assert files.read_json(path) == {"title": "other"}


def test_what_cannot_be_read_is_a_sentence(tmp_path):
    for name, content in {"empty": b"", "binary": b"\xff\x00", "deep": b"[" * 100_000, "cut": b'{"a": 1'}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(files.DamagedFile, match=f"{name} is not valid JSON"):
            files.read_json(tmp_path / name)
    with pytest.raises(files.DamagedFile, match="cannot be read"):
        files.read_json(tmp_path)
    with pytest.raises(FileNotFoundError):
        files.read_json(tmp_path / "none")


def test_the_key_of_the_digest_is_reserved():
    with pytest.raises(ValueError, match="'digest'.*rename it"):
        strict_json.dumps_sealed({"digest": 1})


def test_a_line_is_whole_or_none():
    line = strict_json.dumps_line({"fingerprint": "a", "loss": 2.0}).encode()
    assert files.loads_line(line) == {"fingerprint": "a", "loss": 2.0}
    assert files.loads_line(line.replace(b"2.0", b"3.0")) is None and files.loads_line(line[:-5]) is None
    rng = random.Random(0)
    assert files.loads_line(bytes(rng.randrange(256) for _ in range(50))) is None


def test_a_file_has_the_mode_of_the_umask_whatever_writes_it(tmp_path):
    old = os.umask(0o027)
    try:
        with files.replacing(tmp_path / "a") as temporary:
            temporary.unlink()  # as libraries do that put a file of their own in place
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
        files.atomic_write(tmp_path / "b", "x")
    finally:
        os.umask(old)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in "ab"] == [0o640] * 2
