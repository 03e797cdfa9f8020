"""Trains a plan into a workdir, so that it can be killed at any moment and started again.

    workdir/records/<run>.jsonl      what a finished run produced; a run with a record is never trained again
    workdir/params/<run>/            its parameters
    workdir/curves/<run>.jsonl       its training curve
    workdir/checkpoints/<pack>/      where an unfinished pack goes on: the trunk, and the branch it is in
    workdir/locks/                   who trains what, when several processes share the workdir
"""

import dataclasses
import functools
import json
import time

import jax

from scaling import cost, data
from scaling.devices import exits, hosts
from scaling.results import records
from scaling.sweeps import segments
from scaling.sweeps.plan import Pack, Plan, make_plan
from scaling.training.program import Program


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How a plan is trained; nothing here changes what it computes."""

    checkpoint_seconds: float = 30.0
    log_every: int = 4  # steps a point of the training curve
    writers: tuple[str, ...] = ("jsonl",)
    mesh: str = ""
    steps_per_call: int = 256
    keep_checkpoints: int = 2  # the newest ones of what is under way
    keep_best: int = 0  # those of lowest loss, which stay when a run has ended
    executor: object = None  # trains plans in place of this process: executor(runner, plan), see scaling.sweeps.ray


class Runner:
    """Trains packs. `progress` has `update(flops, text)` and `print(line)`, see `scaling.store.progress.Progress`.

    In a job of several processes all of them train every pack together; the first one holds the claims.
    """

    def __init__(self, workdir, options: TrainingOptions, progress):
        self.workdir, self.options, self.progress = workdir, options, progress
        self.records = records.Records(workdir)
        self.sources, self.programs, self.evaluations, self.judges = {}, {}, {}, {}
        self.waiting_said = False
        # by this process: FLOPs of the models, FLOPs executed, and the time with compiling and evaluating
        self.trained_flops, self.trained_flops_executed, self.trained_seconds = 0.0, 0.0, 0.0

    def run(self, plan: Plan):
        """Every run of the plan has a record when this returns, whichever process trained it."""
        if self.options.executor is not None:
            return self.options.executor(self, plan)
        pending = [pack for pack in plan.packs if not self._done(pack)]
        while pending:
            if hosts.any_of(exits.asked()):
                raise exits.Preempted
            if not any([self.train_pack(pack) for pack in pending if not hosts.any_of(exits.asked())]):
                if not self.waiting_said:
                    self.progress.print("waiting for runs that another process on this workdir is training")
                self.waiting_said = True
                time.sleep(2)
            pending = [pack for pack in pending if not self._done(pack)]

    def under_way(self) -> list[str]:
        """Names of the packs that have checkpoints here."""
        folder = self.workdir / "checkpoints"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def held(self) -> list[str]:
        """Names of the runs that were begun here: those with a record or a lock."""
        folders = [self.workdir / name for name in ("records", "locks")]
        return sorted({path.name.partition(".")[0] for folder in folders if folder.exists() for path in folder.iterdir()})

    def plan(self, sweep, pack: int, role: str = "sweep") -> Plan:
        """The plan that trains a sweep in this workdir, with the names that its runs have here."""
        under_way, held = hosts.by_lead(lambda: (self.under_way(), self.held()))
        return make_plan(sweep, self.content, pack, role, under_way, set(held))

    def train_pack(self, pack: Pack) -> bool:
        """Trains what the pack still lacks. False when another process has claimed it."""
        claims = []
        try:
            mine = hosts.by_lead(lambda: self._claim(pack, claims))
            if mine is None:
                return False
            if mine:
                start = time.monotonic()
                segments.PackTraining(self, pack).go()
                self.trained_seconds += time.monotonic() - start
            return True
        finally:
            for claim in filter(None, claims):
                claim.release()

    def source(self, experiment) -> data.Source:
        key = json.dumps(experiment.data.source_fields())
        if key not in self.sources:
            self.sources[key] = experiment.data.load()
        return self.sources[key]

    def judge(self, experiment):
        """What scores samples of models trained on this data, or None."""
        source = self.source(experiment)
        if not hasattr(experiment.family, "sample"):
            return None
        key = (id(source), json.dumps(experiment.data.judge_fields()))
        if key not in self.judges:
            self.judges[key] = experiment.data.judge(source)
        return self.judges[key]

    def content(self, experiment) -> str:
        return self.source(experiment).fingerprint

    def program(self, pack: Pack) -> Program:
        if pack.program not in self.programs:
            self.programs.clear()  # packs of one program follow each other; compiled code and data of the last are dead
            self.programs[pack.program] = Program(
                pack.experiment, self.source(pack.experiment), len(pack.trunks), self.options.mesh,
                self.options.steps_per_call)
        return self.programs[pack.program]

    def evaluation(self, experiment) -> dict:
        """{split: batches stacked on the first axis}, the same for every run on the same data."""
        source, spec = self.source(experiment), experiment.data
        key = (id(source), spec.batch, spec.evaluated)
        if key not in self.evaluations:
            self.evaluations[key] = {split: jax.tree.map(functools.partial(_batches, spec), source.evaluation(
                split, spec.evaluated)) for split in source.splits}
        return self.evaluations[key]

    def evaluation_work(self, experiment) -> float:
        """FLOPs of evaluating one run."""
        examples = sum(len(x) * len(x[0]) for split in self.evaluation(experiment).values()
                       for x in list(split.values())[:1])
        return examples * cost.forward_flops(experiment.family, 1)

    def work(self, plan: Plan) -> float:
        """FLOPs that training and evaluating a plan executes: what the progress bar counts."""
        return plan.flops_executed() + sum(self.evaluation_work(run.experiment) for run in plan.runs)

    def done(self, runs) -> bool:
        """Whether all these runs have a record."""
        return hosts.by_lead(lambda: all(self.records.done(run.fingerprint) for run in runs))

    def _done(self, pack) -> bool:
        return self.done(_runs(pack))

    def _claim(self, pack, claims) -> bool | None:
        """Whether there is something to train, all of it claimed; None when another job has claimed a part."""
        for run in _runs(pack):
            claim = self.records.claim(run.fingerprint)
            if claim is None and not self.records.done(run.fingerprint):
                return None
            claims.append(claim)
        return any(claims)


def _batches(spec, x):
    """Rows of an evaluation set as batches: each as many training batches as divide them and are taken at once."""
    training = len(x) // spec.batch
    most = max(1, spec.at_once // spec.per_step)
    together = max(n for n in range(1, most + 1) if training % n == 0)
    return x[:training * spec.batch].reshape(-1, together * spec.batch, *x.shape[1:])


def _runs(pack):
    return [run for trunk in pack.trunks for run in trunk.runs]
