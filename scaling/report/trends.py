"""What a sweep shows, before any law is fitted: the tuned loss per size and data, and whether it falls.

`tuned` is the least loss over the learning rates tried at one number of parameters N and one of tokens D:
a trend in untuned runs is as much a trend in how badly each size was tuned (Lourie et al. 2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from scaling.laws import forms

PARAMS, DATA = "params_non_embedding", "tokens_seen"
NUMBERS = (PARAMS, DATA, "params_total", "tokens_unique", "flops", "flops_6nd", "steps", "learning_rate",
           "seed",
           "weight_decay", "loss", "bits_per_byte", "bits_per_byte_package", "seconds", "diverged_step")


class Step(NamedTuple):
    """Two neighbouring cells of a sweep: `fixed` stays, the other size grows from `before` to `after`."""
    fixed: float
    before: float
    after: float
    loss_before: float
    loss_after: float

    @property
    def falls(self) -> bool:
        return self.loss_after < self.loss_before


def clean(records: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The records with every column the report reads present and numeric.

    `metric` becomes NaN where the run diverged, so a diverged run can be listed but never wins. `tokens_seen`
    within 2% of each other become one level, `data`: batches of different sizes rarely end on the same token.
    """
    table = records.copy()
    for name in dict.fromkeys((*NUMBERS, metric)):
        table[name] = pd.to_numeric(table.get(name, pd.Series(np.nan, table.index)), errors="coerce")
    for name, default in {"role": "sweep", "fingerprint": "", "diverged": False, "finished": ""}.items():
        column = table.get(name, pd.Series(default, table.index))
        table[name] = column.where(column.notna(), default)
    table["diverged"] = table["diverged"].astype(bool) | ~np.isfinite(table[metric])
    table.loc[table["diverged"], metric] = np.nan
    table["data"] = levels(table[DATA])
    return table.sort_values([PARAMS, DATA, "learning_rate", "seed"], kind="stable", ignore_index=True)


def levels(values: pd.Series, tolerance: float = 0.02) -> pd.Series:
    """`values` with each run of neighbours closer than `tolerance` replaced by its median."""
    ordered = values.sort_values()
    group = (ordered > ordered.shift() * (1 + tolerance)).cumsum()
    return ordered.groupby(group).transform("median").reindex(values.index)


def tuned(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The run of least `metric` at each (N, D) of the sweep, over learning rates; none where all diverged."""
    alive = runs[(runs["role"] == "sweep") & ~runs["diverged"]]
    best = alive.groupby([PARAMS, "data"])[metric].idxmin()
    return alive.loc[best].sort_values([PARAMS, "data"], ignore_index=True)


def steps(cells: pd.DataFrame, along: str, fixed: str, metric: str) -> list[Step]:
    """Every step between neighbours along `along`, at each value of `fixed`; `cells` comes from `tuned`."""
    found = []
    for value, line in cells.groupby(fixed):
        line = line.sort_values(along)
        pairs = zip(line[along], line[along][1:], line[metric], line[metric][1:])
        found += [Step(float(value), *map(float, pair)) for pair in pairs]
    return found


def learning_rates(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per (N, D) whose sweep tried at least two learning rates.

    Columns: N, data, `best` (rate of least loss), `tried`, and `edge`: "lowest" or "highest" where the best
    is the last one tried on that side, so that a better one may lie beyond; "" where it is bracketed. A rate
    that was tried and diverged does bracket.
    """
    rows = []
    for (params, data), cell in runs[runs["role"] == "sweep"].groupby([PARAMS, "data"]):
        tried = np.sort(cell["learning_rate"].dropna().unique())
        alive = cell[~cell["diverged"]]
        if len(tried) < 2 or alive.empty:
            continue
        best = alive.loc[alive[metric].idxmin(), "learning_rate"]
        edge = "lowest" if best == tried[0] else "highest" if best == tried[-1] else ""
        rows.append({PARAMS: params, "data": data, "best": best, "tried": len(tried), "edge": edge})
    return pd.DataFrame(rows, columns=[PARAMS, "data", "best", "tried", "edge"])


def predict(fit: Mapping | None, params, data):
    """Loss of the fitted law at N and D, broadcast together. None without a fit, or when not of N and D."""
    if not fit or fit.get("form") not in forms.FORMS or forms.get(fit["form"]).inputs != ("N", "D"):
        return None
    form = forms.get(fit["form"])
    logs = np.log(np.stack(np.broadcast_arrays(np.atleast_1d(params), np.atleast_1d(data))).astype(float))
    return form.predict(np.array([[fit["params"][name] for name in form.names]], float), logs)[0]
