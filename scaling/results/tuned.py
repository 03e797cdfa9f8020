"""What a sweep shows, before any law is fitted: the tuned metric per size and data, and whether it improves.

`tuned_cells` is the best over the learning rates tried at one number of parameters N and one amount of data D: a
trend in untuned runs is as much a trend in how badly each size was tuned (Lourie et al. 2026). Where a rate
was run with several seeds it is judged by their mean: the luckiest of many seeds says little about a rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from scaling.results import metrics

PARAMS = "params_non_embedding"
NUMBERS = (PARAMS, "params_total", "flops", "flops_6nd", "steps", "learning_rate", "seed", "weight_decay",
           "loss", "seconds", "diverged_step")
DEFAULTS = {"role": "sweep", "fingerprint": "", "diverged": False, "diverged_because": "", "finished": ""}


class GrowthStep(NamedTuple):
    """Two neighbouring cells of a sweep: `fixed` stays, the other size grows from `before` to `after`."""
    fixed: float
    before: float
    after: float
    metric_before: float
    metric_after: float
    better: bool


class Effect(NamedTuple):
    """What `factor` times as much does to a metric: its mean ratio, after over before, with an interval."""
    factor: float
    ratio: float
    low: float    # NaN, as is `high`, for a single pair
    high: float
    pairs: int


def clean(records: pd.DataFrame, metric: str, unit: metrics.Unit | None = None) -> pd.DataFrame:
    """The records with every column the report reads present and numeric.

    `metric` becomes NaN where the run diverged, so a diverged run can be listed but never wins. Column `data`
    is the unit's `seen`, with amounts within 2% of each other made one level: batches of different sizes
    rarely end on the same token. `unique` is the same of the unit's `unique`.
    """
    table = records.copy()
    unit = unit or metrics.find_unit(None, table)
    errors = [name for name in table if name.endswith("_se")]
    measured = (*metrics.metric_columns(table), *errors, metric)
    for name in dict.fromkeys((*NUMBERS, unit.seen, unit.unique, *measured)):
        table[name] = pd.to_numeric(table.get(name, pd.Series(np.nan, table.index)), errors="coerce")
    for name, default in DEFAULTS.items():
        column = table.get(name, pd.Series(default, table.index))
        table[name] = column.where(column.notna(), default)
    table["diverged"] = table["diverged"].astype(bool) | ~np.isfinite(table[metric])
    table.loc[table["diverged"], metric] = np.nan
    table["data"], table["unique"] = merge_levels(table[unit.seen]), merge_levels(table[unit.unique])
    return table.sort_values([PARAMS, unit.seen, "learning_rate", "seed"], kind="stable", ignore_index=True)


def merge_levels(values: pd.Series, tolerance: float = 0.02) -> pd.Series:
    """`values` with each run of neighbours closer than `tolerance` replaced by its median."""
    ordered = values.sort_values()
    group = (ordered > ordered.shift() * (1 + tolerance)).cumsum()
    return ordered.groupby(group).transform("median").reindex(values.index)


def trials(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The sweep's runs that did not diverge, those that differ in nothing but their seed joined into one row.

    Every metric becomes its mean over the seeds, and `<metric>_seeds_se` the standard error of that mean, NaN
    for one seed. Added: `seeds` (how many did not diverge), `seeds_diverged`, `fingerprints` (a list, in the
    order of seeds). All else, `fingerprint` too, is of the seed nearest the mean of `metric`.
    """
    sweep = runs[runs["role"] == "sweep"]
    made = [name for name in sweep if name.startswith(("family.", "data.", "optim."))]
    text = sweep[made].map(repr)  # a field may hold a list
    keys = [sweep[name] for name in (PARAMS, "data", "unique", "learning_rate", "weight_decay")]
    keys += [text[name] for name in made if text[name].nunique() > 1]
    group = sweep.groupby(keys, dropna=False).ngroup()
    alive = sweep[~sweep["diverged"]]
    seeds = alive.groupby(group)
    away = (alive[metric] - seeds[metric].transform("mean")).abs()
    table = alive.loc[away.groupby(group).idxmin()]
    table.index = seeds.size().index
    results = list(dict.fromkeys((*metrics.metric_columns(alive), metric)))
    means, errors = seeds[results].mean(), seeds[results].sem().add_suffix("_seeds_se")
    return table.assign(
        **means, **errors, seeds=seeds.size(), fingerprints=seeds["fingerprint"].agg(list),
        seeds_diverged=sweep["diverged"].groupby(group).sum().reindex(table.index)).reset_index(drop=True)


def tuned_cells(runs: pd.DataFrame, metric: str, by: Sequence[str] = (PARAMS, "data")) -> pd.DataFrame:
    """The best of `trials` at each (N, D): one row each, none where all diverged.

    Unless the amount of unique data is among `by`, only runs with the most of it at their (N, D) take part.
    Best is the best mean over seeds. A rate at which a seed diverged loses to every rate at which none did:
    the mean of the survivors would reward the luck of surviving.
    """
    if "unique" not in by:
        most = runs.groupby([PARAMS, "data"])["unique"].transform("max")
        runs = runs[(runs["unique"] == most) | most.isna()]
    return best_trials(trials(runs, metric), metric, by)


def best_trials(table: pd.DataFrame, metric: str, by: Sequence[str]) -> pd.DataFrame:
    """The best row of `trials` for each value of the columns `by`, in ascending order of these; see
    `tuned_cells`."""
    order = table.assign(lost=table["seeds_diverged"] > 0,
                         rank=-table[metric] if metrics.find_metric(metric).rises else table[metric])
    first = order.sort_values([*by, "lost", "rank"], kind="stable").drop_duplicates(list(by)).index
    return table.loc[first].reset_index(drop=True)


def repeated_cells(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The best of `trials` for each N and amount of unique data, at the most data seen at which N has
    several."""
    table = tuned_cells(runs, metric, (PARAMS, "data", "unique"))
    several = table[table.groupby([PARAMS, "data"])["unique"].transform("nunique") > 1]
    return several[several["data"] == several.groupby(PARAMS)["data"].transform("max")]


def standard_error(cells: pd.DataFrame, metric: str) -> pd.Series:
    """Standard error of `metric` in each row of `trials` or of runs; NaN where no part of it is known.

    Its parts are the scatter between seeds and, as `<metric>_se`, that of the evaluation, which seeds share.
    """
    parts = [cells[name] for name in (f"{metric}_seeds_se", f"{metric}_se") if name in cells]
    if not parts:
        return pd.Series(np.nan, cells.index)
    return np.sqrt(pd.concat(parts, axis=1).pow(2).sum(axis=1, min_count=1))


def growth_steps(cells: pd.DataFrame, along: str, fixed: str, metric: str) -> list[GrowthStep]:
    """Every step between neighbours along `along`, at each value of `fixed`; `cells` comes from `tuned_cells`."""
    found, rises = [], metrics.find_metric(metric).rises
    for value, line in cells.dropna(subset=[metric]).groupby(fixed):
        line = line.sort_values(along)
        for pair in zip(line[along], line[along][1:], line[metric], line[metric][1:]):
            *_, before, after = pair = tuple(map(float, pair))
            found.append(GrowthStep(float(value), *pair, after > before if rises else after < before))
    return found


def mean_effect(cells: pd.DataFrame, along: str, fixed: str, metric: str, level: float = 0.9) -> Effect | None:
    """What going from the least to the most of `along` does, averaged over the values of `fixed` that have
    both.

    The interval is Student's t of the mean log ratio: the scatter between values of `fixed` holds the noise
    of runs as well as any true difference. None where `metric` is not positive or nothing can be paired.
    """
    table = cells.pivot_table(index=fixed, columns=along, values=metric).dropna(axis=1, how="all")
    if table.shape[1] < 2:
        return None
    first, last = table.iloc[:, 0], table.iloc[:, -1]
    pairs = pd.concat([first, last], axis=1, keys=("first", "last")).dropna()
    if pairs.empty or (pairs <= 0).any(axis=None):
        return None
    logs = np.log(pairs["last"] / pairs["first"])
    margin = stats.t.ppf((1 + level) / 2, len(logs) - 1) * logs.sem() if len(logs) > 1 else np.nan
    ratios = np.exp([logs.mean(), logs.mean() - margin, logs.mean() + margin])
    return Effect(float(last.name / first.name), *map(float, ratios), len(logs))


def learning_rates(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per (N, D) whose sweep tried at least two learning rates.

    Columns: N, data, `best` (that of `tuned_cells`), `tried`, and `edge`: "lowest" or "highest" where the best is
    the last one tried on that side, so that a better one may lie beyond; "" where it is bracketed. A rate
    that was tried and diverged does bracket.
    """
    sweep = runs[runs["role"] == "sweep"].dropna(subset=["learning_rate"])
    tried = sweep.groupby([PARAMS, "data"])["learning_rate"].agg(tried="nunique", low="min", high="max")
    table = tuned_cells(runs, metric).join(tried, on=[PARAMS, "data"]).rename(columns={"learning_rate": "best"})
    at_end = [table["best"] == table["low"], table["best"] == table["high"]]
    edge = np.select(at_end, ["lowest", "highest"], "")
    return table.assign(edge=edge).loc[table["tried"] > 1, [PARAMS, "data", "best", "tried", "edge"]]


def count_diverged(runs: pd.DataFrame) -> pd.DataFrame | None:
    """Runs of the sweep, and how many of them diverged, per (N, D): columns `runs`, `diverged`. None if none
    did."""
    sweep = runs[runs["role"] == "sweep"]
    if not sweep["diverged"].any():
        return None
    return sweep.groupby([PARAMS, "data"])["diverged"].agg(runs="size", diverged="sum").reset_index()


