"""Tokenizers of exported runs give the same numbers as here, and those of imported checkpoints lose nothing of a text."""

import json

import numpy as np
import pytest
from foreign_checkpoint import END, trained_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from scaling.data.tokenizers import BPE, SEPARATOR, Bytes, Stored, find_tokenizer, read_stored, store_tokenizer
from scaling.exchange import ExchangeError
from scaling.exchange.tokens import read_tokenizer_of, write_tokenizer
from scaling.experiment.kinds._kind import count_tokens
from scaling.fields import ConfigError, DataError

TEXT = "the law of the loss, the loss of the law; über 日本 \u0000 end\n\n  x = 1\t# é" * 3
STATE = trained_tokenizer(TEXT, 300)
SIZE = len(json.loads(STATE)["model"]["vocab"])  # and the number of the end
TOKENIZERS = {"bytes": Bytes(), "bpe": BPE(BPE.train([TEXT], 300)), "stored": Stored(STATE, SIZE, SIZE + 7)}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """{kind: the tokenizer that another program reads}."""
    found = {}
    for kind, tokenizer in TOKENIZERS.items():
        folder = tmp_path_factory.mktemp(kind)
        write_tokenizer(folder, tokenizer, 128)
        found[kind] = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return found


@settings(max_examples=25, deadline=None)
@given(st.one_of(st.text(), st.text(alphabet="the lawos,;\n ü日\0")))
def test_every_text_has_the_same_tokens_here_and_there(written, text):
    for kind, tokenizer in TOKENIZERS.items():
        tokens = tokenizer.encode(text)
        assert written[kind].encode(text, add_special_tokens=False).ids == tokens.tolist()
        assert tokenizer.decode(tokens) == text and written[kind].decode(tokens.tolist()) == text


def test_token_0_ends_documents_there_too(written):
    assert written["bpe"].id_to_token(0) == written["stored"].id_to_token(0) == END
    assert written["bytes"].encode("\0").ids == [0]


def test_a_foreign_tokenizer_has_its_own_numbers_but_for_the_end_and_every_byte():
    theirs, ours = Tokenizer.from_str(STATE), TOKENIZERS["stored"]
    ids = np.array(theirs.encode(TEXT).ids)
    assert (ours.numbers[ids] == ours.encode(TEXT)).all()
    assert (ours.numbers[ours.numbers] == np.arange(ours.vocab)).all()
    assert ours.numbers[SIZE] == 0 and ours.strings[0] == SEPARATOR and ours.vocab == SIZE + 7
    assert ours.bytes_per_token[0] == 1
    assert ours.bytes_per_token[ours.encode(TEXT)].sum() == len(TEXT.encode())
    assert (ours.pack([TEXT, "x"]) == [*ours.encode(TEXT), 0, *ours.encode("x"), 0]).all()


def test_what_looks_like_a_special_token_in_a_text_is_text():
    ours = TOKENIZERS["stored"]
    assert 0 not in ours.encode(f"a{END}b") and ours.decode(ours.encode(f"a{END}b")) == f"a{END}b"


def test_texts_are_not_normalised_cut_or_padded():
    content = json.loads(STATE) | {"normalizer": {"type": "NFC"}, "truncation": {
        "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}}
    ours = Stored(json.dumps(content), SIZE)
    assert ours.decode(ours.encode("e\u0301 and more")) == "e\u0301 and more"


@pytest.mark.parametrize("change, says", [
    ({"pre_tokenizer": {"type": "Metaspace"}}, "no pre_tokenizer ByteLevel"),
    ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "adds a space"),
    ({"model": {"type": "Unigram", "vocab": []}}, "of the type Unigram")])
def test_tokenizers_that_lose_bytes_are_refused(change, says):
    with pytest.raises(DataError, match=f"{says}.*only byte-level"):
        Stored(json.dumps(json.loads(STATE) | change), SIZE)


def test_a_stored_tokenizer_is_found_by_its_name_and_checked(tmp_path):
    tokenizer = TOKENIZERS["stored"]
    path = store_tokenizer(tokenizer, tmp_path)
    again = find_tokenizer(tokenizer.name, tmp_path, "corpus", tuple)
    assert again.strings == tokenizer.strings and count_tokens(tokenizer.name) == tokenizer.vocab
    with pytest.raises(DataError, match="import its checkpoint again"):
        find_tokenizer(tokenizer.name[:-4] + "0000", tmp_path, "corpus", tuple)
    path.rename(path.with_name("bpe300-000000000000.json"))
    with pytest.raises(DataError, match="holds the tokenizer"):
        read_stored(path.with_name("bpe300-000000000000.json"))
    with pytest.raises(ConfigError, match="data.tokenizer='stored:x' is not known"):
        count_tokens("stored:x")


def test_the_tokenizer_of_a_checkpoint_says_which_token_ends_documents_or_the_model_does(tmp_path):
    (tmp_path / "tokenizer.json").write_text(STATE)
    with pytest.raises(ExchangeError, match="nothing says which token"):
        read_tokenizer_of(tmp_path, {}, SIZE + 1)
    assert read_tokenizer_of(tmp_path, {"eos_token_id": [SIZE, 3]}, SIZE + 1).end == SIZE
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": END}))
    assert read_tokenizer_of(tmp_path, {"eos_token_id": 3}, SIZE + 1).end == SIZE
    with pytest.raises(ExchangeError, match="do not belong together"):
        read_tokenizer_of(tmp_path, {}, SIZE)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ExchangeError, match="has no tokenizer.json"):
        read_tokenizer_of(tmp_path, {}, SIZE)


def test_bytes_are_known_again(tmp_path):
    write_tokenizer(tmp_path, Bytes(), 16)
    assert read_tokenizer_of(tmp_path, {}, 256).name == "bytes"
