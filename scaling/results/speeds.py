"""How fast the runs of a workdir were trained, which says how long those take that are left."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from scaling.results.tuned import PARAMS

if TYPE_CHECKING:
    import pandas as pd

NEAR = 4.0  # runs of the same family and body say how fast a size is within this factor of their own


def measured_rates(records: pd.DataFrame) -> dict[tuple[str, str], dict[float, float]]:
    """{(family, body): {N: FLOP/s}} of the finished runs of a workdir: executed FLOPs over seconds, of all runs of a size.

    Runs that diverged stopped early, so they say nothing.
    """
    import pandas as pd

    if not {"family", "seconds", "flops_executed", PARAMS} <= set(records):
        return {}
    body = records["family.body"] if "family.body" in records else pd.Series("", records.index)
    numbers = ("seconds", "flops_executed", PARAMS)
    table = pd.DataFrame({name: pd.to_numeric(records[name], errors="coerce") for name in numbers})
    table = table.assign(family=records["family"].astype(str), body=body.where(body.notna(), ""))
    ended = ~records["diverged"].fillna(False).astype(bool) if "diverged" in records else True
    table = table[ended & (table["seconds"] > 0) & (table["flops_executed"] > 0) & (table[PARAMS] > 0)]
    found: dict = {}
    for (family, body, size), runs in table.groupby(["family", "body", PARAMS]):
        found.setdefault((family, body), {})[float(size)] = runs["flops_executed"].sum() / runs["seconds"].sum()
    return found


def nearest_rate(sizes: Mapping[float, float], params: float, within: float = NEAR) -> float | None:
    """The rate of the size that is nearest to `params` in {N: FLOP/s}, or None where none is `within` this factor."""
    near = min(sizes, key=lambda size: abs(math.log(size / params)), default=None)
    return None if near is None or not 1 / within <= near / params <= within else sizes[near]
