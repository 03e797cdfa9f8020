"""Text to tokens and back without loss, with the number of bytes that each token stands for.

Token 0 separates documents, in every tokenizer; it stands for one byte, `SEPARATOR`. So a sequence of tokens is a
sequence of bytes whatever the tokenizer, and a loss in bits per byte means the same under each.
"""
import functools
import hashlib
from collections.abc import Sequence

import numpy as np

SEPARATOR = b"\0"


class Tokenizer:
    """A vocabulary of byte strings; `strings[t]` is what token t stands for."""
    name: str
    fingerprint: str
    strings: tuple[bytes, ...]

    @property
    def vocab(self) -> int:
        return len(self.strings)

    @functools.cached_property
    def bytes_per_token(self) -> np.ndarray:
        """int32 [vocab]."""
        return np.array([len(s) for s in self.strings], np.int32)

    @property
    def dtype(self) -> np.dtype:
        """The smallest unsigned type that holds every token."""
        return np.min_scalar_type(self.vocab - 1)

    def encode(self, text: str) -> np.ndarray:
        """int32 [tokens]; `decode(encode(text)) == text` for any text that is valid Unicode."""
        raise NotImplementedError

    def pack(self, texts: Sequence[str]) -> np.ndarray:
        """Tokens of all `texts` in a row, token 0 after each: [tokens] of `dtype`."""
        parts = [part for text in texts for part in (self.encode(text), [0])]
        return np.concatenate(parts).astype(self.dtype) if parts else np.zeros(0, self.dtype)

    def to_bytes(self, tokens) -> bytes:
        """The bytes that `tokens` stand for; there are `bytes_per_token[tokens].sum()` of them."""
        return b"".join([self.strings[t] for t in np.asarray(tokens).ravel().tolist()])

    def decode(self, tokens) -> str:
        """The text of `tokens`; a character cut at either end reads as U+FFFD."""
        return self.to_bytes(tokens).decode("utf-8", "replace")


class Bytes(Tokenizer):
    """UTF-8 bytes; vocabulary 256, nothing to train."""
    name = "bytes"
    fingerprint = "bytes"
    strings = tuple(bytes([i]) for i in range(256))

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode(), np.uint8).astype(np.int32)

    def pack(self, texts: Sequence[str]) -> np.ndarray:
        return np.frombuffer(SEPARATOR.join([*(t.encode() for t in texts), b""]), np.uint8)


def get(name: str, *_):
    return Bytes()
