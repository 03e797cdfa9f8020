"""Training one pack, from nothing or from its last checkpoint, to the records of its runs.

The devices are given their next call before the host reads the results of the one before it, also between segments and
between packs (see `scaling.sweeps.later`).
"""

import time
import warnings
from functools import partial

import numpy as np

from scaling import experiment as experiments
from scaling import families
from scaling.devices import arrays, exits, hosts
from scaling.figures import words
from scaling.results.logs import VALIDATION
from scaling.store import checkpoint
from scaling.sweeps import curves, starts, stopping, trunks
from scaling.sweeps.clock import TRAINING, Spent
from scaling.sweeps.ending import Ending
from scaling.sweeps.plan import Pack
from scaling.sweeps.validation import Validation
from scaling.training.counts import counts, step_flops, step_flops_executed
from scaling.training.step import TRUNK

CALL_SECONDS = 0.5  # aim for one call of a program: often enough for the bar, rarely enough for the host


class Segment:
    """A part of the trunk, or a branch, that begins where the segment `before` ends."""

    def __init__(self, name: str, span, before: "Segment | None", runs: int):
        self.name, self.span, self.before = name, span, before
        self.first = self.at = 0 if before is None else before.at  # `at` is the last step that the devices were given
        self.seals: list | None = None  # of the logs at the checkpoint that it resumes from
        self.loggers: list | None = None  # None until the first result is read
        self._runs, self._spent = runs, Spent()
        self._resumed: Spent | None = None  # until the checkpoint that it resumes from
        self._diverged: np.ndarray | None = None

    def resume(self, meta: dict, diverged) -> None:
        self.first = self.at = meta["step"]
        self.seals, self._resumed, self._diverged = meta.get("logs"), Spent.from_values(meta), diverged

    def read(self, spent: Spent, diverged) -> None:
        """Adds the result of a call."""
        self._spent = self._spent.plus(spent)
        self._diverged = diverged

    @property
    def spent(self) -> Spent:
        """What training took from the first step to the last one whose result was read."""
        until = self._resumed if self._resumed is not None else self.before.spent if self.before is not None else Spent()
        return until.plus(self._spent)

    @property
    def diverged(self) -> np.ndarray:
        """[runs] the step at which each run diverged, or -1. A diverged branch leaves its trunk unchanged."""
        if self._diverged is not None:
            return self._diverged
        return np.full(self._runs, -1) if self.before is None else self.before.diverged


class PackTraining:
    """The training of one pack: segments of the trunk, and a branch off it for each length of run."""

    def __init__(self, runner, pack: Pack, progress):
        self.runner, self.pack, self.options, self.progress = runner, pack, runner.options, progress
        self.later, self.clock = runner.later, runner.clock
        # When the host turned to the first call of a new program.
        self.asked = None if pack.program in runner.programs.kept else time.monotonic()
        if not hosts.agree(runner.programs.ready(pack)):
            self.later.settle()  # the devices wait for the program anyway
        self.program = runner.programs.of(pack)
        runner.judge(pack.experiment)  # an unusable judge is reported before anything is trained
        self.runs = len(pack.trunks)  # the rest are fillers
        self.experiments = [trunk.runs[-1].experiment for trunk in pack.filled()]
        self.step_flops = step_flops(pack.experiment) * self.runs
        self.step_executed = step_flops_executed(pack.experiment) * len(self.experiments)
        self.directory = runner.workdir / "checkpoints" / pack.name
        # Steps between points of the curve. What is solved is so in one call.
        self.every = (pack.experiment.steps if families.is_solved(pack.experiment.family) else
                      min(self.options.log_every, self.program.steps_per_call))
        self.validation = Validation(runner, pack, self.program, self.every)
        self.loss = float("nan")  # the mean loss of the last point of the curves
        self.curves = curves.Curves(pack, runner.workdir, self.options.writers)
        self.ending = Ending(runner, pack, self.program, self.curves, progress)

    def run(self):
        """Trains every segment that is not done.

        The records of the last branch and the removal of the checkpoints are left to `runner.later`.
        """
        state, trunk = None, None
        spans = self.pack.trunks[0].spans
        groups = [[trunk.runs[index] for trunk in self.pack.trunks] for index in range(len(spans))]
        self.go_back(next(span.cooldown for span, runs in zip(spans, groups) if not self.runner.done(runs)))
        for index, (span, runs) in enumerate(zip(spans, groups, strict=True)):
            state, trunk = self.train_segment("trunk", state, trunk, TRUNK, span.cooldown)
            if span is spans[-1]:
                trunks.keep_trunks(self, state, trunk)
            if self.runner.done(runs):
                self.progress.update(self.step_executed * (span.steps - span.cooldown))
            else:
                # A branch may have the trunk's own state where it takes no steps, or where the trunk does not go on.
                alone = span is spans[-1] or span.cooldown == span.steps
                branch = state if alone else self.program.copy(state)
                branch, segment = self.train_segment(_branch_name(span), branch, trunk, span, span.steps)
                self.ending.begin(runs, branch, segment, {"trunk": span.cooldown, segment.name: span.steps})
            if stopping.stops(self, runs, groups[index + 1:]):
                self.progress.update(self.step_executed * sum(s.steps - span.cooldown for s in spans[index + 1:]))
                break
        self.later.chore(partial(self.clear, ["trunk", *map(_branch_name, spans)]))

    def clear(self, names):
        for name in names:
            if self.exists(name):
                self.checkpoints(name).clear()

    def go_back(self, step):
        """Removes the checkpoints of the trunk after `step`, where the first branch that is not done begins.

        There are some only where the record of a finished run was lost or is damaged.
        """
        if not self.exists("trunk"):
            return
        saved = self.checkpoints("trunk")
        if removed := saved.remove_after(step):
            warnings.warn(f"a run that branches off at step {step} has no record any more, so its training is repeated "
                          f"from there on: the checkpoints of the steps {', '.join(map(str, removed))} in "
                          f"{self.directory / 'trunk'} were removed", stacklevel=2)
        saved.close()

    def checkpoints(self, name):
        return checkpoint.Checkpoints(self.directory / name, self.options.keep_checkpoints, self.options.keep_best)

    def exists(self, name) -> bool:
        """Whether a segment has checkpoints; they are opened only then, since that takes as long as many steps."""
        return hosts.by_lead(lambda: (self.directory / name).exists())

    def train_segment(self, name, state, before: Segment | None, span, stop):
        """(state at step `stop`, the segment); resumes from the segment's newest checkpoint.

        `state` is the state at the segment's start, or None for the initialisation. Returns before the devices are done
        and before the results of the last call are read. Raises Preempted once everything is saved after SIGTERM.
        """
        segment = Segment(name, span, before, self.runs)
        saved = self.checkpoints(name) if self.exists(name) else None
        found = None if saved is None else self.newest(saved, name, segment.at)
        if found is not None:
            state, meta = found
            self.progress.update(self.step_executed * (meta["step"] - max(segment.at, self.pack.start)))
            segment.resume(meta, arrays.fetch(state.diverged)[:self.runs])
        elif state is None and (kept := trunks.begin(self)) is not None:
            state, meta = kept
            segment.resume(meta, arrays.fetch(state.diverged)[:self.runs])
        elif state is None:
            state = starts.initial_state(self)
        spans, saved_at = [span] * len(self.experiments), time.monotonic()
        while segment.at < stop and (segment.diverged < 0).any():
            state = self.call(segment, state, spans, hosts.agree(self.next_steps(segment.at, stop)))
            stopping = hosts.any_of(exits.preempted())
            due = hosts.agree(time.monotonic() - saved_at > self.options.checkpoint_seconds)
            if segment.at < stop and (stopping or due):
                self.later.settle()  # a resumed run would not log the steps before its checkpoint again
                saved = saved or self.checkpoints(name)
                own = [experiments.to_dict(e) for e in self.experiments[:self.runs]]
                meta = {**segment.spent.as_values(), "experiments": own,
                        "logs": [logger.seal() for logger in self.open(segment)]}
                saved.save(segment.at, state, meta, score=self.loss if np.isfinite(self.loss) else None)
                saved_at = time.monotonic()
                if stopping:
                    self.close(segment, saved)
                    raise exits.Preempted
        self.later.read(partial(self.close, segment, saved))
        return state, segment

    def call(self, segment, state, spans, steps):
        """The state after `steps` more steps. Until the devices are there, the host does what was left for later."""
        asked, self.asked = self.asked or time.monotonic(), None
        self.runner.profile.begin()
        state, metrics = self.program.advance(state, self.experiments, spans, steps)
        self.runner.profile.end(steps, metrics["diverged"], self.program, self.progress.print)
        took = self.clock.given(TRAINING, asked, metrics["diverged"])
        validation = self.validation.evaluating(state, segment.at + steps, segment.span)
        self.later.after_call(lambda: not took.done())
        self.later.read(partial(self.log_metrics, segment, segment.at, steps, metrics, validation, took))
        segment.at += steps
        return state

    def close(self, segment, saved):
        self.curves.close(segment.name, self.open(segment))
        if saved is not None:
            saved.close()

    def open(self, segment):
        """The loggers of a segment. They are opened late, since the segment before it may have the same ones."""
        if segment.loggers is None:
            seals = segment.seals if segment.seals is not None else self.curves.seals.get(segment.name)
            segment.loggers = self.curves.open(segment.name, segment.first, seals)
        return segment.loggers

    def newest(self, saved, name, at):
        """(state, meta) of the newest whole checkpoint of a segment after step `at`, or None."""
        latest = saved.latest()
        if latest is None or latest <= at:
            return None
        rows = (saved.shape(latest, "step") or (self.program.runs,))[0]
        abstract, fit = self.program.abstract, None
        if rows != self.program.runs:  # the pack had other fillers, or none
            abstract, fit = self.program.resized(rows)
        try:
            state, meta = saved.restore(latest, abstract)
        except checkpoint.NoCheckpoint:
            warnings.warn(f"no checkpoint in {self.directory / name} is whole, so this part of the training starts over at "
                          f"step {at}", stacklevel=2)
            return None
        state = fit(state) if fit is not None else state
        return (state, meta) if meta["step"] > at else None

    def next_steps(self, at, stop) -> int:
        """The number of steps of the next call: about CALL_SECONDS of work.

        A call ends where a point of the curve ends, so that the curve depends neither on the speed of the machine nor on
        interruptions.
        """
        every, step_seconds = self.every, self.program.step_seconds
        wanted = every if step_seconds is None else int(CALL_SECONDS / max(step_seconds, 1e-9))
        wanted = max(every, min(wanted, self.program.steps_per_call))
        return self.runner.profile.most(
            min(stop, (at + wanted) // every * every, *self.validation.steps_after(at)) - at, every)

    def log_metrics(self, segment, at, steps, metrics, validation, took):
        """Logs the metrics of a call that began at step `at`. Points are means up to each multiple of `log_every`.

        The last point has those of `validation()`, {metric: [runs]}, as well. `took` gives what the call took.
        """
        metrics = {k: np.asarray(v)[:self.runs, :steps] for k, v in metrics.items()}
        segment.read(took.result(), metrics.pop("diverged")[:, -1])
        self.program.step_seconds = took.result().device_seconds / steps
        found = validation()
        every, data = self.every, self.pack.experiment.data
        ends = sorted({*range((at // every + 1) * every, at + steps, every), at + steps})
        for run, logger in enumerate(self.open(segment)):
            for first, last in zip([at, *ends], ends):
                point = {k: float(v[run, first - at:last - at].mean()) for k, v in metrics.items()}
                if last == at + steps:
                    point |= {name: float(values[run]) for name, values in found.items()}
                logger.write(last, {data.unit: last * data.per_step, **point})
        losses = next((v[:, -every:] for k, v in metrics.items() if k.endswith("loss")), found.get(f"{VALIDATION}loss", []))
        finite = np.asarray(losses)[np.isfinite(losses)]
        self.loss = float(np.mean(finite)) if finite.size else float("nan")
        e = self.pack.experiment
        text = f"{families.name(e.family)} N={words.count(counts(e, 0)['params_non_embedding'])}"
        self.runner.trained_flops += self.step_flops * steps
        self.runner.trained_flops_executed += self.step_executed * steps
        self.progress.update(self.step_executed * steps, f"{text} x{self.runs} loss {self.loss:.3f}")


def _branch_name(span) -> str:
    return f"branch-{span.steps}"
