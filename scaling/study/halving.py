"""Successive halving of learning rates (Jamieson & Talwalkar 1502.07943): one rung for each amount of data.

On the first rung all rates of a size are trained on the least data. On each further rung go on the better part of those
that were trained on the one before, and the neighbours of the best. Then the best rate of this rung gets its own
neighbours, until it has both. So where the loss on each amount of data has one minimum along the rates, the best rate is
found on every amount, also where learning curves cross and the best rate moves. A rate that is poor on little data and best
on much, with poor ones between it and the best, is lost.

Trunks go on from where the rung before has kept them, so no step is trained twice. What is trained is a function of the
sweep and of the records of the rungs before, as the rounds of `scaling.study.bracketing` are, and so the same after a kill.
Runs that are not trained get records without results, as those of `scaling.sweeps.stopping` do, which no fit takes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from scaling import fields
from scaling.devices import hosts
from scaling.experiment import Experiment
from scaling.fields import ConfigError
from scaling.figures import words
from scaling.results import metrics
from scaling.store.progress import Progress
from scaling.study.budget import any_rate, flops_of
from scaling.sweeps import stopping
from scaling.sweeps.plan import Plan, Run
from scaling.sweeps.runner import Runner, TrainingOptions

Rung = dict[float, list[Run]]  # {learning rate: its runs on one amount of data, one for each seed}


def survivors(found: dict[float, float], rates, part: int) -> set[float]:
    """Which of `rates` go on to the next amount of data, from {rate: loss} on the last one.

    They are the better 1/`part` of the rates with a loss, rounded up, and the neighbours of the best among `rates`. All go
    on where there is no loss to compare.
    """
    order = sorted(found, key=lambda rate: (found[rate], rate))
    if not order:
        return set(rates)
    return {rate for rate in order[:math.ceil(len(order) / part)] if rate in rates} | neighbours(order[0], rates)


def neighbours(best: float, rates) -> set[float]:
    """The rates next below and above `best`, and `best` itself where it is one of `rates`."""
    near = [max((r for r in rates if r < best), default=best), best, min((r for r in rates if r > best), default=best)]
    return {rate for rate in near if rate in rates}


def options_of(rule: str, metric: str, options: TrainingOptions) -> TrainingOptions:
    """The options of training under a rule of `stopping`. Halving keeps all trunks, since its rungs go on from them."""
    name, _ = stopping.parse_rule(rule) or ("", 0)
    kept = "all" if name == stopping.HALVING else options.keep_trunks
    return dataclasses.replace(options, stop_early=stopping.StopRule(name, metric), keep_trunks=kept)


def check_whole(rule: str) -> None:
    """Raises a ConfigError for a part of a sweep, whose rates halving cannot compare."""
    if rule.startswith(stopping.HALVING):
        raise ConfigError(f"stop_early={rule!r} compares all rates of a size, and a shard trains some of them; leave out "
                          "--shard (processes on one workdir share its runs), or write stop_early=median")


def saved(runner: Runner, sweep: Plan, before: Mapping = MappingProxyType({})) -> dict[str, dict | None]:
    """What study.json, whose content was `before`, says of runs of the sweep that were stopped early; {} where none was.

    runs: their number. saved: the FLOPs of the models that they would have taken beyond those of the others. of: the FLOPs
    of the whole sweep.
    """
    stopped = {record["fingerprint"] for record in runner.records.stopped()}
    left = [run.experiment for run in sweep.runs if run.fingerprint not in stopped]
    if len(left) == len(sweep.runs):
        return {"stopping": None} if before.get("stopping") else {}
    whole = flops_of(run.experiment for run in sweep.runs)
    return {"stopping": {"runs": len(sweep.runs) - len(left), "saved": whole - flops_of(left), "of": whole}}


def train_sweep(rule: str, runner: Runner, sweep: Plan, metric: str, pack, progress, then: Plan | None = None) -> None:
    """Trains a sweep, at once or, where `rule` asks for it, by halving. `then` is the plan that is trained next."""
    name, part = stopping.parse_rule(rule) or ("", 0)
    if name == stopping.HALVING:
        Halving(runner, sweep, metric, part, pack).train(progress, then)
    else:
        runner.run(sweep, progress, then=then)


class Halving:
    """The rungs of a sweep in the workdir of `runner`.

    part: one over what is kept of the rates of a rung. pack: how many trunks train side by side, as for `Runner.plan`.
    """

    def __init__(self, runner: Runner, sweep: Plan, metric: str, part: int, pack: int | Callable):
        self.runner, self.sweep, self.part, self.pack, self.metric = runner, sweep, part, pack, metric
        self.sign = -1 if metrics.find_metric(metric).rises else 1
        sizes: dict[Experiment, dict[int, Rung]] = {}
        for run in sweep.runs:
            e = run.experiment
            alike = fields.replace(any_rate(e), {e.data.length_knob: 1})
            sizes.setdefault(alike, {}).setdefault(e.steps, {}).setdefault(e.optim.learning_rate, []).append(run)
        # For each size, from the least data on.
        self.ladders: list[list[Rung]] = [[rungs[steps] for steps in sorted(rungs)] for rungs in sizes.values()]

    def rungs(self) -> Iterator[list[Run]]:
        """What is trained together, in turn. Each list is found from the records of those before, so they must be trained.

        When a rung is done, those of its runs that were not asked for are recorded as stopped.
        """
        asked: set[str] = set()
        for rung in range(max(map(len, self.ladders))):
            while new := hosts.by_lead(lambda asked=asked, rung=rung: sorted(self._wanted(rung, asked) - asked)):
                asked |= set(new)
                yield [run for run in self.sweep.runs if run.fingerprint in new]
            hosts.by_lead(lambda asked=asked, rung=rung: self._stop(rung, asked))

    def train(self, progress: Progress, then: Plan | None = None) -> None:
        """Trains the sweep rung by rung. `then` is the plan that is trained next."""
        trained, left = 0.0, self.runner.work(self.sweep)
        for runs in self.rungs():
            hosts.by_lead(lambda runs=runs: self._go_on(runs))
            plan = self.runner.plan([run.experiment for run in runs], self.pack, beside=self.sweep)
            trained += self.runner.work(plan)
            if not self.runner.done(plan.runs):
                progress.print(f"halving: {words.plural(len(runs), 'run')} go on, of {len(self.sweep.runs)}")
                self.runner.run(plan, progress, then=then)
        progress.update(max(0.0, left - trained))  # of what was stopped

    def _go_on(self, runs: list[Run]) -> None:
        """Takes back that runs were stopped, as by a command whose sweep had fewer rates."""
        for run in runs:
            if not self.runner.records.finished(run.fingerprint):
                self.runner.records.go_on(run.fingerprint)

    def _wanted(self, rung: int, asked: set[str]) -> set[str]:
        """The runs of a rung that its rung before, and what was trained of it, ask for."""
        wanted: set[str] = set()
        for ladder in self.ladders:
            if rung >= len(ladder):
                continue
            rates = ladder[rung]
            if rung == 0:
                kept = set(rates)
            else:
                last = ladder[rung - 1]
                kept = survivors(self._losses(last, asked), rates, self.part) | (rates.keys() - last.keys())
                if here := self._losses(rates, asked):
                    kept |= neighbours(min(here, key=lambda rate: (here[rate], rate)), rates)
            wanted |= {run.fingerprint for rate in kept for run in rates[rate]}
        return wanted

    def _losses(self, rung: Rung, asked: set[str]) -> dict[float, float]:
        """{rate: its mean loss over seeds} of the rates of a rung that were trained; infinite where a seed diverged."""
        found = {}
        for rate, runs in rung.items():
            if not all(run.fingerprint in asked and self.runner.records.finished(run.fingerprint) for run in runs):
                continue
            made = [self.runner.records.read(run.fingerprint) for run in runs]
            losses = [math.inf if one["diverged"] else one.get(self.metric) for one in made]
            if None not in losses:
                found[rate] = sum(loss if loss == math.inf else self.sign * loss for loss in losses) / len(losses)
        return found

    def _stop(self, rung: int, asked: set[str]) -> None:
        """Records the runs of a rung that were not asked for, with the reason."""
        for ladder in self.ladders:
            for rate, runs in (ladder[rung] if rung < len(ladder) else {}).items():
                if any(run.fingerprint in asked for run in runs):
                    continue
                tried = [each for each in ladder[:rung] if rate in each and any(r.fingerprint in asked for r in each[rate])]
                losses = self._losses(tried[-1], asked)
                place = 1 + sum(loss < losses.get(rate, math.inf) for loss in losses.values())
                step = tried[-1][rate][0].experiment.steps
                because = f"its {self.metric} after {step} steps was number {place} of {len(losses)} learning rates"
                for run in runs:
                    stopping.record(self.runner, run, step, because, stopping.HALVING)
