"""Long documents are divided, so that every corpus has an evaluation set that is a sample of it, or is refused."""
import random

import pytest

from scaling import data
from scaling.data import curate
from scaling.fields import DataError


def prose(seed: int, words: int, between: str = " ") -> str:
    rng = random.Random(seed)
    return between.join("".join(rng.choices("abcdefgh", k=5)) for _ in range(words))


def load(tmp_path, texts: dict[str, str], **options):
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return data.load_text(f"text:{tmp_path}/*.txt", data_dir=tmp_path / "data", progress=False,
                          **{"length": 32, "batch": 2, **options})


@pytest.mark.parametrize("texts", [
    {"one.txt": prose(0, 9000)}, {"one.txt": prose(0, 9000, "")}, {"one.txt": prose(0, 500)},
    {"one.txt": prose(0, 9000), "two.txt": prose(1, 90)},
    {"huge.txt": prose(0, 9000), **{f"{i}.txt": prose(1 + i, 9) for i in range(40)}},
    {"huge.txt": prose(0, 9000, "\n"), **{f"{i}.txt": prose(1 + i, 9) for i in range(40)}}],
    ids=["one line", "no spaces", "short", "two", "one huge and many tiny", "the same with lines"])
def test_a_share_of_the_text_is_held_out_however_it_is_written(tmp_path, texts):
    source = load(tmp_path, texts)
    held_out, trained = source.contents["evaluation"]["file"], source.contents["training"]
    assert 0.02 < held_out["bytes"] / source.contents["bytes"] < (0.12 if source.contents["documents"] >= 20 else 0.5)
    assert held_out["bytes"] + trained["bytes"] == sum(map(len, texts.values()))
    assert len(source.evaluation("file", 0)["tokens"])


@pytest.mark.parametrize("between", ["\n", " ", "", "é"])
def test_pieces_are_the_text_and_end_where_a_line_or_word_does(between):
    text = prose(3, 3000, between)
    pieces = curate._pieces(text, 1000)
    assert "".join(pieces) == text and all(1000 <= len(piece) <= 2000 for piece in pieces[:-1])
    assert between not in ("\n", " ") or all(piece.endswith(between) for piece in pieces[:-1])


def test_many_documents_of_like_length_stay_whole():
    documents = [curate.Document(f"{i}", "", prose(i, 500)) for i in range(curate.FEW)]
    assert curate.divide(documents, sum(len(d.text) for d in documents)) == documents


@pytest.mark.parametrize("texts", [{"one.txt": prose(0, 100)}, {"one.txt": "a " * 9000},
                                   {"one.txt": prose(0, 50), "two.txt": prose(0, 50)}])
def test_a_text_without_an_evaluation_set_is_refused(tmp_path, texts):
    with pytest.raises(DataError, match="nothing is left to train on, beside an evaluation set.*give at least two"):
        load(tmp_path, texts)


def test_sizes_that_are_not_there_name_the_field_the_value_and_the_most(tmp_path):
    source = load(tmp_path, {"one.txt": prose(0, 9000)})
    most = len(source.evaluation("file", 0)["tokens"]) * 32
    with pytest.raises(DataError, match=rf"data.evaluation_tokens=1,000,000 is more than the {most:,} tokens"):
        source.evaluation("file", 10**6)
    with pytest.raises(DataError, match=f"data.unique_tokens=1,000,000 is more than the {source.tokens:,} training"):
        load(tmp_path, {}, unique_tokens=10**6)
    for length in (10**5, 5000):                # longer than the training text, and than the evaluation set only
        with pytest.raises(DataError, match=f"shorter than one window of data.length={length}"):
            load(tmp_path, {}, length=length).evaluation("file", 0)


def test_everything_read_is_kept_or_counted(tmp_path):
    texts = {f"{i:02}.txt": prose(i, 200) for i in range(24)}
    texts |= {"copy.txt": texts["03.txt"], "near.txt": texts["04.txt"] + " end", "empty.txt": " \n"}
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xfd")
    (tmp_path / "latin.txt").write_bytes("déjà vu, in a text of its own".encode("latin-1"))
    found = load(tmp_path, texts).contents
    assert found["left_out"] == {"undecodable": 1, "duplicate": 1, "near_duplicate": 1, "empty": 1}
    assert found["documents"] == 25 and found["encodings"] == {"utf-8": 25, "cp1252 (guessed)": 1}
    assert found["documents"] + sum(found["left_out"].values()) == len(texts) + 2
    assert found["examples"]["undecodable"] == ["bad.txt"]


def test_the_summary_says_what_was_left_out_and_guessed(tmp_path):
    texts = {f"{i:02}.txt": prose(i, 200) for i in range(24)}
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xfd")
    (tmp_path / "latin.txt").write_bytes("déjà vu, in a text of its own".encode("latin-1"))
    source = load(tmp_path, texts)
    first, *rest = source.summary()
    assert f"25 documents ({source.contents['bytes']:,} bytes)" in first
    assert f"{source.unique_tokens:,} different tokens" in first and "'file'" in first
    assert rest == ["encodings beside UTF-8: cp1252 (guessed) in 1", "left out: 1 undecodable (bad.txt)",
                    "the encoding of 1 documents is a guess (cp1252); if it is wrong, write --config.data.encoding=..."]
