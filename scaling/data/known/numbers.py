"""Tokens that stand for nothing else, written as their numbers."""
import numpy as np

from scaling.data.tokenizers import Tokenizer
from scaling.fields import DataError


class Numbers(Tokenizer):
    """Token 17 is written "17 ". It stands for one byte, so that bits per byte are bits per token."""

    name = "numbers"

    def __init__(self, vocab: int):
        self.fingerprint, self._vocab = f"numbers{vocab}", vocab

    @property
    def vocab(self) -> int:
        return self._vocab

    def encode(self, text: str) -> np.ndarray:
        """int32 [tokens] of numbers that spaces separate."""
        try:
            found = np.array([int(word) for word in text.split()], np.int64)
        except ValueError:
            raise DataError(f"the tokens of these data are numbers; write some, such as '3 17 0', not {text!r}") from None
        if len(found) and not 0 <= found.min() <= found.max() < self._vocab:
            raise DataError(f"a token is out of range in {text!r}; write numbers from 0 to {self._vocab - 1}")
        return found.astype(np.int32)

    def to_bytes(self, tokens) -> bytes:
        return self.decode(tokens).encode()

    def decode(self, tokens) -> str:
        return "".join(f"{token} " for token in np.asarray(tokens).ravel().tolist())
