"""The learning rate of a run larger than those that were tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from scaling.results.tuned import PARAMS

if TYPE_CHECKING:
    import pandas as pd


class TargetRate(NamedTuple):
    """The rate that the rule gives a larger run. `plane` is the extrapolation before it was clipped to `low` and `high`."""
    rate: float
    plane: float
    low: float    # half of the smallest tuned rate
    high: float   # the largest tuned rate
    cells: int    # the cells whose tuned rates were used

    @property
    def clipped(self) -> bool:
        return self.rate != self.plane


def target_rate(cells: pd.DataFrame, params: float, seen: float, data: str = "tokens_seen") -> TargetRate:
    """The learning rate for a run of `params` non-embedding parameters on `seen` units of data.

    `cells` are the tuned runs of a sweep, one per (N, D), with columns params_non_embedding, learning_rate and `data`,
    the column of D. log lr is fitted as a plane in log N and log D (the form of Bjorck et al. 2409.19913 for D and of
    Kaplan et al. 2001.08361, appendix D.6, for N). The result is clipped between half of the smallest and the largest
    tuned rate, because a plane through a coarse grid of rates says little far away from it.
    """
    n, d, rates = (np.log(cells[c].to_numpy(float)) for c in (PARAMS, data, "learning_rate"))
    design = np.stack([np.ones_like(n), n - n.mean(), d - d.mean()], axis=1)
    plane = np.linalg.lstsq(design, rates, rcond=None)[0]
    found = plane @ [1.0, np.log(params) - n.mean(), np.log(seen) - d.mean()]
    low, high = rates.min() - np.log(2), rates.max()
    rate, found, low, high = (float(np.exp(x)) for x in (np.clip(found, low, high), found, low, high))
    return TargetRate(rate, found, low, high, len(cells))
