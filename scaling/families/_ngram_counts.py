"""Counting of n-grams and their smoothing, in NumPy; `scaling.families.ngram` says what is computed."""

from typing import NamedTuple

import numpy as np

SMOOTHING = ("modified", "kneser_ney", "absolute")


class NGrams(NamedTuple):
    """The different n-grams of one order, sorted by context and last token: arrays [n-grams].

    Contexts and suffixes (the n-gram without its last token, and without its first) are places in the order below.
    """

    context: np.ndarray
    suffix: np.ndarray
    token: np.ndarray
    seen: np.ndarray  # how often
    starts: np.ndarray  # bool, whether it was seen at the start of a window, with no token before it


def count_and_smooth(windows, vocab: int, order: int, room: int, smoothing: str):
    """Windows of tokens, [W, S+1] -> the arrays of `scaling.families.ngram.NGramTable` with `room` places."""
    orders = count_ngrams(windows, vocab, order)
    discounted = [_discounted(found, _counts(orders, index, smoothing), smoothing) for index, found in enumerate(orders)]
    return _table(orders, discounted, vocab, room)


def count_ngrams(windows, vocab: int, order: int) -> list[NGrams]:
    """The n-grams of orders 1 to `order`, or to the length of the windows. Their last tokens are not the first of a window,
    which another window counts."""
    tokens = windows[:, 1:].astype(np.int32)
    single = np.arange(vocab, dtype=np.int32)
    seen = np.bincount(tokens.ravel(), minlength=vocab)
    found = [NGrams(np.zeros_like(single), np.zeros_like(single), single, seen, np.zeros(vocab, bool))]
    places = windows.astype(np.int32)  # of the n-gram that ends at each token, in the order below; the first are cut off
    for n in range(2, min(order, windows.shape[1]) + 1):
        context, suffix, last = places[:, :-1].ravel(), places[:, 1:].ravel(), windows[:, n - 1:].ravel()
        keys, inverse, seen = np.unique(context.astype(np.int64) * vocab + last, return_inverse=True, return_counts=True)
        inverse = inverse.astype(np.int32)
        suffixes, starts = np.empty(len(keys), np.int32), np.zeros(len(keys), bool)
        suffixes[inverse] = suffix
        places = inverse.reshape(len(windows), -1)
        starts[places[:, 0]] = True
        found.append(NGrams((keys // vocab).astype(np.int32), suffixes, (keys % vocab).astype(np.int32), seen, starts))
    return found


def _counts(orders: list[NGrams], index: int, smoothing: str) -> np.ndarray:
    """The counts that the probabilities of an order follow from: how often each n-gram was seen or, at lower orders of
    Kneser-Ney, how many different tokens came before it, the start of a window among them."""
    here = orders[index]
    if smoothing == "absolute" or index + 1 == len(orders):
        return here.seen
    return np.bincount(orders[index + 1].suffix, minlength=len(here.seen)) + here.starts


def _discounts(counts, smoothing: str) -> np.ndarray:
    """The discounts of counts of 0, 1, 2, and 3 or more, from the counts of counts of one order."""
    n = np.bincount(np.minimum(counts, 5), minlength=6).astype(float)
    whole = np.arange(4.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        y = n[1] / (n[1] + 2 * n[2]) if n[1] and n[2] else np.nan
        found = whole - (whole + 1) * y * n[1:5] / n[:4] if smoothing == "modified" else np.full(4, y)
    return np.where((found > 0) & (found < whole), found, whole / 2)


def _discounted(order: NGrams, counts, smoothing: str) -> np.ndarray:
    """max(count - D, 0) / total, float64 [n-grams], with the total of all n-grams of the same context."""
    totals = np.bincount(order.context, weights=counts)
    left = counts - _discounts(counts, smoothing)[np.minimum(counts, 3)]
    return np.where(counts > 0, left, 0) / np.maximum(totals, 1)[order.context]


def _table(orders: list[NGrams], discounted: list[np.ndarray], vocab: int, room: int):
    """The arrays of `scaling.families.ngram.NGramTable`."""
    begins = np.cumsum([0, *(len(order.seen) for order in orders)])
    seen = np.concatenate([order.seen for order in orders[1:]] or [np.zeros(0, int)])
    kept = np.ones(begins[-1], bool)
    if len(seen) > room - vocab:  # a stable sort leaves the shorter first
        kept[vocab + np.argsort(-seen, kind="stable")[room - vocab:]] = False
    places = np.cumsum(kept) - 1
    contexts = [places[begin + order.context] for begin, order in zip(begins, orders[1:])]
    context = np.concatenate(contexts or [np.zeros(0, int)])[kept[vocab:]]
    values, stored = np.concatenate(discounted)[kept], vocab + len(context)
    backoff = 1 - np.bincount(context, weights=values[vocab:], minlength=room)
    values[:vocab] += (1 - values[:vocab].sum()) / vocab
    first = vocab + np.concatenate([[0], np.cumsum(np.bincount(context, minlength=room))])

    def full(part, dtype):
        return np.concatenate([part, np.zeros(room - stored)]).astype(dtype)

    tokens = np.concatenate([order.token for order in orders])[kept]
    return full(values, np.float32), backoff.astype(np.float32), full(tokens, np.int32), first.astype(np.int32)
