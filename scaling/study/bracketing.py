"""Brackets of learning rates: a cell whose best rate is at the edge of those tried asks for the next one, within a budget.

Rounds follow the sweep. In each, every cell at an edge asks for one more rate, a geometric step of its own grid beyond
that edge, and what the budget allows is trained as one plan. Once no cell at an edge gets any more, and where the study has
a sampler, every bracketed cell asks it for a rate between the neighbours of its best (`scaling.study.sampling`). A round is
a function of the config, of the records of the sweep and of those of the rounds before it. So a study that was killed, a
later command, and every process on a workdir find the same rounds again, and nothing has to be remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from scaling.devices import hosts
from scaling.experiment import Experiment
from scaling.figures import words
from scaling.results import records, tuned
from scaling.results.tuned import PARAMS
from scaling.store.progress import Progress
from scaling.study import belonging, fork, listed
from scaling.study.asks import BETWEEN, Ask, by_rate, find_asks, find_proposals
from scaling.study.budget import RATE, any_rate, flops_of, grant
from scaling.study.sampling import Sampler
from scaling.sweeps.plan import Plan, Run
from scaling.sweeps.runner import Runner
from scaling.training.counts import counts


class Round(NamedTuple):
    """One round: the plan of what the cells were granted, and the FLOPs of the models in all rounds until its end."""
    asks: list[Ask]
    granted: list[Ask]
    plan: Plan
    spent: float


class Bracketing:
    """The rounds that follow a sweep in the workdir of `runner`.

    share: of the FLOPs of the sweep's models, which is the budget of all rounds together; 0 is none. pack: how many trunks
    train side by side, as for `Runner.plan`. sampler: what bracketed cells ask; None for nothing.
    """

    def __init__(self, runner: Runner, sweep: Plan, metric: str, share: float, pack: int | Callable,
                 sampler: Sampler | None = None):
        self.runner, self.sweep, self.metric, self.share, self.pack = runner, sweep, metric, share, pack
        self.sampler = sampler
        self.runs: dict[str, Experiment] = _by_name(sweep.runs)
        can_ask = any(len(by_rate) > 1 for by_rate in by_rate(self.runs).values())  # else no cell has an edge
        self.budget = share * flops_of(self.runs.values()) if can_ask else 0.0

    def rounds(self) -> Iterator[Round]:
        """Every round in turn. The next one is found from the records of those before, so they must have been trained."""
        runs, spent, sampled = dict(self.runs), 0.0, {}
        while self.budget:
            found = hosts.by_lead(lambda runs=runs: self._find(runs, find_asks))
            asks, granted = self._grant(found, runs, self.budget - spent)
            if not granted and self.sampler is not None and not hosts.by_lead(self._other_version):
                find = partial(find_proposals, sampler=self.sampler, sampled=sampled)
                found = hosts.by_lead(lambda runs=runs, find=find: self._find(runs, find))
                asks, granted = self._grant(found, runs, self.budget - spent)
                for ask in granted:
                    sampled.setdefault(any_rate(asks[ask][0]), []).append(ask.rate)
            if not granted:
                return
            asked = [run for ask in granted for run in asks[ask]]
            spent += flops_of(asked)
            plan = self.runner.plan(asked, self.pack, beside=self.sweep)
            runs |= _by_name(plan.runs)
            yield Round(list(asks), granted, plan, spent)

    @staticmethod
    def _grant(found, runs, left: float) -> tuple[dict[Ask, list[Experiment]], list[Ask]]:
        asks = {(ask := Ask(*one, tuple(names))): [runs[name].replace({RATE: ask.rate}) for name in names]
                for *one, names in found}
        return asks, grant(asks, left)

    def _other_version(self) -> str:
        """The version of optuna that proposed the rates of this study, where it is not the one that is installed."""
        study = belonging.read_study_file(self.runner.records.workdir) or {}
        before, now = (study.get("bracketing") or {}).get("sampler") or {}, self.sampler.about()
        alike = before.get("name") in (None, now["name"]) and before.get("version") in (None, now["version"])
        return "" if alike else f"{before['name']} of optuna {before['version']}"

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
        about = {"budget": self.budget, "spent": found.spent}
        if found.granted[0].edge == BETWEEN:
            about["sampler"] = self.sampler.about()
        belonging.enter_asked(self.runner.records.workdir, runs, about)
        if older is not None:
            fork.copy_shared(older, self.runner, found.plan)

    def describe(self) -> list[str]:
        """What the budget is, what was asked for so far, and what finished runs ask for next. It trains nothing."""
        if not self.budget:
            return [] if self.sampler is None else [
                f"tune_sampler={self.sampler.name}: no cell of the sweep has several learning rates, so none is proposed; "
                "sweep three of them, or leave tune_sampler out"]
        said = [f"tune={self.share:g}: cells whose best learning rate is at the edge of those tried ask for the next one, "
                f"for at most {self.budget:.3g} FLOPs of the models in all, {self.share:.0%} of the sweep's"]
        if self.sampler is not None:
            said.append(self._describe_sampler())
        runs, spent = 0, 0.0
        for found in self.rounds():
            if not self.runner.done(found.plan.runs):
                return [*said, *self._describe_done(runs, spent), f"next, {self.describe_round(found)}"]
            runs, spent = runs + len(found.plan.runs), found.spent
        return [*said, *self._describe_done(runs, spent)]

    def _describe_sampler(self) -> str:
        if other := hosts.by_lead(self._other_version):
            return (f"tune_sampler={self.sampler.name}: the rates of this study were proposed by {other}, so no more are; "
                    "with that version, or in another --workdir, they would be")
        return (f"tune_sampler={self.sampler.name}: cells whose best learning rate is bracketed then ask for up to "
                f"{words.plural(self.sampler.trials, 'rate')} between its neighbours")

    def _describe_done(self, runs: int, spent: float) -> list[str]:
        return [f"{words.plural(runs, 'run')} of asked rates are done, for {spent:.3g} FLOPs"] if runs else []

    def describe_round(self, found: Round) -> str:
        """A sentence about what is asked for in a round, and what is left of the budget after it."""
        rates = sorted({ask.rate for ask in found.granted})
        shown = f"{rates[0]:.3g}" if len(rates) == 1 else f"{rates[0]:.3g} to {rates[-1]:.3g}"
        refused = len(found.asks) - len(found.granted)
        sampled = found.granted[0].edge == BETWEEN
        return (f"{words.plural(len(found.asks), 'cell')} with the best learning rate "
                f"{'between two others' if sampled else 'at the edge'}: {len(found.granted)} "
                f"{'gets' if len(found.granted) == 1 else 'get'} {'a proposed' if sampled else 'the next'} rate ({shown}; "
                f"{words.plural(len(found.plan.runs), 'run')}){f', {refused} would cost too much' if refused else ''}; "
                f"{max(0.0, 1 - found.spent / self.budget):.0%} of the budget is left")

    def _find(self, runs: Mapping[str, Experiment], find: Callable) -> list[Ask]:
        """`find_asks` or `find_proposals` of the records that there are."""
        workdir = self.runner.records.workdir
        if not workdir.is_dir():
            return []
        frame = records.load_records(workdir)
        frame = frame[frame["fingerprint"].isin(runs)]
        if frame.empty:
            return []
        table = tuned.clean(frame.assign(role="sweep"), self.metric)  # also a run that another study had as its target
        return find(table, self.metric, runs, waiting=self._waiting(table, runs))

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
