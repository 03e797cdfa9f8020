"""Runs of a planted law, and a law fitted to them, for the tests of forecasts."""
import functools

import numpy as np
import pandas as pd

from scaling import laws

TRUTH = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
TARGET = {"params_non_embedding": 1e10, "tokens_seen": 1e11, "flops": 6e21, "fingerprint": "target"}
RECORDS = [{"fingerprint": f"run{i}", "bits_per_byte": 3 - i / 50, "experiment": {"seed": i, "tags": [1, 2]}}
           for i in range(20)]


def surface(N, D):
    return TRUTH["E"] + TRUTH["A"] * N ** -TRUTH["alpha"] + TRUTH["B"] * D ** -TRUTH["beta"]


def grid(noise=0.004, seed=0):
    """20 runs of the planted law with normal noise in the logarithm of the loss."""
    N, D = (v.ravel() for v in np.meshgrid(np.geomspace(2e7, 2e9, 5), np.geomspace(1e9, 3e10, 4)))
    loss = surface(N, D) * np.exp(noise * np.random.default_rng(seed).standard_normal(20))
    return pd.DataFrame({"params_non_embedding": N, "tokens_seen": D, "flops": 6 * N * D,
                         "bits_per_byte": loss})


@functools.cache
def fitted(named=True):
    """A law and its bootstrap. named: the runs have fingerprints."""
    points = grid()
    law = laws.fit(points.assign(fingerprint=[r["fingerprint"] for r in RECORDS]) if named else points)
    return law, laws.bootstrap(law, 200)
