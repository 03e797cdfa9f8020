"""Induction: whether a language model continues a repeated sequence, and which heads look where that takes (Olsson et al.
2022, arXiv:2209.11895).

The text is different tokens in random order, said twice: an end of document, r_1 ... r_k, r_1 ... r_k. Nothing but the
first half predicts the second. A head's induction score is the weight with which it attends, from r_i in the second half,
to the token after r_i in the first (their "prefix matching"); the copying gain is the loss in the first half minus that in
the second.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

from scaling.insight.activations import read_activations, refuse
from scaling.insight.probes import group_interval

SEQUENCES, HALF = 64, 24  # texts, and tokens of a half at most
RARE = 1e-3  # tokens that make up less of the text are not drawn: the model hardly saw them


class InductionScore(NamedTuple):
    """What a model does with repeated random tokens.

    heads: float [layers, heads], the mean weight on the token after the last occurrence; 0 layers without attention.
    chance: that weight where a head attends to all it sees alike.
    gain: nats per token of the first half minus those of the second, `low` to `high` its interval over sequences.
    """

    heads: np.ndarray
    chance: float
    gain: float
    low: float
    high: float

    @property
    def strongest(self) -> float:
        """The score of the best head, NaN without attention."""
        return float(self.heads.max()) if self.heads.size else float("nan")


def repeated_tokens(known, half: int, count: int = SEQUENCES, seed: int = 0) -> np.ndarray:
    """int32 [count, 1 + 2 half]: token 0, `half` different tokens of `known` in random order, and the same again."""
    drawn = np.random.default_rng(seed).permuted(np.tile(known, (count, 1)), axis=1)[:, :half]
    return np.concatenate([np.zeros((count, 1)), drawn, drawn], axis=1).astype(np.int32)


def common_tokens(tokens) -> np.ndarray:
    """The tokens, but for token 0, that make up at least `RARE` of these, sorted."""
    found, counts = np.unique(tokens, return_counts=True)
    return found[(counts >= RARE * counts.sum()) & (found != 0)]


def score_induction(run, known, count: int = SEQUENCES, seed: int = 0) -> InductionScore:
    """The induction scores of a restored run that predicts the next token, with random tokens from `known`."""
    half = min(HALF, run.family.length // 2, len(known))
    if half < 2:
        refuse(run, f"has {len(known)} frequent tokens and windows of {run.family.length}; repeating takes two and four")
    tokens = repeated_tokens(known, half, count, seed)
    found = read_activations(run, {"tokens": tokens}, ("attention",))
    heads = np.array([prefix_matching(weights, half) for weights in found.attention]).reshape(len(found.attention), -1)
    sees = np.arange(half + 1, 2 * half) + 1  # tokens that each query sees, itself included
    shares = special.log_softmax(found.output.astype(np.float64), axis=-1)
    nats = -np.take_along_axis(shares, tokens[:, 1:, None], -1)[..., 0]
    gains = (nats[:, 1:half] - nats[:, half + 1:]).mean(1)  # of r_2 to r_k, in both halves
    low, high = group_interval(gains, np.arange(count), np.random.default_rng(seed))
    return InductionScore(heads, float((1 / sees).mean()), float(gains.mean()), low, high)


def prefix_matching(weights, half: int) -> np.ndarray:
    """float [heads]: the mean weight from place half + i to place i + 1, for i from 1 to half - 1; `weights` are those of
    attention, [B, heads, 2 half, 2 half], for a text of `repeated_tokens`."""
    places = np.arange(half + 1, 2 * half)
    return weights[:, :, places, places - half + 1].mean((0, 2))
