"""Text to tokens and back without loss, with the number of bytes that each token stands for.

In every tokenizer token 0 separates documents. It stands for one byte, `SEPARATOR`. So a sequence of tokens is a
sequence of bytes under any tokenizer, and a loss in bits per byte means the same under all of them.
"""
import functools
import hashlib
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from scaling.fields import DataError
from scaling.store.files import write_json
from scaling.store.prepared import find_index, locked, say_damaged

SEPARATOR = b"\0"
SMALLEST_BPE = 258


class Tokenizer:
    """A vocabulary of byte strings: token t stands for `strings[t]`."""
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
        """The tokens of all `texts` in one row, with token 0 after each text: [tokens] of `dtype`."""
        parts = [part for text in texts for part in (self.encode(text), [0])]
        return np.concatenate(parts).astype(self.dtype) if parts else np.zeros(0, self.dtype)

    def to_bytes(self, tokens) -> bytes:
        """The bytes that `tokens` stand for; there are `bytes_per_token[tokens].sum()` of them."""
        return b"".join([self.strings[t] for t in np.asarray(tokens).ravel().tolist()])

    def decode(self, tokens) -> str:
        """The text of `tokens`; a character cut at either end reads as U+FFFD."""
        return self.to_bytes(tokens).decode("utf-8", "replace")


class Bytes(Tokenizer):
    """UTF-8 bytes: a vocabulary of 256, and nothing to train."""
    name = "bytes"
    fingerprint = "bytes"
    strings = tuple(bytes([i]) for i in range(256))

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode(), np.uint8).astype(np.int32)

    def pack(self, texts: Sequence[str]) -> np.ndarray:
        return np.frombuffer(SEPARATOR.join([*(t.encode() for t in texts), b""]), np.uint8)


class BPE(Tokenizer):
    """Byte-level byte-pair encoding (Radford et al. 2019): token 0, then those of the `tokenizers` library."""

    def __init__(self, state: str):
        from tokenizers import Tokenizer as Trained
        from tokenizers import pre_tokenizers
        self._trained = Trained.from_str(state)
        # The library writes a byte as a printable character: the byte's own, or else one from U+0100 on.
        alphabet = set(pre_tokenizers.ByteLevel.alphabet())
        hidden = [i for i in range(256) if chr(i) not in alphabet]
        byte = {chr(i): i for i in range(256) if chr(i) in alphabet}
        byte |= {chr(256 + n): i for n, i in enumerate(hidden)}
        number = self._trained.get_vocab()
        tokens = sorted(number, key=number.__getitem__)
        self.strings = (SEPARATOR, *(bytes(byte[c] for c in token) for token in tokens))
        self.name = f"bpe:{self.vocab}"
        self.fingerprint = f"bpe{self.vocab}-{hashlib.sha256(state.encode()).hexdigest()[:12]}"

    @classmethod
    def train(cls, texts: Sequence[str], vocab: int, progress: bool = False) -> str:
        """The state of a tokenizer with `vocab` tokens, trained on `texts`. Equal texts give equal states."""
        from tokenizers import Tokenizer as Trained
        from tokenizers import models, pre_tokenizers, trainers
        trained = Trained(models.BPE())
        trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(vocab_size=vocab - 1, show_progress=progress,
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
        trained.train_from_iterator(texts, trainer)
        return trained.to_str()

    def encode(self, text: str) -> np.ndarray:
        return np.array(self._trained.encode(text).ids, np.int32) + 1

    def pack(self, texts: Sequence[str]) -> np.ndarray:
        parts = []
        for start in range(0, len(texts), 256):          # the library works in parallel on a few megabytes at a time
            for encoded in self._trained.encode_batch_fast(list(texts[start:start + 256])):
                parts += [np.array(encoded.ids, self.dtype) + self.dtype.type(1), np.zeros(1, self.dtype)]
        return np.concatenate(parts) if parts else np.zeros(0, self.dtype)


def find_tokenizer(name: str, directory: pathlib.Path, corpus: str, texts: Callable[[], Sequence[str]],
                   progress: bool = False) -> Tokenizer:
    """The tokenizer called `name`: "bytes", or "bpe:<vocab>", trained on `texts()` once for each `corpus`."""
    if name == "bytes":
        return Bytes()
    kind, _, size = name.partition(":")
    if kind != "bpe" or not size.isdigit():
        raise DataError(f"no tokenizer is called {name!r}; write bytes, or bpe:<vocab> such as bpe:4096")
    if int(size) < SMALLEST_BPE:
        raise DataError(f"tokenizer {name} is too small: 256 bytes and the separator come first; "
                        f"write bpe:{SMALLEST_BPE} or more")
    path = directory / f"{corpus}-bpe{size}.json"
    found = _find_trained(path)
    if found is None:
        with locked(path):
            found = _find_trained(path)
            if found is None:
                state = BPE.train(texts(), int(size), progress)
                write_json(path, {"state": state, "sha256": hashlib.sha256(state.encode()).hexdigest()})
                found = BPE(state)
    if found.vocab != int(size):
        raise DataError(f"the training text has too few repeated pairs for tokenizer {name}; "
                        f"write bpe:{found.vocab} or less")
    return found


def _find_trained(path: pathlib.Path) -> BPE | None:
    """The trained tokenizer in a file, or None if there is none or it is damaged.

    The file has the library's own state and its digest; a file of an earlier version is that state, without a digest.
    """
    found = find_index(path)
    if found is None:
        return None
    state = found["state"] if "state" in found else path.read_text(encoding="utf-8")
    try:
        if "state" in found and hashlib.sha256(state.encode()).hexdigest() != found["sha256"]:
            raise ValueError("it does not have the digest that it had")
        return BPE(state)
    except Exception as error:           # the library raises plain Exception for a state that it cannot read
        say_damaged(path, error)
        return None
