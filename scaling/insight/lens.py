"""The logit lens: what a language model would say if it ended after an earlier layer (nostalgebraist 2020).

The residual stream after each layer goes through the model's own last norm and readout. A logit lens is biased where
earlier layers write in a basis of their own (Belrose et al. 2023, arXiv:2303.08112): a large KL does not mean that a layer
knows little, only that the readout cannot read it yet.
"""

from typing import NamedTuple

import jax
import numpy as np
from scipy import special

from scaling.insight.activations import language_network, read_activations, refuse, tappable


class Lens(NamedTuple):
    """The prediction after each layer; the first row is that of the embedding, the last one the model's own.

    logits: float32 [layers + 1, B, S, vocab].
    kl: float64 [layers + 1, B, S], nats of the final distribution from that of the layer.
    """

    logits: np.ndarray
    kl: np.ndarray

    def nats(self, targets) -> np.ndarray:
        """Nats of the targets, integer [B, S], after each layer: float64 [layers + 1, B, S]."""
        shares = special.log_softmax(self.logits.astype(np.float64), axis=-1)
        return -np.take_along_axis(shares, np.asarray(targets)[None, ..., None], -1)[..., 0]

    @property
    def agrees(self) -> np.ndarray:
        """Whether the likeliest token is the final one, bool [layers + 1, B, S]."""
        return self.logits.argmax(-1) == self.logits[-1].argmax(-1)


def read_lens(run, tokens) -> Lens:
    """The lens of a restored run that predicts tokens, on tokens int32 [B, S+1], of which the first S are read.

    Raises InsightError for a run that has no readout of tokens, or no stack of layers.
    """
    language_network(run)
    residual = read_activations(run, {"tokens": np.asarray(tokens, np.int32)}).residual
    if not residual:
        refuse(run, "has no residual stream")
    read_out = jax.jit(lambda params, x: tappable(run.family).module(params).logits(x))
    logits = np.stack([read_out(run.params, x.astype(run.family.dtype)) for x in residual])
    shares = special.log_softmax(logits.astype(np.float64), axis=-1)
    return Lens(logits, (np.exp(shares[-1]) * (shares[-1] - shares)).sum(-1))
