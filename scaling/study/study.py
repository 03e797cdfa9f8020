"""A study from plan to report: sweep, fit, forecast, target, check, report.

Every stage reads and writes files in the workdir, so a study can be interrupted anywhere and run again.
"""

import dataclasses
import os
import time
from collections.abc import Callable

import jax
import numpy as np

from scaling import experiment as experiments
from scaling import families, laws, report
from scaling.devices import hosts
from scaling.devices.layouts import runs_at_once
from scaling.devices.speed import matmul_rate
from scaling.results import records, tuned
from scaling.store import files
from scaling.store.progress import Progress
from scaling.study import overview, recipe, showcase
from scaling.study.forecasting import Forecasting
from scaling.sweeps import runner
from scaling.sweeps.plan import Plan


@dataclasses.dataclass(frozen=True)
class Definition:
    """A study as a config file defines it: the config, `sweep(config)` and `target(config, learning_rate)`."""

    title: str
    metric: str  # the metric of the records that is fitted and forecast
    sweep: list[experiments.Experiment]
    target: Callable[[float], experiments.Experiment] | None  # from a learning rate, or None for no forecast
    prompts: tuple[str, ...] = ()
    law: str = "chinchilla"  # a form of scaling.laws in N and D
    beside: tuple[str, ...] = ()  # other metrics that the law is fitted to
    config: dict = dataclasses.field(default_factory=dict)


class Study:
    """One study in one workdir.

    `pack` is the number of runs that share a program; 0 lets the devices, mesh and layout decide. `command` is recorded in
    study.json.
    """

    def __init__(self, definition: Definition, workdir, options: runner.TrainingOptions, pack: int, command: str):
        self.definition, self.command = definition, command
        self.workdir = files.open_workdir(workdir)
        self.started = time.monotonic()
        self.rate = hosts.agree(matmul_rate())
        self.runner = runner.Runner(self.workdir, options)
        self.forecasting = Forecasting(self.workdir, self.runner)
        pack = pack or runs_at_once(jax.device_count(), options.mesh, definition.sweep[0].layout)
        self.plan = self.runner.plan(definition.sweep, pack)
        self.unit = definition.sweep[0].data.unit
        self.data_column = f"{self.unit}_seen"  # D in the records
        # The target's learning rate is not known yet, but any rate has the same cost.
        self.goal = None if definition.target is None else self.runner.plan([definition.target(1e-3)], 1, "target")
        self.plans = [self.plan] if self.goal is None else [self.plan, self.goal]

    def describe(self) -> str:
        """The plan as text: what will be trained, in how many programs, at what cost."""
        return overview.describe(self.definition.title, self.plan, self.goal, self.rate)

    def train_shard(self, index: int, count: int):
        """Trains every count-th pack of the sweep, from number `index` on. It does not fit, forecast or report."""
        plan = Plan(self.plan.packs[index::count])
        with self._progress([plan]) as progress:
            self.runner.run(plan, progress)
        hosts.barrier("end")  # no process may leave while others still need it
        print(f"shard {index}/{count} is done; when all are, the same command without --shard fits, forecasts and reports")

    def go(self):
        """Runs all stages that are not done, and returns the report's path.

        All processes of a job train. Process 0 alone fits, forecasts and reports.
        """
        with self._progress(self.plans) as progress:
            self.runner.run(self.plan, progress)
            target = hosts.by_lead(lambda: self.fit_and_forecast(progress.print))
            if target is not None:
                self.runner.run(self.forecasting.plan(target), progress)
                hosts.by_lead(lambda: self.forecasting.check(progress.print))
        path = hosts.by_lead(self.conclude)
        hosts.barrier("end")
        print(f"report: {path}", flush=True)
        return path

    def fit_and_forecast(self, say) -> dict | None:
        """Fits the law and, if there is a target, forecasts it. Returns what `Forecasting.plan` takes, or None."""
        fit, boot = self.fit(say)
        if self.definition.target is None or fit is None:
            return None
        _, cells = self.cells()
        return self.forecasting.write(self.definition.target, fit, boot, cells, self.data_column, say)

    def conclude(self) -> str:
        """Writes study.json, the samples and the report, and returns the report's path."""
        self.write_study()
        self.show()
        return os.fspath(report.write(self.workdir))

    # ---------------------------------------------------------------------------------------- stages

    def cells(self):
        """(all runs of this plan, the tuned run of each N and D). Only runs with the most unique data are tuned runs."""
        metric = self.definition.metric
        frame = tuned.clean(records.load_records(self.workdir), metric)
        runs = frame[frame["fingerprint"].isin([run.fingerprint for run in self.plan.runs])]
        return runs, tuned.tuned_cells(runs, metric)

    def points(self, cells, metric) -> laws.Runs:
        """The cells as runs for a fit, with the names of N, D, C and the metric in the records."""
        source = {"kind": "workdir", "runs": len(cells)}
        return laws.Runs.from_dataframe(
            cells, metric, params="params_non_embedding", data=self.data_column, compute="flops",
            unique=f"{self.unit}_unique", source=source)

    def fit(self, say):
        """(fit of the law to the tuned runs, its bootstrap), also written to fit.json; (None, None) for too few runs."""
        runs, cells = self.cells()
        for sentence in recipe.edges(runs, cells):
            say(f"note: {sentence}")
        try:
            # Runs of a few minutes miss the law by more than Huber's usual delta. A delta of the size of the noise weighs
            # them as a normal error would, and still discounts outliers.
            fit = laws.fit(self.points(cells, self.definition.metric), self.definition.law, delta="noise", weights="seeds")
        except laws.LawError as error:
            say(f"no fit: {error}")
            return None, None
        boot = laws.bootstrap(fit)
        flops = cells["flops"]
        budgets = np.geomspace(flops.min(), max(self.goal.flops() if self.goal is not None else 0, flops.max()) * 2, 25)
        frontier = None
        try:
            frontier = laws.frontier(fit, budgets, laws.counted(fit.runs), boot)
        except laws.LawError as error:
            say(f"no frontier: {error}")
        laws.save_fit(self.workdir / "fit.json", fit, boot, frontier)
        say(laws.table(fit, boot))
        self.fit_beside(cells, say)
        return fit, boot

    def fit_beside(self, cells, say):
        """Fits the same law to other metrics of the same runs, and writes fits/<metric>.json."""
        for metric in self.definition.beside:
            try:
                fit = laws.fit(self.points(cells, metric), self.definition.law, delta="noise", weights="seeds")
                laws.save_fit(self.workdir / "fits" / f"{metric}.json", fit, laws.bootstrap(fit))
            except laws.LawError as error:
                say(f"no fit of {metric}: {error}")

    def show(self):
        """Writes samples of the best model of each size, and the scores of real images as baselines."""
        frame = tuned.clean(records.load_records(self.workdir), self.definition.metric)
        showcase.write_samples(self.workdir, self.runner, frame, self.definition.metric, self.definition.prompts)
        most = max(self.plan.runs, key=lambda run: run.experiment.data.unique or float("inf")).experiment
        judge = self.runner.judge(most)
        if judge is not None:  # the scores that the data's own images would get as samples
            sizes = sorted({run.experiment.data.unique or run.experiment.data.seen for run in self.plan.runs})
            files.write_json(self.workdir / "baselines.json", {"floor": judge.floor(), "memoriser": [
                {"examples_unique": size, **judge.memoriser(size)} for size in sizes]})

    def write_study(self):
        """Writes study.json: the definition, the command, the versions, and the cost."""
        path = self.workdir / "study.json"
        before = files.read_json(path) if path.exists() else {}
        flops, seconds = self.runner.trained_flops, self.runner.trained_seconds
        executed = self.runner.trained_flops_executed
        took = {"seconds": time.monotonic() - self.started, "matmul_flops_per_second": self.rate,
                "mfu": flops / seconds / self.rate if seconds else None,  # of the models' FLOPs (Chowdhery et al. 2022)
                "hardware_utilisation": executed / seconds / self.rate if seconds else None}  # of the executed FLOPs
        if not flops:  # nothing was left to train, so the measurements of an earlier command stay
            took = {k: before.get(k, v) for k, v in took.items()}
        files.write_json(path, {
            "title": self.definition.title, "command": self.command, "config": self.definition.config,
            "metric": self.definition.metric, "unit": self.unit, "law": self.definition.law,
            "beside": self.definition.beside,
            "family": families.name(self.definition.sweep[0].family), "plan": overview.estimate(self.plans, self.rate),
            "versions": records.versions(), "git_commit": records.git_commit(), **took})

    # --------------------------------------------------------------------------------------- helpers

    def _progress(self, plans):
        """A progress bar over the work of some plans, starting at the finished packs; process 0 alone shows it."""
        recorded = self.runner.records.done
        done = [pack for plan in plans for pack in plan.packs if all(recorded(run.fingerprint) for run in pack.runs)]
        total, finished = sum(map(self.runner.work, plans)), self.runner.work(Plan(tuple(done)))
        return Progress(total, initial=finished, silent=not hosts.is_lead())
