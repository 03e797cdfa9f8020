"""A source of examples that lie in memory as a table: pairs of texts, texts with labels, or one's own."""

import hashlib
from collections.abc import Mapping

import numpy as np

from scaling.data import contents
from scaling.data.source import Feed
from scaling.fields import DataError, did_you_mean


class TableSource(Feed):
    """Examples in the rows of arrays. A batch is some rows of each, and integers are int32 there.

    The training rows lie in one fixed order, which is that of the first epoch of seed 0; other seeds and later epochs read
    them in orders of their own. `unique_examples` takes the first ones only, so smaller sets are nested in larger ones.

    Args:
      name: of the data.
      identity: what determines the rows, such as a hash of their content; two sources with equal identities are taken to
        be the same.
      train: {name in a batch: array [examples, ...]}.
      splits: {evaluation split: {name in a batch: array [examples, ...]}}, the first one i.i.d. with training. They may
        have more arrays, such as "bytes" and "document" (the number of the document of each example).
      batch: examples in a (global) batch.
      unique_examples: how many training examples to use; 0 for all.
      found: what `scaling.data.contents` describes.
      tokenizer: of the texts, if any.

    Attributes: those of `scaling.data.Source`, `tokenizer` and `languages` of the texts, () where they are not known, and
    what a function that makes such a source adds.
    """

    languages: tuple[str, ...] = ()

    def __init__(self, name: str, identity: str, train: Mapping[str, np.ndarray],
                 splits: Mapping[str, Mapping[str, np.ndarray]], batch: int, unique_examples: int = 0,
                 found: Mapping | None = None, tokenizer=None):
        counts = {key: len(rows) for key, rows in train.items()}
        count = min(counts.values(), default=0)
        if not count or len(set(counts.values())) > 1:
            raise DataError(f"the training arrays of {name} need equal numbers of examples, at least one, not {counts}")
        if unique_examples > count:
            raise DataError(f"data.unique_examples={unique_examples:,} is more than the {count:,} training examples of "
                            f"{name}; write at most that, or 0 for all")
        self.name, self.tokenizer, self.splits = name, tokenizer, tuple(splits)
        self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()[:16]
        self.unique_examples = unique_examples or count
        super().__init__(self.unique_examples, batch, 1 << 12)
        self._train, self._splits = {key: np.asarray(rows) for key, rows in train.items()}, splits
        evaluation = {split: {"documents": len(next(iter(rows.values()))), "bytes": 0} for split, rows in splits.items()}
        described = found or contents.totals({"documents": count, "bytes": 0}, evaluation, {}, [])
        self.contents = {"things": "examples", **described, "units": self.unique_examples, "unit": "examples"}

    def __repr__(self) -> str:
        return (f"TableSource({self.name!r}, batch={self.batch_size}, unique_examples={self.unique_examples:,}, "
                f"fingerprint={self.fingerprint})")

    def summary(self) -> list[str]:
        """Sentences about what was found in the data and what was left out."""
        return contents.sentences(self.name, self.contents)

    def _read(self, seed, step, rows):
        index = self._indices(seed, step, rows)
        return {key: as_int32(value[index]) for key, value in self._train.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays to put on the device for `slice`: the training examples, in the types that they have."""
        if self._count * self.batch_size >= 1 << 31:
            raise DataError(f"{self._count:,} examples in batches of {self.batch_size} do not fit the 32-bit indices of "
                            "the device; write data.feed=streamed, or a smaller data.unique_examples")
        return {key: value[:self._count] for key, value in self._train.items()}

    def slice(self, arrays, seed, step) -> dict:
        """`batch(seed, step)` from `arrays()` in JAX; `seed` and `step` may be traced."""
        import jax.numpy as jnp
        rows = self._indices(seed, jnp.asarray(step, jnp.int32), jnp.arange(self.batch_size), jnp)
        return {key: as_int32(jnp.take(value, rows, axis=0), jnp) for key, value in arrays.items()}

    def evaluation(self, split: str, examples: int = 1024) -> dict[str, np.ndarray]:
        """The first `examples` of an evaluation split (0: all). Smaller sets are nested in larger ones."""
        if split not in self._splits:
            raise DataError(f"{self.name} has no evaluation split {split!r}; it has {', '.join(self.splits)}"
                            + did_you_mean(split, self.splits))
        rows = self._splits[split]
        available = len(next(iter(rows.values())))
        if examples > available:
            raise DataError(f"data.evaluation_examples={examples:,} is more than the {available:,} examples of the "
                            f"evaluation split {split!r} of {self.name}; write at most that, or 0 for all")
        return {key: as_int32(np.asarray(value)[:examples or available]) for key, value in rows.items()}


def as_int32(values, xp=np):
    """Integers as int32, which models read; other types as they are."""
    return values.astype(xp.int32) if xp.issubdtype(values.dtype, xp.integer) else values
