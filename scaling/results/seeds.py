"""How much results scatter between seeds, and how much of that the runs of one size share.

Runs of one model on several amounts of data begin with the same weights and data, and often go on from one trunk: a seed
that began badly stays so, also at other learning rates. Their errors are not independent, and a law that was fitted to them
is less certain than their number says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from scaling.results.tuned import PARAMS

if TYPE_CHECKING:
    import pandas as pd

ASSUMED = 0.5  # the part of the variance that runs of a size share, where too few seeds show it
ENOUGH = 8     # degrees of freedom of a variance between seeds from which the part is measured
SIZE = "size"   # the column of `size_labels`


class SeedNoise(NamedTuple):
    """The scatter of one seed at one cell.

    variance: of the metric (or of its logarithm), NaN without several seeds. shared: the part of it that runs of a size
    share. measured: whether that was seen in the runs, or is the usual assumption. degrees: of freedom of the variance.
    """
    variance: float
    shared: float
    measured: bool
    degrees: int


def size_labels(cells: pd.DataFrame) -> pd.Series:
    """A label for each of `tuned.tuned_cells`, equal for those that share the luck of their seeds: those of one size."""
    return cells[PARAMS].map("{:.0f}".format)


def seed_noise(runs: pd.DataFrame, cells: pd.DataFrame, metric: str, log: bool = True) -> SeedNoise:
    """The scatter between seeds at the tuned runs `cells`, from all `runs` that they are means of."""
    named = cells[["fingerprints"]].assign(cell=np.arange(len(cells)), size=size_labels(cells)).explode("fingerprints")
    table = named.merge(runs[["fingerprint", "seed", metric]], left_on="fingerprints", right_on="fingerprint")
    value = np.log(table[metric]) if log else table[metric]
    count = table.groupby("cell")[metric].transform("size")
    away = value - value.groupby(table["cell"]).transform("mean")
    table = table.assign(off=away * np.sqrt(count / (count - 1).clip(lower=1)), count=count)  # of the variance of one seed
    table = table[table["count"] > 1]
    degrees = int(len(table) - table["cell"].nunique())
    if not degrees:
        return SeedNoise(np.nan, ASSUMED, False, 0)
    variance = float((table["off"] ** 2).mean())
    same = table.groupby(["size", "seed"])["off"]
    products = (same.sum() ** 2 - (table["off"] ** 2).groupby([table["size"], table["seed"]]).sum())
    pairs = float((same.size() * (same.size() - 1)).sum())
    if degrees < ENOUGH or not pairs or not variance:
        return SeedNoise(variance, ASSUMED, False, degrees)
    return SeedNoise(variance, float(np.clip(products.sum() / pairs / variance, 0.0, 0.95)), True, degrees)
