"""A study from plan to report: sweep, fit, forecast, target, check, report. Each stage stands on files in the workdir,
so it can be interrupted anywhere and run again."""

import dataclasses
import os
import time

import jax
import numpy as np

from scaling import experiment as experiments
from scaling import families, laws, report
from scaling.devices import hosts
from scaling.devices.layouts import runs_at_once
from scaling.devices.speed import matmul_rate
from scaling.figures import words
from scaling.results import records, tuned
from scaling.store import files
from scaling.store.progress import Progress
from scaling.study import recipe, showcase
from scaling.sweeps import runner
from scaling.sweeps.plan import Plan
from scaling.training.counts import counts

EXPECTED_UTILISATION = 0.22  # share of the peak that training executes, for the estimate before anything has run


@dataclasses.dataclass(frozen=True)
class Definition:
    """What a config file says: its config, `sweep(config)` and `target(config, learning_rate)`."""

    title: str
    metric: str  # of the records, smaller is better
    sweep: list
    target: object  # learning rate -> Experiment, or None
    prompts: tuple[str, ...] = ()
    law: str = "chinchilla"  # a form of scaling.laws in N and D
    beside: tuple[str, ...] = ()  # other metrics that the law is fitted to
    config: dict = dataclasses.field(default_factory=dict)


class Study:
    """One study in one workdir. `pack` is how many runs share a program; 0 is what the devices, mesh and layout suggest."""

    def __init__(self, definition: Definition, workdir, options: runner.TrainingOptions, pack: int, command: str):
        self.definition, self.command = definition, command
        self.workdir = files.open_workdir(workdir)
        self.started = time.monotonic()
        self.rate = hosts.agree(matmul_rate())
        self.runner = runner.Runner(self.workdir, options, None)
        pack = pack or runs_at_once(jax.device_count(), options.mesh, definition.sweep[0].layout)
        self.plan = self.runner.plan(definition.sweep, pack)
        self.unit = definition.sweep[0].data.unit
        self.data = f"{self.unit}_seen"  # D as the records call it
        self.goal = None
        if definition.target is not None:  # its learning rate is not known yet, its cost is
            self.goal = self.runner.plan([definition.target(1e-3)], 1, "target")

    def describe(self) -> str:
        """The plan as text: what will be trained, in how many programs, at what cost."""
        lines = [self.definition.title, ""]
        head = ("size", "N", self.unit, "rates", "runs", "FLOPs")
        lines.append("{:>18} {:>8} {:>14} {:>6} {:>5} {:>10}".format(*head))
        groups: dict = {}
        for pack in self.plan.packs:
            groups.setdefault(pack.experiment.family, []).append(pack)
        for family, packs in groups.items():
            runs = [run for pack in packs for trunk in pack.trunks for run in trunk.runs]
            n = counts(packs[0].experiment, 0)["params_non_embedding"]
            seen = sorted({run.experiment.data.seen for run in runs})
            rates = {run.experiment.optim.learning_rate for run in runs}
            lines.append(f"{_shape(family):>18} {words.count(n):>8} "
                         f"{words.count(seen[0]) + ' - ' + words.count(seen[-1]):>14} {len(rates):>6} {len(runs):>5} "
                         f"{sum(pack.flops() for pack in packs):>10.2e}")
        if self.goal:
            e = self.goal.packs[0].experiment
            n = counts(e, 0)["params_non_embedding"]
            largest = max(counts(run.experiment, 0)["flops"] for run in self.plan.runs)
            flops = self.goal.flops()
            lines.append(f"{_shape(e.family):>18} {words.count(n):>8} {words.count(e.data.seen):>14} {1:>6} {1:>5} "
                         f"{flops:>10.2e}  target, {flops / largest:.1f} times the largest run's")
        p = self._plan()
        lines += ["", f"{p['runs']} runs in {p['programs']} compiled programs, {p['flops']:.3g} FLOPs of the models "
                  f"({p['flops_executed']:.3g} executed), about "
                  f"{p['seconds'] / 60:.1f} minutes at {EXPECTED_UTILISATION:.0%} of the {self.rate / 1e9:.0f} GFLOP/s that matrix "
                  f"products reach here on {jax.device_count()} {jax.devices()[0].platform} device(s)"]
        return "\n".join(lines)

    def train_shard(self, index: int, count: int):
        """Trains every count-th pack of the sweep, from number `index` on; the rest is for who has them all."""
        plan = Plan(self.plan.packs[index::count])
        with self._progress([plan]) as progress:
            self.runner.progress = progress
            self.runner.run(plan)
        hosts.barrier("end")  # so that none leaves while others still need it
        print(f"shard {index}/{count} is done; when all are, the same command without --shard fits, forecasts and reports")

    def go(self):
        """Everything, from what is there already to the report. Returns the report's path. All processes of a job
        train; the first one does the rest, while the others wait."""
        with self._progress([self.plan] + ([self.goal] if self.goal else [])) as progress:
            self.runner.progress = progress
            self.runner.run(self.plan)
            target = hosts.by_lead(lambda: self.fit_and_forecast(progress.print))
            if target is not None:
                self.runner.run(self.runner.plan([experiments.from_dict(target)], 1, "target"))
                hosts.by_lead(lambda: self.check(progress.print))
        path = hosts.by_lead(self.conclude)
        hosts.barrier("end")
        print(f"report: {path}", flush=True)
        return path

    def fit_and_forecast(self, say) -> dict | None:
        """The fit and, if there is a target, its forecast; the target's experiment."""
        fit, boot = self.fit(say)
        if self.goal is None or fit is None:
            return None
        return self.forecast(fit, boot, say)

    def conclude(self) -> str:
        self.write_study()
        self.show()
        return os.fspath(report.write(self.workdir))

    # ---------------------------------------------------------------------------------------- stages

    def cells(self):
        """(all runs of this plan, the tuned ones of each N and D that saw the most unique data)."""
        metric = self.definition.metric
        frame = tuned.clean(records.load_records(self.workdir), metric)
        runs = frame[frame["fingerprint"].isin([run.fingerprint for run in self.plan.runs])]
        return runs, tuned.tuned_cells(runs, metric)

    def points(self, cells, metric) -> laws.Runs:
        """The cells as runs to fit, with the names that the records give to N, D, C and the metric."""
        source = {"kind": "workdir", "runs": len(cells)}
        return laws.Runs.from_dataframe(cells, metric, params="params_non_embedding", data=self.data, compute="flops",
                                        unique=f"{self.unit}_unique", source=source)

    def fit(self, say):
        """The law of the tuned runs with its bootstrap, written to fit.json; (None, None) when there are too few."""
        runs, cells = self.cells()
        for sentence in recipe.edges(runs, cells):
            say(f"note: {sentence}")
        try:
            # runs of a few minutes miss the law by more than Huber's usual delta: one of the noise's own size
            # weighs them as a normal error would, and still discounts outliers
            fit = laws.fit(self.points(cells, self.definition.metric), self.definition.law, delta="noise", weights="seeds")
        except laws.LawError as error:
            say(f"no fit: {error}")
            return None, None
        boot = laws.bootstrap(fit)
        flops = cells["flops"]
        budgets = np.geomspace(flops.min(), max(self.goal.flops() if self.goal else 0, flops.max()) * 2, 25)
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
        """The same law of other metrics of the same runs, into fits/<metric>.json."""
        for metric in self.definition.beside:
            try:
                fit = laws.fit(self.points(cells, metric), self.definition.law, delta="noise", weights="seeds")
                laws.save_fit(self.workdir / "fits" / f"{metric}.json", fit, laws.bootstrap(fit))
            except laws.LawError as error:
                say(f"no fit of {metric}: {error}")

    def forecast(self, fit, boot, say):
        """Writes the forecast unless there is one; only then its target, which this returns, may be trained."""
        path = self.workdir / "forecast.json"
        if not path.exists():
            _, cells = self.cells()
            draft = counts(self.goal.packs[0].experiment, 0)
            rate = recipe.learning_rate(cells, draft["params_non_embedding"], draft[self.data], self.data)
            target = self.definition.target(float(f"{rate:.3g}"))
            run = self.runner.plan([target], 1, "target").runs[0]
            about = counts(target, target.data.available(self.runner.source(target))) | {
                "fingerprint": run.fingerprint, "learning_rate": target.optim.learning_rate,
                "experiment": experiments.to_dict(target)}
            try:
                laws.forecast.write(path, fit, boot, about, self._hashes(cells["fingerprints"].explode()))
            except laws.LawError:
                if not path.exists():
                    raise  # else another process on this workdir was first, and its forecast stands
        written = laws.forecast.read(path)
        low, high = written["interval"]
        say(f"forecast: {written['metric']} {written['predicted']:.4f}, {written['level']:.0%} interval "
            f"[{low:.4f}, {high:.4f}], at {written['compute_ratio']:.1f} times the compute; in {path}")
        return written["target"]["experiment"]

    def check(self, say):
        """Compares the forecast with what its target came to."""
        path = self.workdir / "forecast.json"
        written = laws.forecast.read(path)
        record = self.runner.records.read(written["target"]["fingerprint"])
        if record["diverged"]:
            say(f"the target diverged at step {record['diverged_step']}: the forecast cannot be checked")
            return
        result = laws.forecast.check(path, record[written["metric"]], self._hashes(written["records"]))
        say(f"observed: {result['observed']:.4f}, error {result['relative_error']:+.2%}, "
            f"{'inside' if result['inside'] else 'outside'} the interval")

    def show(self):
        """What the best models of each size make, into the workdir."""
        frame = tuned.clean(records.load_records(self.workdir), self.definition.metric)
        showcase.write_samples(self.workdir, self.runner, frame, self.definition.metric, self.definition.prompts)
        most = max(self.plan.runs, key=lambda run: run.experiment.data.unique or float("inf")).experiment
        judge = self.runner.judge(most)
        if judge is not None:  # what the data's own images would score, as samples
            sizes = sorted({run.experiment.data.unique or run.experiment.data.seen for run in self.plan.runs})
            files.write_json(self.workdir / "baselines.json", {"floor": judge.floor(), "memoriser": [
                {"examples_unique": size, **judge.memoriser(size)} for size in sizes]})

    def write_study(self):
        """study.json: what was asked for, by which command and versions, and what it took."""
        path = self.workdir / "study.json"
        before = files.read_json(path) if path.exists() else {}
        flops, seconds = self.runner.trained_flops, self.runner.trained_seconds
        executed = self.runner.trained_flops_executed
        took = {"seconds": time.monotonic() - self.started, "matmul_flops_per_second": self.rate,
                "mfu": flops / seconds / self.rate if seconds else None,  # of the models' FLOPs (Chowdhery et al. 2022)
                "hardware_utilisation": executed / seconds / self.rate if seconds else None}  # of those executed
        if not flops:  # nothing was left to train: what an earlier command measured stands
            took = {k: before.get(k, v) for k, v in took.items()}
        files.write_json(path, {
            "title": self.definition.title, "command": self.command, "config": self.definition.config,
            "metric": self.definition.metric, "unit": self.unit, "law": self.definition.law, "beside": self.definition.beside,
            "family": families.name(self.definition.sweep[0].family), "plan": self._plan(), "versions": records.versions(),
            "git_commit": records.git_commit(), **took})

    # --------------------------------------------------------------------------------------- helpers

    def _plan(self):
        plans = [self.plan] + ([self.goal] if self.goal else [])
        executed = sum(plan.flops_executed() for plan in plans)
        return {"runs": sum(len(plan.runs) for plan in plans), "programs": sum(plan.programs for plan in plans),
                "flops": sum(plan.flops() for plan in plans), "flops_executed": executed,
                "seconds": executed / self.rate / EXPECTED_UTILISATION}

    def _progress(self, plans):
        out = None if hosts.is_lead() else open(os.devnull, "w")
        return Progress(sum(self.runner.work(plan) for plan in plans), initial=self._finished(plans), file=out)

    def _finished(self, plans):
        """FLOPs of packs that are done, so that the bar starts where the last command left it."""
        done = self.runner.records.done
        return sum(self.runner.work(Plan((pack,))) for plan in plans for pack in plan.packs
                   if all(done(run.fingerprint) for trunk in pack.trunks for run in trunk.runs))

    def _hashes(self, fingerprints):
        done = [f for f in fingerprints if self.runner.records.done(f)]
        return laws.forecast.hashes(self.runner.records.read(f) for f in done)


def _shape(family) -> str:
    width, layers = getattr(family, "width", None), getattr(family, "layers", None)
    return f"{families.name(family)} {width}x{layers}" if width and layers else families.name(family)
