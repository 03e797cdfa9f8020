"""The loss by position in the context: how much better a model predicts text, the more of it the model has read."""

from __future__ import annotations

import functools
import math

import jax
import numpy as np

from scaling.experiment import Text
from scaling.families._text import token_nats
from scaling.study.restored import RestoredRun

WINDOWS = 512  # of the first evaluation set


def predicts_positions(model: RestoredRun) -> bool:
    """Whether a model predicts text from left to right, so that it has a loss at every position."""
    return isinstance(model.experiment.data, Text) and hasattr(model.family, "begin")


@functools.partial(jax.jit, static_argnums=0)
def nats_of_windows(family, params, tokens):
    """`token_nats`, compiled once for a family and a shape."""
    return token_nats(family, params, tokens)


def loss_by_position(model: RestoredRun, windows: int = WINDOWS) -> list[dict[str, float]]:
    """The bits per byte at positions `first` to `last` of windows, as dictionaries with these and `bits`.

    The positions are those of `doubling_bins`. A token at position i is predicted from i tokens. Where the data do not
    know the bytes of tokens, bits are per token.
    """
    nats, size = [], []
    for batch in model.batches():
        found = np.asarray(nats_of_windows(model.family, model.params, batch["tokens"]), np.float64)
        nats.append(found)
        size.append(np.asarray(batch.get("bytes", np.ones(found.shape)), np.float64))
        if sum(map(len, nats)) >= windows:
            break
    bits, bytes_ = np.concatenate(nats)[:windows].sum(0) / math.log(2), np.concatenate(size)[:windows].sum(0)
    return [{"first": first, "last": last, "bits": float(bits[first - 1:last].sum() / bytes_[first - 1:last].sum())}
            for first, last in doubling_bins(len(bits))]


def doubling_bins(count: int) -> list[tuple[int, int]]:
    """(first, last) of bins of 1, 2, 4, ... positions, which cover those from 1 to `count`.

    The rest is a bin of its own, or a part of the one before where that has more than twice as many: the loss at few
    positions has a large error.
    """
    ends = [2**i - 1 for i in range(1, int(math.log2(count + 1)) + 1)]
    if (rest := count - ends[-1]) > 0:
        ends = [*ends, count] if 2 * rest >= ends[-1] - ends[-1] // 2 else [*ends[:-1], count]
    return [(first + 1, last) for first, last in zip([0, *ends], ends)]
