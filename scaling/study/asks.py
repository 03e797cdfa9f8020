"""What cells ask for: the rate beyond the edge at which their best one is, or, of a sampler, one between its neighbours.

Both are functions of records alone; `scaling.study.bracketing` makes rounds of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from scaling.experiment import Experiment, fingerprint
from scaling.results import metrics, tuned
from scaling.study.budget import any_rate
from scaling.study.sampling import Sampler

NEAR = 0.25  # a rate that other cells tried is taken where it is within this part of a step of the next one
DIGITS = 3   # of a rate that no cell has tried
BETWEEN = "between"  # the `edge` of what a cell asks of a sampler


class Ask(NamedTuple):
    """A cell whose best learning rate is at an edge, and the next rate beyond it; or a bracketed cell, and what a sampler
    proposes for it."""
    size: float
    data: float
    edge: str  # lowest, highest or BETWEEN
    best: float
    rate: float
    runs: tuple[str, ...]  # the fingerprints of the cell's runs at its best rate, one for each seed


def next_rate(tried: Iterable[float], edge: str, known: Iterable[float] = ()) -> float:
    """The learning rate beyond the `edge` ("lowest" or "highest") of the rates that a cell has `tried`, at least two.

    It is the mean geometric step of these rates away. One of the `known` rates, which other cells have tried, is taken in
    its place where it is `NEAR`, so that runs of equal rates share trunks, packs and names.
    """
    logs = np.unique(np.log(np.asarray(list(tried), float)))
    end, sign = (logs[0], -1) if edge == "lowest" else (logs[-1], 1)
    step = float(logs[-1] - logs[0]) / (len(logs) - 1)
    wanted = end + sign * step
    near = [rate for rate in known if abs(np.log(rate) - wanted) <= NEAR * step]
    if near:
        return float(min(near, key=lambda rate: (abs(np.log(rate) - wanted), rate)))
    exact = float(np.exp(wanted))
    rounded = float(f"{exact:.{DIGITS}g}")
    return rounded if abs(np.log(rounded) - wanted) <= NEAR * step else exact


def find_asks(table, metric: str, runs: Mapping[str, Experiment], waiting: Iterable[tuple] = ()) -> list[Ask]:
    """What each cell at an edge asks for, from the smallest cell on.

    table: the records of `runs`, {fingerprint: experiment}, as `tuned.clean` gives them. waiting: (size, data) of cells
    that ask for nothing, since some of their runs have no record.
    """
    cells = tuned.tuned_cells(table, metric)
    brackets, known, waiting = tuned.bracketing(table, cells), sorted(set(table["learning_rate"].dropna())), set(waiting)
    alike, found = by_rate(runs), []
    for index, (size, data, best, _, edge) in zip(brackets.index, brackets.itertuples(index=False)):
        if not edge or (size, data) in waiting:
            continue
        one = runs[cells.loc[index, "fingerprint"]]
        rates = alike[any_rate(one)]
        if len(rates) > 1:  # else the runs of the cell differ in how they are computed
            seeds = rates[one.optim.learning_rate]
            found.append(Ask(float(size), float(data), edge, float(best), next_rate(rates, edge, known),
                             tuple(seeds)))
    return found


def find_proposals(table, metric: str, runs: Mapping[str, Experiment], sampler: Sampler, sampled: Mapping[Experiment, list],
                   waiting: Iterable[tuple] = ()) -> list[Ask]:
    """What each bracketed cell asks of a sampler. sampled: {`any_rate` of its runs: what it was granted before, in order}.

    The others are as for `find_asks`.
    """
    cells = tuned.tuned_cells(table, metric)
    brackets, alike, found = tuned.bracketing(table, cells), by_rate(runs), []
    by_name, waiting = table.set_index("fingerprint"), set(waiting)
    losses = (-1 if metrics.find_metric(metric).rises else 1) * by_name[metric]
    losses = losses.mask(by_name["diverged"], math.inf)
    for index, (size, data, best, _, edge) in zip(brackets.index, brackets.itertuples(index=False)):
        if edge or (size, data) in waiting:
            continue
        one = runs[cells.loc[index, "fingerprint"]]
        cell = any_rate(one)
        tried = {rate: float(losses.reindex(names).mean()) for rate, names in alike[cell].items()}
        before = sampled.get(cell, [])
        grid = {rate: loss for rate, loss in tried.items() if rate not in before and not math.isnan(loss)}
        if len(grid) < 3 or any(math.isnan(tried[rate]) for rate in before):
            continue  # a rate was stopped early, or was not measured
        rate = sampler.propose(fingerprint(cell, ""), grid, [(rate, tried[rate]) for rate in before])
        if rate is not None:
            seeds = alike[cell][one.optim.learning_rate]
            found.append(Ask(float(size), float(data), BETWEEN, float(best), rate, tuple(seeds)))
    return found


def by_rate(runs: Mapping[str, Experiment]) -> dict[Experiment, dict[float, list[str]]]:
    """{`any_rate` of runs: {learning rate: the fingerprints of its runs, one for each seed}}."""
    found: dict[Experiment, dict[float, list[str]]] = {}
    for name, run in runs.items():
        found.setdefault(any_rate(run), {}).setdefault(run.optim.learning_rate, []).append(name)
    return found
