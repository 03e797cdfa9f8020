"""Brackets of learning rates: a cell whose best rate is at the edge of those tried asks for the next one, within a budget.

Rounds follow the sweep. In each, every cell at an edge asks for one more rate, a geometric step of its own grid beyond
that edge, and what the budget allows is trained as one plan. A round is a function of the config, of the records of the
sweep and of those of the rounds before it. So a study that was killed, a later command, and every process on a workdir find
the same rounds again, and nothing has to be remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from scaling import fields
from scaling.devices import hosts
from scaling.experiment import Experiment
from scaling.figures import words
from scaling.results import records, tuned
from scaling.results.tuned import PARAMS
from scaling.store.progress import Progress
from scaling.study import belonging, fork, listed
from scaling.sweeps.plan import Pack, Plan, Run, Trunk
from scaling.sweeps.runner import Runner
from scaling.training.counts import counts
from scaling.training.step import run_span

RATE = "optim.learning_rate"

NEAR = 0.25  # a rate that other cells tried is taken where it is within this part of a step of the next one
DIGITS = 3   # of a rate that no cell has tried


class Ask(NamedTuple):
    """A cell whose best learning rate is at an edge, and the next rate beyond it."""
    size: float
    data: float
    edge: str  # lowest or highest
    best: float
    rate: float
    runs: tuple[str, ...]  # the fingerprints of the cell's runs at its best rate, one for each seed


class Round(NamedTuple):
    """One round: the plan of what the cells were granted, and the FLOPs of the models in all rounds until its end."""
    asks: list[Ask]
    granted: list[Ask]
    plan: Plan
    spent: float


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
    alike, found = _by_rate(runs), []
    for index, (size, data, best, _, edge) in zip(brackets.index, brackets.itertuples(index=False)):
        if not edge or (size, data) in waiting:
            continue
        one = runs[cells.loc[index, "fingerprint"]]
        by_rate = alike[_any_rate(one)]
        if len(by_rate) > 1:  # else the runs of the cell differ in how they are computed
            seeds = by_rate[one.optim.learning_rate]
            found.append(Ask(float(size), float(data), edge, float(best), next_rate(by_rate, edge, known),
                             tuple(seeds)))
    return found


def flops_of(sweep: Iterable[Experiment]) -> float:
    """FLOPs of the models in training some runs from their start, trunks shared: the same whatever is done already."""
    trunks: dict[Experiment, list[Run]] = {}
    for e in dict.fromkeys(sweep):
        shared = fields.replace(e, {e.data.length_knob: 1}) if run_span(e).cooldown else e
        trunks.setdefault(shared, []).append(Run(e, ""))
    by_length = [Trunk(tuple(sorted(runs, key=lambda run: run.experiment.steps))) for runs in trunks.values()]
    return float(sum(Pack((trunk,)).flops() for trunk in by_length))


def grant(asks: Mapping[Ask, Sequence[Experiment]], left: float) -> list[Ask]:
    """The asks, {ask: its runs}, that `left` FLOPs pay for together, the cheapest first."""
    granted: list[Ask] = []
    together: list[Experiment] = []
    for ask in sorted(asks, key=lambda ask: (flops_of(asks[ask]), ask)):
        if flops_of([*together, *asks[ask]]) <= left:
            granted.append(ask)
            together += asks[ask]
    return granted


class Bracketing:
    """The rounds that follow a sweep in the workdir of `runner`.

    share: of the FLOPs of the sweep's models, which is the budget of all rounds together; 0 is none. pack: how many trunks
    train side by side, as for `Runner.plan`.
    """

    def __init__(self, runner: Runner, sweep: Plan, metric: str, share: float, pack: int | Callable):
        self.runner, self.sweep, self.metric, self.share, self.pack = runner, sweep, metric, share, pack
        self.runs: dict[str, Experiment] = _by_name(sweep.runs)
        can_ask = any(len(by_rate) > 1 for by_rate in _by_rate(self.runs).values())  # else no cell has an edge
        self.budget = share * flops_of(self.runs.values()) if can_ask else 0.0

    def rounds(self) -> Iterator[Round]:
        """Every round in turn. The next one is found from the records of those before, so they must have been trained."""
        runs, spent = dict(self.runs), 0.0
        while self.budget:
            found = hosts.by_lead(lambda runs=runs: self._find_asks(runs))
            asks = {(ask := Ask(*one, tuple(names))): [runs[name].replace({RATE: ask.rate}) for name in names]
                    for *one, names in found}
            granted = grant(asks, self.budget - spent)
            if not granted:
                return
            asked = [run for ask in granted for run in asks[ask]]
            spent += flops_of(asked)
            plan = self.runner.plan(asked, self.pack, beside=self.sweep)
            runs |= _by_name(plan.runs)
            yield Round(list(asks), granted, plan, spent)

    def train(self, progress: Progress, then: Plan | None = None, older: Runner | None = None) -> None:
        """Trains every round, and lists its runs in study.json before. What the workdir of `older` has finished is copied.

        `then` is the plan that is trained next.
        """
        for found in self.rounds():
            hosts.by_lead(lambda found=found: self._enter(found, older))
            if self.runner.done(found.plan.runs):
                continue
            progress.print(self.describe_round(found))
            progress.extend(self.runner.work(Plan(tuple(p for p in found.plan.packs if not self.runner.done(p.runs)))))
            self.runner.run(found.plan, progress, then=then)

    def _enter(self, found: Round, older: Runner | None) -> None:
        runs = listed.list_runs([found.plan])
        belonging.enter_asked(self.runner.records.workdir, runs, {"budget": self.budget, "spent": found.spent})
        if older is not None:
            fork.copy_shared(older, self.runner, found.plan)

    def describe(self) -> list[str]:
        """What the budget is, what was asked for so far, and what finished runs ask for next. It trains nothing."""
        if not self.budget:
            return []
        said = [f"tune={self.share:g}: cells whose best learning rate is at the edge of those tried ask for the next one, "
                f"for at most {self.budget:.3g} FLOPs of the models in all, {self.share:.0%} of the sweep's"]
        runs, spent = 0, 0.0
        for found in self.rounds():
            if not self.runner.done(found.plan.runs):
                return [*said, *self._describe_done(runs, spent), f"next, {self.describe_round(found)}"]
            runs, spent = runs + len(found.plan.runs), found.spent
        return [*said, *self._describe_done(runs, spent)]

    def _describe_done(self, runs: int, spent: float) -> list[str]:
        return [f"{words.plural(runs, 'run')} of asked rates are done, for {spent:.3g} FLOPs"] if runs else []

    def describe_round(self, found: Round) -> str:
        """A sentence about what is asked for in a round, and what is left of the budget after it."""
        rates = sorted({ask.rate for ask in found.granted})
        shown = f"{rates[0]:.3g}" if len(rates) == 1 else f"{rates[0]:.3g} to {rates[-1]:.3g}"
        refused = len(found.asks) - len(found.granted)
        return (f"{words.plural(len(found.asks), 'cell')} with the best learning rate at the edge: "
                f"{len(found.granted)} {'gets' if len(found.granted) == 1 else 'get'} the next rate ({shown}; "
                f"{words.plural(len(found.plan.runs), 'run')}){f', {refused} would cost too much' if refused else ''}; "
                f"{max(0.0, 1 - found.spent / self.budget):.0%} of the budget is left")

    def _find_asks(self, runs: Mapping[str, Experiment]) -> list[Ask]:
        """`find_asks` of the records that there are."""
        workdir = self.runner.records.workdir
        if not workdir.is_dir():
            return []
        frame = records.load_records(workdir)
        frame = frame[frame["fingerprint"].isin(runs)]
        if frame.empty:
            return []
        table = tuned.clean(frame.assign(role="sweep"), self.metric)  # also a run that another study had as its target
        return find_asks(table, self.metric, runs, self._waiting(table, runs))

    def _waiting(self, table, runs) -> set[tuple]:
        """(size, data) of the cells that lack the record of a run."""
        missing = runs.keys() - set(table["fingerprint"])
        unit, found = next(iter(runs.values())).data.unit, set()
        for name in missing:
            at = counts(runs[name], 0)
            same = table[(table[PARAMS] == at[PARAMS]) & (table[f"{unit}_seen"] == at[f"{unit}_seen"])]
            found |= set(zip(same[PARAMS], same["data"]))
        return found


def _by_name(runs: Iterable[Run]) -> dict[str, Experiment]:
    return {run.fingerprint: run.experiment for run in runs}


def _by_rate(runs: Mapping[str, Experiment]) -> dict[Experiment, dict[float, list[str]]]:
    """{`_any_rate` of runs: {learning rate: the fingerprints of its runs, one for each seed}}."""
    found: dict[Experiment, dict[float, list[str]]] = {}
    for name, run in runs.items():
        found.setdefault(_any_rate(run), {}).setdefault(run.optim.learning_rate, []).append(name)
    return found


def _any_rate(run: Experiment) -> Experiment:
    """What runs share that differ in their learning rate and seed alone."""
    return fields.replace(run, {RATE: 1.0, "seed": 0})
