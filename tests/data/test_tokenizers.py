"""Tokenizers lose nothing, and their bytes add up."""
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scaling.data import tokenizers
from scaling.fields import DataError

TEXT = ["def f(x):\n    return x + 1\n", "für immer, naïve café \U0001f600 " * 3,
        "class Thing:\n\n\tdef __init__(self, other):\r\n\t\tself.other = [other, 1, 2, 3]\n"] * 5
bpe = tokenizers.BPE(tokenizers.BPE.train(TEXT, 320))
both = pytest.mark.parametrize("tokenizer", [tokenizers.Bytes(), bpe], ids=["bytes", "bpe"])


@both
@settings(deadline=None)
@given(text=st.text())
@example(text="\0")
@example(text="<|endoftext|> \u2028 \ufeff")
def test_round_trip_and_bytes(tokenizer, text):
    tokens = tokenizer.encode(text)
    assert tokens.dtype == np.int32 and tokenizer.decode(tokens) == text
    assert tokenizer.bytes_per_token[tokens].sum() == len(text.encode())
    assert (tokens < tokenizer.vocab).all() and (tokens >= 0).all()


@both
@settings(deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_packing_puts_a_separator_after_each_text(tokenizer, texts):
    packed = tokenizer.pack(texts)
    assert packed.dtype == tokenizer.dtype
    assert tokenizer.to_bytes(packed) == b"".join(t.encode() + tokenizers.SEPARATOR for t in texts)
    ends = np.cumsum([len(tokenizer.encode(t)) + 1 for t in texts]) - 1
    np.testing.assert_array_equal(np.flatnonzero(packed == 0), ends)


def test_training_is_deterministic_and_compresses():
    assert tokenizers.BPE.train(TEXT, 320) == tokenizers.BPE.train(TEXT, 320)
    assert bpe.vocab == 320 and bpe.dtype == np.uint16 and tokenizers.Bytes().dtype == np.uint8
    assert len(bpe.encode(TEXT[0])) < len(TEXT[0].encode()) / 2


@pytest.mark.parametrize("name, hint", [("byte", "bpe:<vocab>"), ("bpe:", "bpe:4096"), ("bpe:100", "bpe:258"),
                                        ("bpe:5000", "or less")])
def test_errors_say_what_to_write(name, hint, tmp_path):
    with pytest.raises(DataError, match=hint):
        tokenizers.find_tokenizer(name, tmp_path, "corpus", lambda: TEXT)
