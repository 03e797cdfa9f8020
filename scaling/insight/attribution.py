"""Integrated gradients: how much each input contributes to an output (Sundararajan et al. 2017, arXiv:1703.01365).

The attribution of input i is (x_i - x'_i) times the integral of dF/dx_i on the straight path from a baseline x' to x (their
equation 1). Attributions add up to F(x) - F(x') (their proposition 1). How far the sum of a numerical integral is from
that, the gap, is its completeness test: steps are doubled until the gap is below the tolerance.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling import nn
from scaling.insight.activations import forward_of, read_activations, refuse, tappable

TOLERANCE = 0.01  # of the gap, as a share of the difference of the outputs
STEPS = (16, 32, 64, 128, 256, 512)  # points of Gauss-Legendre quadrature


class Attribution(NamedTuple):
    """What an output rests on.

    values: float64 [inputs], summed over the features of each input.
    output, baseline: the output, and that of the baseline.
    steps: the gradients that the integral took.
    """

    values: np.ndarray
    output: float
    baseline: float
    steps: int

    @property
    def gap(self) -> float:
        """The distance of the sum of the attributions from the difference of the outputs, as a share of the latter."""
        return float(abs(self.values.sum() - (self.output - self.baseline)) / max(abs(self.output - self.baseline), 1e-30))

    @property
    def complete(self) -> bool:
        """Whether the attributions pass the completeness test."""
        return self.gap <= TOLERANCE


def integrate_gradients(score: Callable, x, baseline, steps=STEPS, at_once: int = 32) -> Attribution:
    """The attribution of score(x), for a function that JAX can differentiate: inputs [n, inputs, features] -> [n].

    `x` and `baseline` are [inputs, features]. The first number of `steps` that passes the completeness test is taken, or
    the last one.
    """
    x, baseline = np.asarray(x, np.float32), np.asarray(baseline, np.float32)
    slopes = jax.jit(jax.grad(lambda points: score(points).sum()))
    ends = np.asarray(jax.jit(score)(jnp.stack([x, baseline])), np.float64)

    def integral(count):
        nodes, weights = np.polynomial.legendre.leggauss(count)
        total = np.zeros(x.shape)
        for first in range(0, count, at_once):
            shares, mass = ((part[first:first + at_once] / 2)[:, None, None] for part in (nodes + 1, weights))
            gradients = np.asarray(slopes((baseline + shares * (x - baseline)).astype(np.float32)), np.float64)
            total += (mass * gradients).sum(0)
        return Attribution((total * (x - baseline)).sum(-1), *map(float, ends), count)

    found = integral(steps[0])
    for count in steps[1:]:
        if found.complete:
            break
        found = integral(count)
    return found


def attribute_next_token(run, tokens, target: int | None = None) -> tuple[Attribution, int]:
    """(the attribution, the target) of the log-odds of a next token, given tokens, integer [S]: one value for each token.

    The inputs are the embeddings, and the baseline is a text of ends of documents, token 0. The output is the logit of the
    target, by default the likeliest token, minus the log of the sum of exponentials of the other logits.
    """
    tokens = np.asarray(tokens, np.int32)
    both = np.stack([tokens, np.zeros_like(tokens)])
    both = np.concatenate([both, both[:, :1]], axis=1)  # the last token of a window is no input
    read = read_activations(run, {"tokens": both})
    if not read.residual:
        refuse(run, "has no embeddings that could be replaced")
    chosen = int(read.output[0, -1].argmax()) if target is None else target
    family, forward = tappable(run.family), forward_of(run.family)

    def score(embedded):
        batch = {"tokens": jnp.broadcast_to(jnp.asarray(both[:1]), (len(embedded), both.shape[1]))}
        with nn.tapped({("residual", 0): lambda x: embedded.astype(x.dtype)}):
            logits = forward(family, run.params, batch)[:, -1]
        return logits[:, chosen] - jax.nn.logsumexp(logits.at[:, chosen].set(-jnp.inf), axis=-1)

    return integrate_gradients(score, read.residual[0][0], read.residual[0][1]), chosen
