"""A study from plan to report: sweep, fit, forecast, target, check, report.

Every stage reads and writes files in the workdir, so a study can be interrupted anywhere and run again.
"""

from __future__ import annotations

import os
import sys
import time

import jax
import numpy as np
from etils import epath

from scaling import laws, report
from scaling.devices import hosts
from scaling.devices.layouts import runs_at_once
from scaling.devices.speed import known_matmul_rate, matmul_rate
from scaling.results import planned, records, tuned
from scaling.store import files
from scaling.store.progress import Progress
from scaling.study import belonging, halving, judging, listed, overview, preflight, recipe, sampling, showcase
from scaling.study import fork as forks
from scaling.study.bracketing import Bracketing
from scaling.study.definition import Definition
from scaling.study.forecasting import Forecasting
from scaling.sweeps import measuring, runner, stopping, trunks
from scaling.sweeps.plan import Plan


class Study:
    """One study in one workdir.

    `pack` is the number of runs that share a program; 0 lets the devices, mesh and layout decide. `command` is recorded in
    study.json. `fork` is the workdir of an earlier study whose runs are kept where both plan them. With `alike`, nothing
    that this machine has measured enters the plan, so that other machines make the same one.

    Everything that can be refused is refused here, and nothing is created: the workdir begins with `go` or `train_shard`.
    """

    def __init__(self, definition: Definition, workdir, options: runner.TrainingOptions, pack: int, command: str,
                 fork=None, alike: bool = False):
        self.definition, self.command = definition, command
        self.workdir = epath.Path(workdir).expanduser()
        self.started = time.monotonic()
        # The target's learning rate is not known yet, but any rate has the same cost.
        targets = definition.targets(belonging.NOMINAL_RATE)
        self.notes = preflight.check_settings(definition, options)
        if definition.stop_early:
            rule = definition.stop_early
            self.notes = [*self.notes, f"stop_early={rule}: {stopping.describe_rule(rule)}"]
            options = halving.options_of(rule, definition.metric, options)
        belonging.check_usable(self.workdir)
        preflight.check_profile(options, self.workdir)
        self.runner = runner.Runner(self.workdir, options)
        self.forecasting = Forecasting(self.workdir, self.runner)
        self.older = None if not fork else runner.Runner(epath.Path(fork).expanduser(), options)
        if self.older is not None:
            hosts.by_lead(lambda: forks.check_fork(self.older.workdir, self.workdir))
        self.pack, self.alike = pack, alike
        self.plan = self._plan_sweep()
        self.unit = definition.sweep[0].data.unit
        self.data_column = f"{self.unit}_seen"  # D in the records
        self.goal = self.forecasting.plan_targets(targets) if targets else None
        self.plans = [self.plan] if self.goal is None else [self.plan, self.goal]
        self.about = belonging.define(definition, self.plan, self.goal, self.runner)
        hosts.by_lead(lambda: belonging.admit(self.workdir, self.about))
        hosts.by_lead(lambda: belonging.check_older(self.plan, self.runner))
        preflight.check_plans(definition, self.plans, self.runner)
        self.rate = hosts.agree(known_matmul_rate())

    def _plan_sweep(self) -> Plan:
        return self.runner.plan(self.definition.sweep, self.pack or self._width, copied_from=self.older)

    def _width(self, experiment) -> int:
        """How many runs of a shape train side by side where no `pack` says it."""
        mesh = self.runner.options.mesh
        known = 0 if self.alike else measuring.known_width(experiment, mesh)
        return known or runs_at_once(jax.device_count(), mesh, experiment.layout)

    def _bracketing(self) -> Bracketing:
        sampler = sampling.sampler(self.definition.tune_sampler, self.definition.tune_trials)
        return Bracketing(self.runner, self.plan, self.definition.metric, self.definition.tune, self.pack or self._width,
                          sampler)

    def prepare(self, measure: str = "auto") -> None:
        """Begins to compile the first program, and measures what runs fastest here (see `scaling.sweeps.measuring`).

        `measure` is auto (of programs that train for long), always or never. What was measured enters the plan. Jobs of
        several processes measure nothing, since all of them must compile the same programs.
        """
        if measure != "always":
            self.runner.prepare(self.plan)  # it compiles beside the counting of FLOPs, which the plan needs
        if measure != "never" and hosts.process_count() == 1 and self._measure(measure == "always"):
            self.runner.programs.stop()  # the first program may be another one now
            self.plan = self._plan_sweep()
            self.plans = [self.plan, *self.plans[1:]]
            self.runner.prepare(self.plan)

    def _measure(self, always: bool) -> bool:
        measure = measuring.Measuring(self.runner).measure
        asked = measure(list(self.plan.packs), self.rate, always, widths=not self.pack)
        return (self.goal is not None and measure(list(self.goal.packs), self.rate, always, widths=False)) or asked

    def describe(self) -> str:
        """The plan as text: what was found, what will be trained, in how many programs, at what cost, what is done."""
        return "\n".join([overview.describe(self.definition.title, self.plan, self.goal, self.rate, self.runner),
                          *trunks.describe_trunks(self.plan, self.runner),
                          *[f"note: {sentence}" for sentence in self.notes],
                          *hosts.by_lead(lambda: overview.describe_done(self.plan, self.runner, self.older)),
                          *self._bracketing().describe()])

    def values(self) -> dict:
        """The plan as values, as study.json has it."""
        return {"plan": overview.estimate(self.plans, self.rate), "notes": self.notes,
                "planned": listed.list_runs(self.plans)}

    def train_shard(self, index: int, count: int):
        """Trains every count-th pack of the sweep, from number `index` on. It does not fit, forecast or report."""
        halving.check_whole(self.definition.stop_early)
        plan = self.plan.with_bases(self.plan.packs[index::count])
        if not plan.packs:  # as in an array of more jobs than there are packs
            packs = len(self.plan.packs)
            print(f"shard {index}/{count} is empty, since the sweep has {packs} packs: nothing is trained or created here; "
                  f"--shard=i/{packs} gives every job a part")
            return
        self.train(plan)
        print(f"shard {index}/{count} is done; when all are, the same command without --shard fits, forecasts and reports")

    def train(self, plan: Plan | None = None) -> None:
        """Trains the runs of the sweep, or those of a part of its plan, that are not finished, and does nothing else."""
        self.begin()
        with self._progress([plan or self.plan]) as progress:
            if plan is None:
                self._train_sweep(progress)
            else:
                self.runner.run(plan, progress)
        hosts.barrier("end")  # no process may leave while others still need it

    def _train_sweep(self, progress, then: Plan | None = None) -> None:
        rule, metric = self.definition.stop_early, self.definition.metric
        halving.train_sweep(rule, self.runner, self.plan, metric, self.pack or self._width, progress, then)

    def begin(self):
        """Creates the workdir, and writes into study.json which study it belongs to. Copies runs of an earlier study."""
        hosts.by_lead(lambda: self._begin())

    def _begin(self):
        files.open_workdir(self.workdir)
        about = {"command": self.command, "plan": overview.estimate(self.plans, self.rate),
                 "versions": records.built_with(), "git_commit": records.git_commit(),
                 "planned": files.loads(files.dumps(listed.list_runs(self.plans)))}
        if self.definition.stop_early:
            about["stop_early"] = stopping.describe_rule(self.definition.stop_early)
        if self.older is not None:
            about["forked_from"] = forks.full_path(self.older.workdir)
        belonging.enter(self.workdir, self.about, about)
        if self.older is not None:
            copied = forks.copy_shared(self.older, self.runner, self.plan)
            print(f"copied {copied} finished runs from {os.fspath(self.older.workdir)}", flush=True)

    def go(self):
        """Runs all stages that are not done, and returns the report's path.

        All processes of a job train. Process 0 alone fits, forecasts and reports.
        """
        self.begin()
        with self._progress(self.plans) as progress:
            self._train_sweep(progress, then=self.goal)
            self._bracketing().train(progress, self.goal, self.older)
            target = hosts.by_lead(lambda: self.fit_and_forecast(progress.print))
            if target is not None:
                self.runner.run(self.forecasting.plan(target), progress)
                hosts.by_lead(lambda: self.forecasting.check(progress.print))
        path = hosts.by_lead(self.conclude)
        hosts.barrier("end")
        if said := overview.describe_time(self.runner.clock.shares()):
            print(said, flush=True)
        print(f"report: {path}", flush=True)
        return path

    def fit_and_forecast(self, say) -> dict | None:
        """Fits the law and, if there is a target, forecasts it. Returns what `Forecasting.plan` takes, or None."""
        judged = self.fit(say)
        if self.definition.target is None or judged is None:
            return None
        _, cells = self.cells()
        fitted = cells[cells["left_out"] == ""]
        return self.forecasting.write(self.definition, judged.fit, judged, fitted, self.data_column, say)

    def conclude(self) -> str:
        """Writes study.json, the samples and the report, and returns the report's path.

        What cannot be shown is said on standard error, in study.json and in the report, which is written all the same.
        """
        failed = self.show()
        for sentence in failed:
            print(f"warning: {sentence}", file=sys.stderr, flush=True)
        self.write_study(failed)
        return os.fspath(report.write(self.workdir))

    # ---------------------------------------------------------------------------------------- stages

    def cells(self):
        """(all runs of this plan and those that its cells asked for, the tuned run of each N and D). Only runs with the
        most unique data are tuned runs. Their column `left_out` says which the fit leaves out; see `edges.left_out`."""
        metric = self.definition.metric
        frame = tuned.clean(records.load_records(self.workdir), metric)
        asked = belonging.asked_runs(belonging.read_study_file(self.workdir) or {})
        asked |= {run.fingerprint for run in self.plan.runs}
        runs = planned.with_asked_roles(frame[frame["fingerprint"].isin(asked)], asked)
        cells = tuned.tuned_cells(runs, metric)
        return runs, judging.with_edges(runs, cells, self.definition.law, self.definition.fit_edges)

    def fit(self, say):
        """The law of the tuned runs with the error of its forecasts, also written to fit.json; None for too few runs."""
        runs, cells = self.cells()
        for sentence in recipe.edges(runs, cells, self.definition.fit_edges):
            say(f"note: {sentence}")
        goal = None if self.goal is None else self.goal.runs[0].experiment
        defined = self.definition
        try:
            law = judging.law_of(defined.law, self.forecasting.path)
            points = judging.points_of(cells, defined.metric, self.unit)
            judged = judging.judge(points, law, runs, cells, goal, defined.target_seeds, defined.fix)
        except laws.LawError as error:
            say(f"no fit: {error}")
            (self.workdir / "fit.json").unlink(missing_ok=True)  # of fewer or other runs
            return None
        fit, boot = judged.selection.fit, judged.leading
        flops = cells["flops"]
        budgets = np.geomspace(flops.min(), max(self.goal.flops() if self.goal is not None else 0, flops.max()) * 2, 25)
        frontier = None
        try:
            frontier = laws.frontier(fit, budgets, laws.counted(fit.runs), boot)
        except laws.LawError as error:
            say(f"no frontier: {error}")
        ways = laws.size_exponents(fit, boot) if {"N", "D"} <= set(fit.form.inputs) else None
        laws.save_fit(self.workdir / "fit.json", fit, boot, frontier, selection=judged.selection, exponents=ways)
        say("\n".join(map(str, filter(None, (judged.selection, laws.table(fit, boot), ways)))))
        self.fit_beside(cells, fit.form.name, say)
        return judged

    def fit_beside(self, cells, law: str, say):
        """Fits the same law to other metrics of the same runs, and writes fits/<metric>.json."""
        for metric in self.definition.beside:
            try:
                fit = laws.fit(judging.points_of(cells, metric, self.unit), law, **judging.HOW)
                laws.save_fit(self.workdir / "fits" / f"{metric}.json", fit, laws.bootstrap(fit))
            except laws.LawError as error:
                say(f"no fit of {metric}: {error}")

    def show(self) -> list[str]:
        """Writes samples of the best model of each size, and the scores of real images as baselines.

        Returns a sentence for each part that could not be made.
        """
        frame = tuned.clean(planned.load_planned(self.workdir)[0], self.definition.metric)
        shown = showcase.Showcase(self.workdir, self.runner)
        shown.write_samples(frame, self.definition.metric, self.definition.prompts)
        experiments_ = [run.experiment for run in self.plan.runs]
        shown.write_baselines(max(experiments_, key=lambda e: e.data.unique or float("inf")),
                              [e.data.unique or e.data.seen for e in experiments_])
        return shown.failed

    def write_study(self, failed: list[str]):
        """Adds to study.json the command, the versions, the cost, and what could not be shown."""
        before = belonging.read_study_file(self.workdir) or {}
        flops, seconds = self.runner.trained_flops, self.runner.trained_seconds
        executed = self.runner.trained_flops_executed
        rate = matmul_rate() if flops else self.rate  # that of the plan may be an hour old
        took = {"seconds": time.monotonic() - self.started, "matmul_flops_per_second": rate,
                "mfu": flops / seconds / rate if seconds else None,  # of the models' FLOPs (Chowdhery et al. 2022)
                "hardware_utilisation": executed / seconds / rate if seconds else None,  # of the executed FLOPs
                **self.runner.clock.shares()}
        if not flops:  # nothing was left to train, so the measurements of an earlier command stay
            took = {k: before.get(k, v) for k, v in took.items()}
        took |= halving.saved(self.runner, self.plan, before)
        belonging.add_measured(self.workdir, self.about, {
            "command": self.command, "plan": overview.estimate(self.plans, self.rate), "versions": records.built_with(),
            "git_commit": records.git_commit(), "failed": failed, **took})

    # --------------------------------------------------------------------------------------- helpers

    def _progress(self, plans):
        """A progress bar over the work of some plans, starting at the finished packs; process 0 alone shows it."""
        recorded = self.runner.records.done
        done = [pack for plan in plans for pack in plan.packs if all(recorded(run.fingerprint) for run in pack.runs)]
        total, finished = sum(map(self.runner.work, plans)), self.runner.work(Plan(tuple(done)))
        return Progress(total, initial=finished, silent=not hosts.is_lead())
