"""Hyperparameters of a larger run, extrapolated from those tuned at small sizes."""

import numpy as np
import pandas as pd


def learning_rate(cells: pd.DataFrame, params: float, seen: float, data: str = "tokens_seen") -> float:
    """The learning rate for a run of `params` non-embedding parameters on `seen` units of data.

    `cells` are the tuned runs of a sweep, one per (N, D), with columns params_non_embedding, learning_rate and `data`,
    the column of D. log lr is fitted as a plane in log N and log D (the form of Bjorck et al. 2409.19913 for D and of
    Kaplan et al. 2001.08361, appendix D.6, for N). The result is clipped between half of the smallest and the largest
    tuned rate, because a plane through a coarse grid of rates says little far away from it.
    """
    n, d, rates = (np.log(cells[c].to_numpy(float)) for c in ("params_non_embedding", data, "learning_rate"))
    design = np.stack([np.ones_like(n), n - n.mean(), d - d.mean()], axis=1)
    plane = np.linalg.lstsq(design, rates, rcond=None)[0]
    found = plane @ [1.0, np.log(params) - n.mean(), np.log(seen) - d.mean()]
    return float(np.exp(np.clip(found, rates.min() - np.log(2), rates.max())))


def edges(runs: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    """A sentence for each size whose best learning rate is the smallest or the largest one tried at most data sizes."""
    said = []
    for n, best in cells.groupby("params_non_embedding"):
        tried = runs[(runs["params_non_embedding"] == n) & (runs["role"] == "sweep")]["learning_rate"]
        for end, name in ((tried.min(), "smallest"), (tried.max(), "largest")):
            if tried.nunique() > 1 and (best["learning_rate"] == end).mean() > 0.5:
                said.append(f"N={n:.4g}: the {name} learning rate tried ({end:g}) is the best at most data sizes; "
                            f"try {'smaller' if name == 'smallest' else 'larger'} ones too")
    return said
