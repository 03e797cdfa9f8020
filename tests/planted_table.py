"""Tables of runs of a planted law, for the tests of experiments.fit."""
import numpy as np
import pandas as pd

TRUTH = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}


def table_of(N, D, noise=0.0):
    """Runs of the planted law, in columns that the command finds by itself."""
    loss = TRUTH["E"] + TRUTH["A"] * N ** -TRUTH["alpha"] + TRUTH["B"] * D ** -TRUTH["beta"]
    loss = loss * np.exp(noise * np.random.default_rng(0).standard_normal(N.shape))
    return pd.DataFrame({"params": N, "tokens": D, "flops": 6 * N * D, "loss": loss,
                         "group": [f"size {i % 6}" for i in range(len(N))]})


def table(noise=0.0):
    N, D = np.meshgrid(np.geomspace(2e7, 2e9, 6), np.geomspace(1e9, 3e10, 5))
    return table_of(N.ravel(), D.ravel(), noise)
