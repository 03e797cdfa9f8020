"""The end of a pack's branches: their evaluation, and the parameters, curves and records of their runs."""

import datetime
import time
from functools import partial

import numpy as np

from scaling import experiment as experiments
from scaling import families
from scaling.devices import hosts
from scaling.results import logs, pairs, records
from scaling.store import checkpoint, files
from scaling.sweeps import starts
from scaling.sweeps.clock import EVALUATION
from scaling.training import evaluation
from scaling.training.counts import counts


class Ending:
    """Ends the branches of a pack while the devices go on with the next ones.

    The devices are given the evaluation at once. Everything else is left to `runner.later`, in pieces.
    """

    def __init__(self, runner, pack, program, curves, progress):
        self.runner, self.pack, self.program, self.curves, self.progress = runner, pack, program, curves, progress

    def begin(self, runs, state, segment, segments: dict[str, int]):
        """Evaluates a finished branch, and later writes the parameters, the curve and, last, the record of each run.

        `segment` is the branch, and `segments` are the arguments of `Curves.join`.
        """
        later, asked = self.runner.later, time.monotonic()
        scoring = self.runner.scoring(self.program, state)
        self.runner.clock.given(EVALUATION, asked, scoring.last)
        self.runner.clock.groups += 1
        params = self.program.parameters(state)
        later.next_group()
        found, joined, saves = [], [], []  # `found` becomes metrics, and what they are made of

        def join():
            if hosts.is_lead():
                joined.extend(self.curves.join(index, segments) for index in range(len(runs)))

        later.read(join)  # before the trunk goes on in the same logs
        later.chore(lambda: found.extend(scoring()))
        for run, own in zip(runs, params):  # every save is started before the first one is waited for
            later.chore(partial(self.save_parameters, run, own, segment.span.steps, saves))
        later.chore(lambda: [saved.close() for saved in saves])
        for index, run in enumerate(runs):
            later.chore(lambda index=index, run=run: hosts.by_lead(
                lambda: self.record(index, run, *found, segment, *joined[index], len(runs))))
        work = self.runner.evaluation_work(self.pack.experiment) * len(runs)
        later.chore(partial(self.progress.update, work))

    def save_parameters(self, run, params, step, saves):
        """Saves the evaluated parameters of a run into params/<run>/."""
        if self.runner.done([run]):  # its parameters are there, and a kill now would leave it without
            return
        saved = checkpoint.Checkpoints(self.runner.workdir / "params" / run.fingerprint)
        saved.save(step, {"params": params}, {"experiment": experiments.to_dict(run.experiment)})
        if hosts.process_count() > 1:
            saved.wait()  # orbax confuses concurrent saves of several processes
        saves.append(saved)

    def record(self, index, run, found, examples, segment, curve, lost, count):
        """Writes the curve, the scores and the record of a run, which is number `index` of the `count` runs of a branch.

        `found` are its metrics, and `examples` what they are made of. The curve has lost `lost` points.
        """
        runner = self.runner
        source, judge = runner.source(self.pack.experiment), runner.judge(self.pack.experiment)
        if runner.records.done(run.fingerprint):
            return
        logs.write_curve(runner.workdir / "curves" / f"{run.fingerprint}.jsonl", curve)
        scored = pairs.scores_to_bytes(examples, index, self.clusters())
        files.atomic_write(pairs.scores_path(runner.workdir, run.fingerprint), scored)
        step, reason = int(segment.diverged[index]), "not finite"
        scores = {name: float(v[index]) if step < 0 else None for name, v in found.items()}
        if step < 0:
            step, reason = self.broken(curve, scores)
        knobs, counted = experiments.knobs(run.experiment), counts(run.experiment, run.experiment.data.available(source))
        if families.is_solved(run.experiment.family):
            knobs = {path: value for path, value in knobs.items() if not path.startswith("optim.")} | {"solved": True}
        base = starts.about_base(runner, run, counted["flops"])
        if base and base["start"]["diverged"]:
            reason = "the run that it begins with diverged"
        runner.records.write({
            "fingerprint": run.fingerprint, "role": run.role, "family": families.name(run.experiment.family),
            **counted, **base,
            **{path.rpartition(".")[2]: v for path, v in knobs.items() if path != run.experiment.data.length_knob},
            **scores, "evaluated": self.evaluated(),
            "diverged": step >= 0, "diverged_step": step if step >= 0 else None, "diverged_because": reason,
            **({"judge": judge.describe()} if judge is not None else {}),
            "curve": logs.curve_seal(curve, lost), **segment.spent.share(count).as_values(),
            "data_fingerprint": source.fingerprint,
            "experiment": experiments.to_dict(run.experiment),
            "versions": records.built_with() | {"machine": hosts.machine()}, "git_commit": records.git_commit(),
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")})

    def evaluated(self) -> int:
        """The number of units of the first evaluation set."""
        return len(next(iter(self.examples().values()))) * self.pack.experiment.data.per_example

    def examples(self) -> dict:
        """The first evaluation set."""
        return next(iter(self.runner.evaluation(self.pack.experiment).values()))

    def clusters(self):
        """The cluster of each example of the first evaluation set; None where examples do not depend on each other."""
        return self.examples().get(evaluation.CLUSTER)

    def broken(self, curve, scores) -> tuple[int, str | None]:
        """(step, reason) of a run whose training broke down although all its numbers are finite; else (-1, None)."""
        family = self.pack.experiment.family
        if not hasattr(family, "broken") or not curve:
            return -1, None
        names = [name for name in curve[-1] if not name.startswith(logs.VALIDATION)]
        columns = {name: np.array([point.get(name, np.nan) for point in curve]) for name in names}
        return family.broken(columns, scores) or (-1, None)
