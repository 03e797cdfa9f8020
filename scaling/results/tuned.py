"""The results of a sweep before any law is fitted: the tuned metric per size and data, and whether it improves.

A cell is one number of parameters N and one amount of data D. `tuned_cells` gives the best run of each cell over the
learning rates that were tried, because a trend in untuned runs is partly a trend in how badly each size was tuned
(Lourie et al. 2026). A rate that was run with several seeds is judged by their mean, because the best of many seeds
says little about the rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from scaling.results import metrics

if TYPE_CHECKING:
    import pandas as pd

PARAMS = "params_non_embedding"
NUMBERS = (PARAMS, "params_total", "flops", "flops_6nd", "steps", "learning_rate", "seed", "weight_decay",
           "loss", "seconds", "diverged_step", "stopped_step")
DEFAULTS = {"role": "sweep", "fingerprint": "", "diverged": False, "diverged_because": "", "stopped_because": "",
            "finished": ""}


class GrowthStep(NamedTuple):
    """Two neighbouring cells of a sweep: one size stays at `fixed`, the other grows from `before` to `after`."""
    fixed: float
    before: float
    after: float
    metric_before: float
    metric_after: float
    better: bool
    runs: tuple[str, str] = ("", "")  # fingerprints, before and after


class Effect(NamedTuple):
    """The effect of `factor` times as much on a metric: the mean ratio of after to before, with its interval."""
    factor: float
    ratio: float
    low: float    # NaN where no interval is known, as is `high`
    high: float
    pairs: int

    @property
    def shown(self) -> bool:
        """True if the interval is known and leaves one sign only."""
        return bool(self.low > 1 or self.high < 1)


def clean(records: pd.DataFrame, metric: str, unit: metrics.Unit | None = None) -> pd.DataFrame:
    """The records, with every column that the report reads present and numeric.

    `metric` becomes NaN where the run diverged, so a diverged run can be listed but never wins. A run that did not
    diverge and has no `metric` was not measured by it: it cannot win either, but it is not called diverged. Column `data`
    is the unit's `seen`, with amounts within 2% of each other merged into one level, because batches of different sizes
    rarely end on the same token. Column `unique` is the unit's `unique`, merged in the same way.
    """
    import pandas as pd

    unit = unit or metrics.find_unit(None, records)
    errors = [name for name in records if name.endswith("_se")]
    measured = (*metrics.metric_columns(records), *errors, metric)
    changed = {}
    for name in dict.fromkeys((*NUMBERS, unit.seen, unit.unique, *measured)):
        changed[name] = pd.to_numeric(records.get(name, pd.Series(np.nan, records.index)), errors="coerce")
    for name, default in DEFAULTS.items():
        column = changed.get(name, records.get(name, pd.Series(default, records.index)))
        changed[name] = column.where(column.notna(), default)
    changed["diverged"] = changed["diverged"].astype(bool) | np.isinf(changed[metric])
    changed[metric] = changed[metric].mask(changed["diverged"])
    changed |= {"data": merge_levels(changed[unit.seen]), "unique": merge_levels(changed[unit.unique])}
    table = with_columns(records, changed)
    return table.sort_values([PARAMS, unit.seen, "learning_rate", "seed"], kind="stable", ignore_index=True)


def with_columns(table: pd.DataFrame, columns: Mapping[str, pd.Series]) -> pd.DataFrame:
    """`table` with these columns in the place of those of their names, and the new ones at the end. They are joined at
    once, since pandas warns of a hundred columns that are set one by one."""
    import pandas as pd

    order = list(dict.fromkeys([*table, *columns]))
    kept = table.drop(columns=list(columns), errors="ignore")
    return pd.concat([kept, pd.DataFrame(columns, index=table.index)], axis=1)[order].copy()


def merge_levels(values: pd.Series, tolerance: float = 0.02) -> pd.Series:
    """`values`, with each group of neighbours closer than the relative `tolerance` replaced by its median."""
    ordered = values.sort_values()
    group = (ordered > ordered.shift() * (1 + tolerance)).cumsum()
    return ordered.groupby(group).transform("median").reindex(values.index)


def trials(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The sweep's runs that have the metric, one row for all runs that differ only in their seed.

    Every metric is its mean over the seeds, and `<metric>_seeds_se` is the standard error of that mean, NaN for one
    seed. New columns are `seeds` (the number that have the metric), `seeds_diverged`, and `fingerprints` (a list in the
    order of seeds). All other columns, `fingerprint` too, are from the seed nearest the mean of `metric`.
    """
    import pandas as pd

    sweep = runs[runs["role"] == "sweep"]
    group = _groups(sweep)
    alive = sweep[sweep[metric].notna()]
    seeds = alive.groupby(group)
    away = (alive[metric] - seeds[metric].transform("mean")).abs()
    table = alive.loc[away.groupby(group).idxmin()]
    table.index = seeds.size().index
    results = list(dict.fromkeys((*metrics.metric_columns(alive), metric)))
    means, errors = seeds[results].mean(), seeds[results].sem().add_suffix("_seeds_se")
    found = pd.concat([means, errors], axis=1).assign(
        seeds=seeds.size(), fingerprints=seeds["fingerprint"].agg(list),
        seeds_diverged=sweep["diverged"].groupby(group).sum().reindex(table.index))
    return with_columns(table, dict(found.items())).reset_index(drop=True)


def _groups(runs: pd.DataFrame, without: Sequence[str] = ()) -> pd.Series:
    """A number for each run, the same for runs that differ only in their seed and in the columns `without`."""
    made = [name for name in runs if name.startswith(("family.", "data.", "optim."))]
    text = runs[made].map(repr)  # a field may hold a list, which groupby cannot hash
    keys = [runs[name] for name in (PARAMS, "data", "unique", "learning_rate", "weight_decay") if name not in without]
    keys += [text[name] for name in made if name not in without and text[name].nunique() > 1]
    return runs.groupby(keys, dropna=False).ngroup()


def tuned_cells(runs: pd.DataFrame, metric: str, by: Sequence[str] = (PARAMS, "data")) -> pd.DataFrame:
    """The best of `trials` at each (N, D): one row per cell, none where all runs diverged.

    Unless "unique" is among `by`, only runs with the most unique data at their (N, D) take part. The best trial has the
    best mean over seeds. A rate at which some seed diverged loses to every rate at which none did, because the mean of
    the remaining seeds would be too good.
    """
    if "unique" not in by:
        most = runs.groupby([PARAMS, "data"])["unique"].transform("max")
        runs = runs[(runs["unique"] == most) | most.isna()]
    return best_trials(trials(runs, metric), metric, by)


def best_trials(table: pd.DataFrame, metric: str, by: Sequence[str]) -> pd.DataFrame:
    """The best row of `trials` for each value of the columns `by`, sorted by them; see `tuned_cells`."""
    order = table.assign(lost=table["seeds_diverged"] > 0,
                         rank=-table[metric] if metrics.find_metric(metric).rises else table[metric])
    first = order.sort_values([*by, "lost", "rank"], kind="stable").drop_duplicates(list(by)).index
    return table.loc[first].reset_index(drop=True)


def repeated_cells(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The best of `trials` for each N and amount of unique data.

    Each N is shown at the largest amount of data seen that has several amounts of unique data.
    """
    table = tuned_cells(runs, metric, (PARAMS, "data", "unique"))
    several = table[table.groupby([PARAMS, "data"])["unique"].transform("nunique") > 1]
    return several[several["data"] == several.groupby(PARAMS)["data"].transform("max")]


def standard_error(cells: pd.DataFrame, metric: str) -> pd.Series:
    """The standard error of `metric` in each row of `trials` or of runs, NaN where no part of it is known.

    Its parts are the scatter between seeds, and the error of the evaluation (`<metric>_se`), which all seeds share.
    """
    import pandas as pd

    parts = [cells[name] for name in (f"{metric}_seeds_se", f"{metric}_se") if name in cells]
    if not parts:
        return pd.Series(np.nan, cells.index)
    return pd.concat(parts, axis=1).pow(2).sum(axis=1, min_count=1).pow(0.5)


def growth_steps(cells: pd.DataFrame, along: str, fixed: str, metric: str) -> list[GrowthStep]:
    """Every step between neighbours along `along`, at each value of `fixed`; `cells` comes from `tuned_cells`."""
    found, rises = [], metrics.find_metric(metric).rises
    for value, line in cells.dropna(subset=[metric]).groupby(fixed):
        line = line.sort_values(along)
        sizes, results = line[along].astype(float).tolist(), line[metric].astype(float).tolist()
        names = line["fingerprint"].tolist() if "fingerprint" in line else [""] * len(line)
        for i in range(len(line) - 1):
            better = results[i + 1] > results[i] if rises else results[i + 1] < results[i]
            found.append(GrowthStep(float(value), sizes[i], sizes[i + 1], results[i], results[i + 1], better,
                                    (names[i], names[i + 1])))
    return found


def mean_effect(cells: pd.DataFrame, along: str, fixed: str, metric: str, level: float = 0.9) -> Effect | None:
    """The effect of going from the least to the most of `along`, averaged over the values of `fixed` that have both.

    The interval is Student's t interval of the mean log ratio; the scatter between values of `fixed` contains the noise
    of runs and any true difference. A single pair has the normal interval of its standard errors, where both are known.
    None where `metric` is not positive or there is no pair.
    """
    import pandas as pd
    from scipy.special import ndtri, stdtrit

    table = cells.pivot_table(index=fixed, columns=along, values=metric).dropna(axis=1, how="all")
    if table.shape[1] < 2:
        return None
    first, last = table.iloc[:, 0], table.iloc[:, -1]
    pairs = pd.concat([first, last], axis=1, keys=("first", "last")).dropna()
    if pairs.empty or (pairs <= 0).any(axis=None):
        return None
    logs = np.log(pairs["last"] / pairs["first"])
    margin = stdtrit(len(logs) - 1, (1 + level) / 2) * logs.sem() if len(logs) > 1 else np.nan
    if len(logs) == 1:
        ends = cells[(cells[fixed] == logs.index[0]) & cells[along].isin([first.name, last.name])]
        relative = standard_error(ends, metric) / ends[metric]
        margin = ndtri((1 + level) / 2) * np.sqrt((relative ** 2).sum(skipna=False))
    ratios = np.exp([logs.mean(), logs.mean() - margin, logs.mean() + margin])
    return Effect(float(last.name / first.name), *map(float, ratios), len(logs))


def learning_rates(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """`bracketing` of the cells that `tuned_cells` finds for `metric`."""
    return bracketing(runs, tuned_cells(runs, metric))


def bracketing(runs: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """One row for each of `cells`, from `tuned_cells`, whose sweep tried at least two learning rates.

    Columns: N, data, `best` (the rate of the cell), `tried` (their number), and `edge`: "lowest" or "highest" where the
    best rate is at that end of the rates tried, so that a better one may lie beyond; "" where it is bracketed. A rate
    that diverged counts as tried. Runs that differ in more than the rate, such as those of a rule that gives each batch
    its own, say nothing about each other's.
    """
    import pandas as pd

    sweep = runs[runs["role"] == "sweep"].dropna(subset=["learning_rate"])
    alike = _groups(pd.concat([sweep, cells], ignore_index=True), ("learning_rate", "optim.learning_rate")).to_numpy()
    rates = sweep["learning_rate"].groupby(alike[:len(sweep)]).agg(["nunique", "min", "max"])
    tried = rates.reindex(alike[len(sweep):]).set_axis(["tried", "low", "high"], axis=1).set_axis(cells.index)
    table = cells.join(tried).rename(columns={"learning_rate": "best"})
    at_end = [table["best"] == table["low"], table["best"] == table["high"]]
    edge = np.select(at_end, ["lowest", "highest"], "")
    return table.assign(edge=edge).loc[table["tried"] > 1, [PARAMS, "data", "best", "tried", "edge"]]


def count_diverged(runs: pd.DataFrame) -> pd.DataFrame | None:
    """The number of runs of the sweep per (N, D), and of those that diverged: columns `runs`, `diverged`.

    None if no run diverged.
    """
    sweep = runs[runs["role"] == "sweep"]
    if not sweep["diverged"].any():
        return None
    return sweep.groupby([PARAMS, "data"])["diverged"].agg(runs="size", diverged="sum").reset_index()
