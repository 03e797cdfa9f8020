"""Trains a plan into a workdir. It can be killed at any moment and started again.

    workdir/records/<run>.jsonl      the result of a finished run; a run with a record is never trained again
    workdir/params/<run>/            its parameters
    workdir/curves/<run>.jsonl       its training curve
    workdir/scores/<run>.npz         its metrics on each example, see scaling.results.pairs
    workdir/checkpoints/<pack>/      checkpoints of an unfinished pack: its trunk, and the current branch
    workdir/locks/                   the locks of processes that share the workdir
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np

from scaling import cost, data
from scaling import experiment as experiments
from scaling.devices import exits, hosts
from scaling.results import records
from scaling.store import locks
from scaling.sweeps import profiling, scoring, segments, stopping, trunks
from scaling.sweeps.clock import Clock
from scaling.sweeps.later import Later
from scaling.sweeps.plan import Pack, Plan, make_plan
from scaling.sweeps.programs import Programs
from scaling.training.evaluator import Pending
from scaling.training.program import Program


class ProgressBar(Protocol):
    """What training reports to; see `scaling.store.progress.Progress`."""

    def update(self, amount: float = 0, text: str | None = None) -> None: ...

    def print(self, message) -> None: ...


class PlanExecutor(Protocol):
    """Trains plans in place of this process, as `scaling.sweeps.ray.executor.RayExecutor` does."""

    def __call__(self, runner: "Runner", plan: Plan, progress: ProgressBar) -> None: ...


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How a plan is trained. Nothing here changes the results of a run, and only `stop_early` changes which runs finish."""

    checkpoint_seconds: float = 30.0
    log_every: int = 4  # steps per point of the training curve
    writers: tuple[str, ...] = ("jsonl",)
    mesh: str = ""
    steps_per_call: int = 256
    keep_checkpoints: int = 2  # the newest checkpoints of a segment under way
    keep_best: int = 0  # checkpoints of lowest loss, which stay when a run has finished
    keep_trunks: str = "auto"  # which trunks are kept for later commands, and used: see scaling.sweeps.trunks
    stop_early: stopping.StopRule | None = None
    compile_ahead: bool = True  # in other threads, the next program while this one trains; False compiles at the first call
    executor: PlanExecutor | None = None  # None trains in this process
    profile: int = 0  # steps that are traced, see scaling.sweeps.profiling


class Runner:
    """Trains packs of runs into a workdir. In a job of several processes all of them train every pack together; process 0
    holds the claims."""

    def __init__(self, workdir, options: TrainingOptions):
        self.workdir, self.options = workdir, options
        self.records = records.Records(workdir, stopping=options.stop_early is not None)
        self.sources, self.evaluations, self.judges = {}, {}, {}
        # By this process: FLOPs of the models, FLOPs executed, and seconds with compilation and evaluation.
        self.trained_flops, self.trained_flops_executed, self.trained_seconds = 0.0, 0.0, 0.0
        self.programs, self.later, self.clock = Programs(self), Later(), Clock()
        self.claims: set = set()  # of packs that have not ended
        self.planned: list = []  # the runs of the plan that is being trained
        self.profile = profiling.StepTrace(options.profile, self.workdir / "profile")

    def run(self, plan: Plan, progress: ProgressBar, then: Plan | None = None):
        """Every run of the plan has a record when this returns, whichever process trained it.

        The first program of the plan `then`, which is run next, is compiled while the last packs of this one train.
        """
        if self.options.executor is not None:
            self.options.executor(self, plan, progress)
            return
        waiting_said, self.planned = False, plan.all_runs
        hosts.by_lead(lambda: self.clear_finished(plan))
        pending = self._pending(plan)
        with self._ended():
            while pending:
                if hosts.any_of(exits.preempted()):
                    raise exits.Preempted
                start, following = time.monotonic(), [*pending, *(then.packs if then is not None else ())]
                trained = [self._train(pack, progress, following[index:]) for index, pack in enumerate(pending)
                           if not hosts.any_of(exits.preempted())]
                self.later.settle()
                if any(trained):
                    self.trained_seconds += time.monotonic() - start
                else:
                    if not waiting_said:
                        progress.print("waiting for runs that another process on this workdir is training")
                    waiting_said = True
                    time.sleep(2)
                pending = [pack for pack in pending if not self.done(pack.runs)]

    def prepare(self, plan: Plan):
        """Begins to compile the program of the first pack that `run` will train, in other threads."""
        if self.options.executor is None:
            self.programs.begin_first(self._pending(plan))

    def _pending(self, plan: Plan) -> list[Pack]:
        """The packs that are not done, those of a program one after another."""
        first = {pack.program: index for index, pack in reversed(list(enumerate(plan.packs)))}
        return [pack for pack in sorted(plan.packs, key=lambda pack: first[pack.program]) if not self.done(pack.runs)]

    @contextlib.contextmanager
    def _ended(self):
        """Does what is left for later at the end of training, and gives up what is under way after an error."""
        try:
            yield
            self.later.settle()
        except BaseException:
            self.later.drop()
            self.programs.stop()
            raise
        finally:
            self.profile.close()
            self.clock.pause()
            self._release(self.claims)

    def clear_finished(self, plan: Plan):
        """Removes the checkpoints that a kill left behind between the last record of a pack and the end of its training."""
        for pack in plan.packs:
            folder = self.workdir / "checkpoints" / pack.name
            if not folder.exists() or not all(self.records.done(run.fingerprint) for run in pack.runs):
                continue
            lock = locks.acquire(self.workdir / "locks" / pack.runs[0].fingerprint)
            if lock is None:  # the process that trained the pack is about to remove them
                continue
            try:
                for segment in list(folder.iterdir()):
                    # `keep_best` leaves checkpoints on purpose, all of them with a score.
                    if not any((step / "metrics").exists() for step in segment.iterdir()):
                        segment.rmtree()
            finally:
                lock.release()

    def under_way(self) -> list[str]:
        """Names of the packs that have checkpoints here."""
        folder = self.workdir / "checkpoints"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def held(self) -> list[str]:
        """Names of the runs that were begun here: those with a record or a lock."""
        folders = [self.workdir / name for name in ("records", "locks")]
        return sorted({path.name.partition(".")[0] for folder in folders if folder.exists() for path in folder.iterdir()})

    def plan(self, sweep, pack: int | Callable, role: str = "sweep", named=(), copied_from: "Runner | None" = None,
             beside: Plan | None = None) -> Plan:
        """The plan that trains a sweep in this workdir, with the names that its runs have here, or have in `named`.

        `copied_from` is the runner of a workdir whose runs will be copied into this one, with their names and packs.
        `beside` is a plan whose programs are compiled already.
        """
        here = [self] if copied_from is None else [self, copied_from]
        under_way, held = hosts.by_lead(lambda: tuple(
            [name for runner in here for name in found(runner)] for found in (Runner.under_way, Runner.held)))
        return make_plan(sweep, self.content, pack, role, under_way, {*held, *named}, trunks.kept_steps(self, here), beside)

    def train_pack(self, pack: Pack, progress: ProgressBar) -> bool:
        """Trains the unfinished runs of the pack. False when another process has claimed one, or one that it waits for."""
        start = time.monotonic()
        with self._ended():
            trained = self._train(pack, progress, [pack])
        self.trained_seconds += time.monotonic() - start
        return trained

    def _train(self, pack: Pack, progress: ProgressBar, following) -> bool:
        """As `train_pack`, but its end is left to `later`. `following` are the packs from this one on."""
        if not self.can_begin(pack):
            self.later.settle()  # the records of what it waits for may be among what was left for later
            if not self.can_begin(pack):
                return False
        claims: list = []
        unfinished = hosts.by_lead(lambda: self._claim(pack, claims))
        if unfinished:
            self.claims.update(claims)
            training = segments.PackTraining(self, pack, progress)
            self.later.chore(partial(self.programs.begin_next, following))  # once the pack has its own program
            training.run()
            self.later.chore(partial(self._release, claims))
        else:
            self._release(claims)
        return unfinished is not None

    def _release(self, claims):
        for claim in list(claims):
            claim.release()
            self.claims.discard(claim)

    def source(self, experiment) -> data.Source:
        """The data of an experiment, loaded once."""
        key = json.dumps(experiment.data.source_fields())
        if key not in self.sources:
            self.sources[key] = experiment.data.load()
        return self.sources[key]

    def judge(self, experiment):
        """The judge that scores samples of models trained on this data, or None."""
        source = self.source(experiment)
        if not hasattr(experiment.family, "sample"):
            return None
        key = (id(source), json.dumps(experiment.data.judge_fields()))
        if key not in self.judges:
            self.judges[key] = experiment.data.judge(source)
        return self.judges[key]

    def content(self, experiment) -> str:
        """What names the experiment's run beside its fields: its data, and the run that it begins with."""
        return experiments.made_from(experiment, lambda e: self.source(e).fingerprint)

    def evaluation(self, experiment) -> dict:
        """{split: examples of an evaluation set, as arrays that lead with the example axis}.

        A set depends on nothing but the data: runs of all batches, packs and meshes are evaluated on the same examples.
        """
        source, count = self.source(experiment), experiment.data.evaluated
        key = (id(source), count)
        if key not in self.evaluations:
            self.evaluations[key] = {split: source.evaluation(split, count) for split in source.splits}
        return self.evaluations[key]

    def scores(self, program: Program, state) -> dict[str, np.ndarray]:
        """{metric: [runs]} of a pack in `state`: on its evaluation sets and, where its data have a judge, of its samples.

        Metrics of the first evaluation set, which laws are fitted to, keep their names; others end in `_<split>`.
        """
        return self.scoring(program, state)()[0]

    def scoring(self, program: Program, state) -> Pending:
        """Starts `scores` on the devices; see `scaling.sweeps.scoring`."""
        return scoring.start_scoring(program, state, self.evaluation(program.experiment), self.judge(program.experiment))

    def validation(self, experiment) -> dict:
        """The examples that a run is evaluated on several times on its way: the first few of its first evaluation set."""
        first, count = next(iter(self.evaluation(experiment).values())), experiment.data.evaluated_together
        return {name: values[:count] for name, values in first.items()}

    def evaluation_work(self, experiment) -> float:
        """FLOPs of evaluating one run."""
        examples = sum(len(next(iter(each.values()))) for each in self.evaluation(experiment).values())
        return examples * cost.forward_flops(experiment.family, 1)

    def work(self, plan: Plan) -> float:
        """FLOPs that training and evaluating a plan executes: the unit of the progress bar."""
        return plan.flops_executed() + sum(self.evaluation_work(run.experiment) for run in plan.all_runs)

    def can_begin(self, pack: Pack) -> bool:
        """Whether the runs that a pack waits for have finished."""
        return hosts.by_lead(lambda: all(map(self.records.finished, pack.waits_for)))

    def done(self, runs) -> bool:
        """True if all these runs have a record."""
        return hosts.by_lead(lambda: all(self.records.done(run.fingerprint) for run in runs))

    def _claim(self, pack, claims) -> bool | None:
        """Adds claims of the pack's unfinished runs to `claims`. True if there are any, None if another job has one."""
        for run in pack.runs:
            claim = self.records.claim(run.fingerprint)
            if claim is not None:
                claims.append(claim)
            elif not self.records.done(run.fingerprint):
                return None
        return bool(claims)
