"""Training curves of a model that can be solved: linear regression by SGD on features whose importance is a power law.

Mode j of N has curvature j^-(1 + a), and SGD with rate r shrinks its error by 1 - r j^-(1 + a) - decay a step, while the
noise of the gradients adds r^2 times the curvature (the noisy quadratic model of Zhang et al. 2019, arXiv:1907.04164).
Modes beyond N are never learned, which makes the loss a power of N as well.
"""
import functools

import numpy as np
import pandas as pd
from scipy import special

from scaling.laws.checks.collapse import Curve

CURVATURE, IMPORTANCE = 1.5, 1.4   # powers of j: of the curvature, and of what a mode adds to the loss
FLOOR, RATE, NOISE = 1.0, 0.3, 0.02
SIZES = (40, 80, 160, 320)


@functools.lru_cache(maxsize=256)
def solved(size, steps, rate, decay, noise):
    """The loss above FLOOR after each of `steps` at a constant rate. decay: by how much weights shrink a step."""
    modes = np.arange(1.0, size + 1)
    curvature, importance = modes ** -CURVATURE, modes ** -IMPORTANCE
    pull = rate * curvature + decay
    kept = np.maximum(1 - pull[:, None], 0.0) ** np.array(steps)[None]
    missed = (decay / pull)[:, None]  # where weights settle, as a part of the target
    error = importance[:, None] * (missed + (1 - missed) * kept) ** 2
    jitter = noise * (rate * curvature ** 2 / (2 * pull))[:, None] * (1 - kept ** 2)
    return (error + jitter).sum(0) + special.zeta(IMPORTANCE, size + 1)  # and the modes beyond N


def excess(size, steps, rate=RATE, decay=0.0, noise=NOISE):
    return solved(size, tuple(map(int, np.atleast_1d(steps))), rate, decay, noise)


def curve(size, steps, rng, seed=0, scatter=0.01, **mistuned):
    """A Curve of 60 points with the noise of a seed: `scatter` of the excess loss, which changes slowly, and of a batch."""
    seen = np.unique(np.geomspace(10, steps, 60).astype(int))
    slow = np.cumsum(rng.standard_normal(len(seen))) / np.sqrt(len(seen)) + rng.standard_normal()
    noisy = scatter * slow + 0.5 * scatter * rng.standard_normal(len(seen))
    loss = FLOOR + excess(size, seen, **mistuned) * np.exp(noisy)
    return Curve(f"{size} by {seed}", size, steps, seen.astype(float), loss, seed)


def finished(rng, sizes=SIZES, data=(250, 500, 1000, 2000), scatter=0.003):
    """The table of finished runs, whose cooldown removes the noise of the gradients."""
    rows = [(size, steps, FLOOR + excess(size, steps, noise=0.0)[0] * np.exp(scatter * rng.standard_normal()))
            for size in sizes for steps in data]
    return pd.DataFrame(rows, columns=["N", "D", "loss"])
