"""Text to tokens and back without loss, with the number of bytes that each token stands for.

In every tokenizer token 0 separates documents. It stands for one byte, `SEPARATOR`. So a sequence of tokens is a
sequence of bytes under any tokenizer, and a loss in bits per byte means the same under all of them.
"""
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from scaling.fields import DataError
from scaling.store.files import read_json, write_json
from scaling.store.prepared import find_index, locked, say_damaged

SEPARATOR = b"\0"
SMALLEST_BPE = 258
STORED = "stored:"  # before the fingerprint of a tokenizer that was trained elsewhere


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


def printed_bytes() -> dict[str, int]:
    """{character: the byte that it stands for}: the `tokenizers` library writes a byte as a printable character, its own or
    else one from U+0100 on."""
    from tokenizers import pre_tokenizers
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    hidden = [i for i in range(256) if chr(i) not in alphabet]
    byte = {chr(i): i for i in range(256) if chr(i) in alphabet}
    return byte | {chr(256 + n): i for n, i in enumerate(hidden)}


class BPE(Tokenizer):
    """Byte-level byte-pair encoding (Radford et al. 2019): token 0, then those of the `tokenizers` library."""

    def __init__(self, state: str):
        from tokenizers import Tokenizer as Trained
        self.state, self._trained = state, Trained.from_str(state)
        byte, number = printed_bytes(), self._trained.get_vocab()
        tokens = sorted(number, key=number.__getitem__)
        self.numbers = np.arange(1, len(tokens) + 1, dtype=np.int32)  # here, of the tokens of the library
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
        return self.numbers[np.array(self._trained.encode(text, add_special_tokens=False).ids, np.int32)]

    def pack(self, texts: Sequence[str]) -> np.ndarray:
        parts = []
        for start in range(0, len(texts), 256):          # the library works in parallel on a few megabytes at a time
            for encoded in self._trained.encode_batch_fast(list(texts[start:start + 256]), add_special_tokens=False):
                parts += [self.numbers[np.array(encoded.ids, np.int32)].astype(self.dtype), np.zeros(1, self.dtype)]
        return np.concatenate(parts) if parts else np.zeros(0, self.dtype)


class Stored(BPE):
    """Byte-level byte-pair encoding that was trained elsewhere, as the `tokenizer.json` of Hugging Face keeps it.

    Its token number `end`, which ends documents there, and its token 0 change places, so that token 0 ends documents here
    as everywhere: token t there is `numbers[t]` here, and the other way round. There are `vocab` tokens at least: models
    often have more rows than their tokenizers tokens, and no text has those. Text is not normalised, and nothing in it
    counts as a special token, so that it comes back without loss.
    """

    def __init__(self, state: str, end: int, vocab: int = 0):
        from tokenizers import Tokenizer as Trained
        self.state, self.end = state, end
        content = json.loads(state)
        if lacks := _not_lossless(content):
            raise DataError(f"the tokenizer {lacks}, so its tokens do not stand for the bytes of a "
                            "text: only byte-level byte-pair encoding can be read, as GPT-2, Llama 3 and Qwen have it")
        self._trained = Trained.from_str(json.dumps({**content, "normalizer": None, "truncation": None, "padding": None}))
        self._trained.encode_special_tokens = True
        byte, added = printed_bytes(), self._trained.get_added_tokens_decoder()
        strings = {number: bytes(byte[c] for c in token) for token, number in content["model"]["vocab"].items()}
        strings |= {number: token.content.encode() for number, token in added.items()}
        size = max(vocab, *(number + 1 for number in (*strings, end)))
        found = [strings.get(number, b"") for number in range(size)]
        found[end], found[0] = found[0], SEPARATOR
        self.strings = tuple(found)
        self.numbers = np.arange(size, dtype=np.int32)
        self.numbers[[0, end]] = end, 0
        digest = hashlib.sha256(f"{end} {state}".encode()).hexdigest()[:12]
        self.fingerprint = f"bpe{self.vocab}-{digest}"
        self.name = f"{STORED}{self.fingerprint}"


def _not_lossless(content: dict) -> str:
    """Why the tokens of a tokenizer.json do not stand for bytes, or ""."""
    model, before = content.get("model") or {}, content.get("pre_tokenizer") or {}
    if model.get("type", "BPE") != "BPE" or "vocab" not in model:
        return f"is of the type {model.get('type')}"
    steps = [step for step in before.get("pretokenizers", [before]) if step.get("type") == "ByteLevel"]
    if not steps:
        return "does not divide text into bytes (it has no pre_tokenizer ByteLevel)"
    if any(step.get("add_prefix_space") for step in steps):
        return "adds a space before each text (add_prefix_space)"
    suffixes = [name for name in ("continuing_subword_prefix", "end_of_word_suffix") if model.get(name)]
    return f"marks parts of words ({suffixes[0]})" if suffixes else ""


def store_tokenizer(tokenizer: Stored, directory: pathlib.Path) -> pathlib.Path:
    """Writes a tokenizer into a directory, unless it is there, under its fingerprint; returns the path of its file."""
    path = directory / f"{tokenizer.fingerprint}.json"
    if not path.exists():
        write_json(path, {"state": tokenizer.state, "end": tokenizer.end, "vocab": tokenizer.vocab})
    return path


@functools.lru_cache(maxsize=16)
def read_stored(path: pathlib.Path) -> Stored:
    """The tokenizer in a file of `store_tokenizer`. Raises DataError."""
    try:
        found = read_json(path)
        tokenizer = Stored(found["state"], found["end"], found["vocab"])
    except FileNotFoundError:
        raise DataError(f"data.tokenizer={STORED}{path.stem} is not in {path.parent}: import its checkpoint again "
                        "(experiments.import_checkpoint), or restore the run of the workdir that it is in") from None
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is no tokenizer ({error}); delete it, and import its checkpoint again") from None
    if tokenizer.fingerprint != path.stem:
        raise DataError(f"{path} holds the tokenizer {tokenizer.fingerprint}; delete it, and import its checkpoint again")
    return tokenizer


def find_tokenizer(name: str, directory: pathlib.Path, corpus: str, texts: Callable[[], Sequence[str]],
                   progress: bool = False) -> Tokenizer:
    """The tokenizer called `name`: "bytes"; "bpe:<vocab>", trained on `texts()` once for each `corpus`; or "stored:<name>",
    that of an imported checkpoint."""
    if name == "bytes":
        return Bytes()
    if name.startswith(STORED):
        return read_stored(directory / f"{name.removeprefix(STORED)}.json")
    kind, _, size = name.partition(":")
    if kind != "bpe" or not size.isdigit():
        raise DataError(f"no tokenizer is called {name!r}; write bytes, bpe:<vocab> such as bpe:4096, or "
                        "stored:<name of one that was imported>")
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
