"""Sources of batches. A batch is a pure function of (seed, step), equal whether streamed or resident on the device.

`Source` says what training asks of a source; `Feed` is the part that they share; `TextSource` is that of text.
"""
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from scaling.data import contents, order, windows
from scaling.data.noise import CLEAN, Corruption
from scaling.data.tokenizers import Tokenizer
from scaling.fields import DataError

TABLES = 1 << 20     # examples; a longer epoch is not tabulated, and each batch computes its own order in 1 ms
TOGETHER = 1 << 20   # tokens that `batches` reads at once, so that what lies between the steps stays in the cache
UNLIMITED = order.LIMIT - 1  # examples of a source without end
EPOCHS = 3           # the key of the epochs' shuffles; windows.DOCUMENTS and windows.WINDOWS are other keys


class Source(Protocol):
    """What training, evaluation and the report ask of a source. `scaling.data.table.TableSource` makes one from arrays.

    Attributes: `name`, for people; `fingerprint`, which names the content, so that runs on other content get other names;
    `batch_size`; `splits`, the evaluation splits, the first one i.i.d. with training; `contents`, what was found (see
    `scaling.data.contents`); and `unique_tokens` or `unique_examples`, the different units to train on, in the unit of its
    kind of data.
    """

    name: str
    fingerprint: str
    batch_size: int
    splits: tuple[str, ...]
    contents: Mapping[str, Any]

    def batches(self, seed: int, start: int, stop: int, rows: range | None = None) -> dict[str, np.ndarray]:
        """The batches of steps start..stop-1, or `rows` of each: [steps, rows, ...]. A pure function of its arguments."""
        raise NotImplementedError

    def arrays(self) -> dict[str, np.ndarray]:
        """What lies on the device for `slice`, where data.feed is "resident"."""
        raise NotImplementedError

    def slice(self, arrays, seed, step) -> dict[str, Any]:
        """The batch of a step in JAX, equal to that of `batches`; `seed` and `step` may be traced."""
        raise NotImplementedError

    def evaluation(self, split: str, count: int, /) -> dict[str, np.ndarray]:
        """The first `count` units of an evaluation split, or all of it for 0; smaller sets are nested in larger ones."""
        raise NotImplementedError

    def summary(self) -> list[str]:
        """Sentences about what was found in the data and what was left out."""
        raise NotImplementedError


class Feed:
    """Says which of `count` examples each batch holds. Subclasses have `_read`, for about `together` examples at once.

    Every epoch is a permutation of the `count` examples that depends on the seed and the epoch, but for the first one of
    seed 0, which is the fixed order itself. So runs of one seed on more data begin with the same examples, and other seeds
    see other ones.
    """

    def __init__(self, count: int, batch: int, together: int):
        self._count, self.batch_size, self._together = count, batch, together
        self._table = functools.lru_cache(64)(self._epoch)      # for each run of a pack, one or two

    def _epoch(self, seed: int, epoch: int) -> np.ndarray:
        """The examples of an epoch in order, uint32 [count]: the table in which `_ordered` looks places up."""
        return order.permutation(self._count, EPOCHS, seed, epoch).astype(np.uint32)

    def _ordered(self, seed: int, epoch: int, place: np.ndarray) -> np.ndarray:
        """The examples at these places of the order of an epoch."""
        if not epoch and not seed:
            return place
        if self._count <= TABLES:
            return self._table(seed, epoch)[place]
        return order.permute(place, self._count, order.key(EPOCHS, seed, epoch))

    def _indices(self, seed, step, rows, xp=np):
        """The examples of `rows` of the global batch of a step: uint32 [k]. It uses 32-bit arithmetic, as JAX does.

        In NumPy `step` may be an integer for each of the `rows`.
        """
        count, wide = self._count, xp.uint32
        if count == UNLIMITED:          # there is no second epoch
            place = xp.asarray(step * self.batch_size + rows).astype(wide)
            shuffled = order.permute(place, count, order.key(EPOCHS, seed, 0, xp=xp), xp)
            return xp.where(xp.asarray(seed) == 0, place, shuffled)
        # step * batch + row = count * epoch + place. The left side may exceed 2**32, so it is never formed.
        turns, rest = step // count, (step % count) * self.batch_size + rows
        epoch = xp.asarray(turns).astype(wide) * wide(self.batch_size) + (rest // count).astype(wide)
        place = (rest % count).astype(wide)
        if xp is np:
            found = np.empty_like(place)
            for which in np.unique(epoch):
                here = epoch == which
                found[here] = self._ordered(seed, int(which), place[here])
            return found
        shuffled = order.permute(place, count, order.key(EPOCHS, seed, epoch, xp=xp), xp)
        return xp.where((epoch == 0) & (seed == 0), place, shuffled)

    def _rows(self, rows: range | None) -> np.ndarray:
        """`rows` of a batch as an array; None stands for all."""
        if rows is not None and len(rows) and not 0 <= min(rows) <= max(rows) < self.batch_size:
            raise DataError(f"{rows} is not within a batch of {self.batch_size}; "
                            f"write rows from range({self.batch_size})")
        return np.arange(self.batch_size)[slice(None) if rows is None else np.asarray(rows, int)]

    def _read(self, seed: int, step, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The examples of `rows` [k] of the batch of a step, or of a step for each row ([k]); each array is [k, ...]."""
        raise NotImplementedError

    def batch(self, seed: int, step: int, rows: range | None = None) -> dict[str, np.ndarray]:
        """The batch of a step, or some `rows` of it, such as those of one host."""
        return self._read(seed, step, self._rows(rows))

    def batches(self, seed: int, start: int, stop: int, rows: range | None = None) -> dict[str, np.ndarray]:
        """`batch(seed, step, rows)` of the steps start..stop-1, stacked: [steps, rows, ...].

        The examples of many steps are read at once, which takes a small part of the time of `batch` for each.
        """
        chosen, steps, out = self._rows(rows), np.arange(start, stop), {}
        together = max(1, self._together // max(1, len(chosen)))
        for at in range(0, len(steps), together):
            part = steps[at:at + together]
            found = self._read(seed, np.repeat(part, len(chosen)), np.tile(chosen, len(part)))
            for name, value in found.items():
                if name not in out:
                    out[name] = np.empty((len(steps), len(chosen), *value.shape[1:]), value.dtype)
                out[name][at:at + len(part)] = value.reshape(len(part), *out[name].shape[1:])
        return out

    def stream(self, seed: int, start: int, stop: int, rows: range | None = None) -> Iterator[dict]:
        """`batch(seed, step, rows)` for steps start..stop-1, read ahead by grain's threads; for loops of one's own."""
        import grain
        steps = grain.MapDataset.range(start, stop)
        batches = steps.map(lambda step: self.batch(seed, int(step), rows))
        return iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=4, prefetch_buffer_size=16)))


class TextSource(Feed):
    """Windows of length + 1 tokens of a corpus; made by `scaling.data.load_text`.

    The training windows lie in one fixed random order, which is that of the first epoch of seed 0. Other seeds and later
    epochs read them in orders of their own. A run stopped after k steps has seen the first k * batch_size * length tokens
    of its order, so smaller data sets of a seed are nested in larger ones.

    A batch is {"tokens": int32 [batch, length + 1]}. With `noise`, random tokens of the vocabulary replace some of it, but
    for token 0, which ends documents.

    Attributes: `name`; `contents`, what was found and left out (see `contents.py`); `fingerprint` (of documents, splits,
      tokenizer, order and noise; with `length` it determines every window); `vocab`, `length`, `batch_size`; `tokens`, the
      training tokens that are prepared; `unique_tokens`, the ones used, a multiple of `length`; `splits`, the evaluation
      splits, the first one i.i.d. with training.
    """

    def __init__(self, name: str, fingerprint: str, tokenizer: Tokenizer, length: int, batch: int,
                 unique_tokens: int, train: windows.Windows,
                 splits: dict[str, Callable[[int], windows.Windows]], found: dict, noise: Corruption = CLEAN):
        self.name, self.tokenizer, self.length, self.noise = name, tokenizer, length, noise
        self.fingerprint = hashlib.sha256(
            f"{fingerprint} {tokenizer.fingerprint} {windows.VERSION}{noise.identity}".encode()).hexdigest()[:16]
        self.vocab, self.splits = tokenizer.vocab, tuple(splits)
        self._train, self._splits = train, splits
        self.tokens = len(train) * length
        if not self.tokens:
            raise DataError(f"the training text of {name} is shorter than one window of data.length={length}; write a "
                            "smaller length, or give more text")
        if unique_tokens > self.tokens:
            raise DataError(f"data.unique_tokens={unique_tokens:,} is more than the {self.tokens:,} training "
                            f"tokens of {name} (tokenizer {tokenizer.name}, length {length}); write at "
                            "most that, or 0 for all")
        if 0 < unique_tokens < length:
            raise DataError(f"data.unique_tokens={unique_tokens} is less than one window of data.length={length}; "
                            "write at least that, or 0 for all")
        super().__init__((unique_tokens or self.tokens) // length, batch, TOGETHER // length)
        self.unique_tokens = self._count * length
        self.contents = {**found, "units": self.unique_tokens, "unit": "tokens"}

    def __repr__(self) -> str:
        return (f"TextSource({self.name!r}, {self.tokenizer.name}, length={self.length}, "
                f"batch={self.batch_size}, unique_tokens={self.unique_tokens:,} of {self.tokens:,}, "
                f"fingerprint={self.fingerprint})")

    def summary(self) -> list[str]:
        """Sentences about what was found in the data and what was left out."""
        return contents.sentences(self.name, self.contents)

    def _read(self, seed, step, rows):
        index = self._indices(seed, step, rows)
        return {"tokens": self._noisy(self._train[index], index).astype(np.int32)}

    def _noisy(self, tokens: np.ndarray, index: np.ndarray) -> np.ndarray:
        return self.noise.add(tokens, index, 1, self.vocab - 1)

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays to put on the device for `slice`: {"tokens": [windows, length + 1]}, in the smallest type."""
        if self._count * self.batch_size >= 1 << 31:
            raise DataError(f"{self._count:,} windows in batches of {self.batch_size} do not fit the 32-bit "
                            "indices of the device; use stream(), or a smaller unique_tokens")
        return {"tokens": self._noisy(self._train.first(self._count), np.arange(self._count))}

    def slice(self, arrays, seed, step) -> dict:
        """`batch(seed, step)` from `arrays()` in JAX; `seed` and `step` may be traced."""
        import jax.numpy as jnp
        rows = self._indices(seed, jnp.asarray(step, jnp.int32), jnp.arange(self.batch_size), jnp)
        return {"tokens": jnp.take(arrays["tokens"], rows, axis=0).astype(jnp.int32)}

    def evaluation(self, split: str, tokens: int = 65536) -> dict[str, np.ndarray]:
        """The first `tokens` of an evaluation split (0: all); smaller sets are nested samples.

        {"tokens": int32 [n, length + 1], "bytes": int32 [n, length], "document": int32 [n]} with n = tokens // length, at
        least 1. `bytes` is the number of bytes of text that each target `tokens[:, 1:]` stands for, and `document` the
        number of the document that a window begins in.
        """
        if split not in self._splits:
            raise DataError(f"{self.name} has no evaluation split {split!r}; it has {', '.join(self.splits)}")
        found = self._splits[split](tokens)
        available = len(found) * self.length
        if not available:
            raise DataError(f"the evaluation split {split!r} of {self.name} is shorter than one window of "
                            f"data.length={self.length}; write a smaller length, or give more text")
        if tokens > available:
            raise DataError(f"data.evaluation_tokens={tokens:,} is more than the {available:,} tokens of the evaluation "
                            f"split {split!r} of {self.name} (tokenizer {self.tokenizer.name}, data.length={self.length}); "
                            "write at most that, or 0 for all")
        count = max(1, (tokens or available) // self.length)
        read = found.first(count).astype(np.int32)
        return {"tokens": read, "bytes": self.tokenizer.bytes_per_token[read[:, 1:]], "document": found.documents(count)}

    def encode(self, text: str) -> np.ndarray:
        return self.tokenizer.encode(text)

    def decode(self, tokens) -> str:
        return self.tokenizer.decode(tokens)
