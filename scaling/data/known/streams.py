"""An endless source of tokens drawn by a teacher, whose entropy is known."""
import hashlib
import math

import numpy as np

from scaling.data import contents
from scaling.data.known import draws
from scaling.data.known.entropy import FIRST, PER_SPLIT, SPLIT, Entropy, contents_of, estimated
from scaling.data.known.numbers import Numbers
from scaling.data.source import TOGETHER, UNLIMITED, Feed
from scaling.fields import DataError

VERSION = 1                  # of how examples follow from their numbers
RESIDENT = 1 << 25           # tokens that lie on the device as they are; of more, it draws those of each step


class TokenStream(Feed):
    """Windows of length + 1 tokens drawn by a teacher without end; made by `scaling.data.load_text`.

    Window i is a pure function of the teacher and i, so data sets of all sizes are nested, and no window is seen twice
    unless `unique_tokens` limits them. Evaluation has other windows.

    A batch is {"tokens": int32 [batch, length + 1]}.

    Attributes: `name`; `contents` (see `contents.py`); `fingerprint` of the teacher and its tables; `entropy` of the tokens
      after the first one of a window, in bits per token; `teacher`; `vocab`, `length`, `batch_size`; `unique_tokens`, the
      different training tokens; `splits`, for evaluation.
    """

    splits = (SPLIT,)

    def __init__(self, name: str, teacher, length: int, batch: int, unique_tokens: int):
        if 0 < unique_tokens < length:
            raise DataError(f"data.unique_tokens={unique_tokens} is less than one window of data.length={length}; "
                            "write at least that, or 0 for no limit")
        super().__init__(min(unique_tokens // length or UNLIMITED, UNLIMITED), batch, max(1, TOGETHER // length))
        self.name, self.teacher, self.length, self.vocab = name, teacher, length, teacher.vocab
        self.tokenizer, self.unique_tokens = Numbers(teacher.vocab), self._count * length
        described = f"{VERSION} {teacher!r} {draws.tables_digest(teacher.tables)}"
        self.fingerprint = hashlib.sha256(described.encode()).hexdigest()[:16]
        exact = teacher.entropy(length)
        self.entropy = (estimated(lambda index: self._nats(self._draw(index)).sum(-1), length) if exact is None else
                        Entropy(exact / math.log(2)))
        self.contents = contents_of("windows", "token", self.entropy) | {"units": self.unique_tokens, "unit": "tokens"}

    def __repr__(self) -> str:
        return f"TokenStream({self.name!r}, length={self.length}, batch={self.batch_size}, fingerprint={self.fingerprint})"

    def summary(self) -> list[str]:
        """Sentences about the teacher and its entropy."""
        return contents.sentences(self.name, self.contents)

    def _draw(self, index, tables=None, xp=np):
        tables = self.teacher.tables if tables is None else tables
        return self.teacher.read(tables, xp.asarray(index).astype(xp.uint32), self.length + 1, xp)

    def _nats(self, tokens: np.ndarray) -> np.ndarray:
        """-log p of each token after the first one, given all before it: float64 [k, length]."""
        return self.teacher.nats(tokens)[:, 1:]

    def _read(self, seed, step, rows):
        return {"tokens": self._draw(self._indices(seed, step, rows))}

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays to put on the device for `slice`: the windows, or, of very many, the tables that they are drawn by."""
        if self._count * (self.length + 1) > RESIDENT:
            return self.teacher.tables
        rows = range(0, self._count, self._together)
        return {"tokens": np.concatenate([self._draw(np.arange(at, min(at + self._together, self._count))) for at in rows])}

    def slice(self, arrays, seed, step) -> dict:
        """`batch(seed, step)` from `arrays()` in JAX; `seed` and `step` may be traced."""
        import jax.numpy as jnp
        index = self._indices(seed, jnp.asarray(step, jnp.int32), jnp.arange(self.batch_size), jnp)
        if "tokens" in arrays:
            return {"tokens": jnp.take(arrays["tokens"], index, axis=0)}
        return {"tokens": self._draw(index, arrays, jnp)}

    def evaluation(self, split: str, tokens: int = 65536) -> dict[str, np.ndarray]:
        """The first `tokens` of the evaluation split; smaller sets are nested in larger ones.

        {"tokens": int32 [n, length + 1], "bytes": int32 [n, length], "nats": float32 [n, length]} with n = tokens //
        length, at least 1. A token counts as one byte, so that bits per byte are bits per token. `nats` is the true -log p
        of each target `tokens[:, 1:]`, given the tokens before it.
        """
        if split not in self.splits:
            raise DataError(f"{self.name} has no evaluation split {split!r}; it has {', '.join(self.splits)}")
        if not 0 < tokens <= PER_SPLIT * self.length:
            raise DataError(f"data.evaluation_tokens={tokens:,} is not possible: {self.name} has no end; write 1 to "
                            f"{PER_SPLIT * self.length:,}, such as 65536")
        count = max(1, tokens // self.length)
        read = self._draw(FIRST[split] + np.arange(count, dtype=np.int64))
        bytes_ = np.ones((count, self.length), np.int32)
        return {"tokens": read, "bytes": bytes_, "nats": self._nats(read).astype(np.float32)}

    def encode(self, text: str) -> np.ndarray:
        return self.tokenizer.encode(text)

    def decode(self, tokens) -> str:
        return self.tokenizer.decode(tokens)
