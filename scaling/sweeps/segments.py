"""Training one pack, from nothing or from its last checkpoint, to the records of its runs."""

import datetime
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from scaling import experiment as experiments
from scaling import families
from scaling.devices import arrays, exits, hosts
from scaling.figures import words
from scaling.results import logs, records
from scaling.store import checkpoint
from scaling.sweeps import curves
from scaling.sweeps.plan import Pack
from scaling.sweeps.validation import Validation
from scaling.training.counts import counts, step_flops, step_flops_executed
from scaling.training.step import TRUNK

CALL_SECONDS = 0.5  # aim for one call of a program: often enough for the bar, rarely enough for the host


class PackTraining:
    """The training of one pack: segments of the trunk, and a branch off it for each length of run."""

    def __init__(self, runner, pack: Pack, progress):
        self.runner, self.pack, self.options, self.progress = runner, pack, runner.options, progress
        self.program = runner.program(pack)
        runner.judge(pack.experiment)  # an unusable judge is reported before anything is trained
        self.experiments = [trunk.runs[-1].experiment for trunk in pack.trunks]
        self.step_flops = step_flops(pack.experiment) * len(pack.trunks)
        self.step_executed = step_flops_executed(pack.experiment) * len(pack.trunks)
        self.directory = runner.workdir / "checkpoints" / pack.name
        self.every = min(self.options.log_every, self.program.steps_per_call)
        self.validation = Validation(runner, pack, self.program, self.every)
        self.diverged = np.full(len(pack.trunks), -1)  # the step at which each run diverged, or -1
        self.loss = float("nan")  # the mean loss of the last point of the curves
        self.step_seconds: float | None = None  # measured from the second call on
        self.logged_at: float | None = None  # the time of the last `log_metrics`
        self.curves = curves.Curves(pack, runner.workdir, self.options.writers)

    def run(self):
        """Trains every segment that is not done, writes the records, and removes the checkpoints."""
        state, seconds = None, 0.0
        spans = self.pack.trunks[0].spans
        groups = [[trunk.runs[index] for trunk in self.pack.trunks] for index in range(len(spans))]
        self.go_back(next(span.cooldown for span, runs in zip(spans, groups) if not self.runner.done(runs)))
        for span, runs in zip(spans, groups, strict=True):
            state, seconds = self.train_segment("trunk", state, seconds, TRUNK, span.cooldown)
            if self.runner.done(runs):
                self.progress.update(self.step_executed * (span.steps - span.cooldown))
            else:
                branch = jax.tree.map(jnp.copy, state)
                branch, branch_seconds = self.train_segment(_branch_name(span), branch, seconds, span, span.steps)
                self.finish(runs, branch, branch_seconds, span)
        for name in ["trunk", *map(_branch_name, spans)]:
            self.checkpoints(name).clear()

    def go_back(self, step):
        """Removes the checkpoints of the trunk after `step`, where the first branch that is not done begins.

        There are some only where the record of a finished run was lost or is damaged.
        """
        saved = self.checkpoints("trunk")
        if removed := saved.remove_after(step):
            warnings.warn(f"a run that branches off at step {step} has no record any more, so its training is repeated "
                          f"from there on: the checkpoints of the steps {', '.join(map(str, removed))} in "
                          f"{self.directory / 'trunk'} were removed", stacklevel=2)
        saved.close()

    def checkpoints(self, name):
        return checkpoint.Checkpoints(self.directory / name, self.options.keep_checkpoints, self.options.keep_best)

    def train_segment(self, name, state, seconds, span, stop):
        """(state at step `stop`, seconds spent until then); resumes from the segment's newest checkpoint.

        `state` is the state at the segment's start, or None for the initialisation. Raises Preempted once everything is
        saved after SIGTERM.
        """
        saved = self.checkpoints(name)
        at, seals = 0 if state is None else int(arrays.fetch(state.step)[0]), self.curves.seals.get(name)
        found = self.newest(saved, name, at)
        if found is not None:
            state, meta = found
            seconds, resumed_at = meta["seconds"], meta["step"]  # an earlier step where the latest checkpoint is torn
            self.progress.update(self.step_executed * (resumed_at - at))
            at, seals = resumed_at, meta.get("logs")
        elif state is None:
            state = self.program.init(self.experiments)
        self.diverged = arrays.fetch(state.diverged)  # of this segment: a diverged branch leaves its trunk unchanged
        loggers = self.curves.open(name, at, seals)
        spans = [span] * len(self.experiments)
        start = saved_at = time.monotonic()
        unread = None  # arguments of `log_metrics` for the last call
        while at < stop and (self.diverged < 0).any():
            steps = hosts.agree(self.next_steps(at, stop))
            state, metrics = self.program.advance(state, self.experiments, spans, steps)
            if unread is not None:  # the host reads the metrics of the last call while the device runs this one
                self.log_metrics(loggers, *unread)
            unread, at = (at, steps, metrics, self.validation.metrics(state, at + steps, span)), at + steps
            stopping = hosts.any_of(exits.preempted())
            due = hosts.agree(time.monotonic() - saved_at > self.options.checkpoint_seconds)
            if at < stop and (stopping or due):
                self.log_metrics(loggers, *unread)  # a resumed run would not log the steps before its checkpoint again
                unread = None
                meta = {"seconds": seconds + time.monotonic() - start,
                        "experiments": [experiments.to_dict(e) for e in self.experiments],
                        "logs": [logger.seal() for logger in loggers]}
                saved.save(at, state, meta, score=self.loss if np.isfinite(self.loss) else None)
                saved_at = time.monotonic()
                if stopping:
                    self.curves.close(name, loggers)
                    saved.close()
                    raise exits.Preempted
        if unread is not None:
            self.log_metrics(loggers, *unread)
        self.curves.close(name, loggers)
        saved.close()
        return state, seconds + time.monotonic() - start

    def newest(self, saved, name, at):
        """(state, meta) of the newest whole checkpoint of a segment after step `at`, or None."""
        latest = saved.latest()
        if latest is None or latest <= at:
            return None
        try:
            state, meta = saved.restore(latest, self.program.abstract)
        except checkpoint.NoCheckpoint:
            warnings.warn(f"no checkpoint in {self.directory / name} is whole, so this part of the training starts over at "
                          f"step {at}", stacklevel=2)
            return None
        return (state, meta) if meta["step"] > at else None

    def next_steps(self, at, stop) -> int:
        """The number of steps of the next call: about CALL_SECONDS of work.

        A call ends where a point of the curve ends, so that the curve depends neither on the speed of the machine nor on
        interruptions.
        """
        every = self.every
        wanted = every if self.step_seconds is None else int(CALL_SECONDS / self.step_seconds)
        wanted = max(every, min(wanted, self.program.steps_per_call))
        return min(stop, (at + wanted) // every * every, *self.validation.steps_after(at)) - at

    def log_metrics(self, loggers, at, steps, metrics, validation):
        """Logs the metrics of a call that began at step `at`. Points are means up to each multiple of `log_every`.

        The last point has those of `validation`, {metric: [runs]}, as well.
        """
        metrics = {k: np.asarray(v)[:, :steps] for k, v in metrics.items()}
        now = time.monotonic()
        if self.logged_at is not None:
            self.step_seconds = (now - self.logged_at) / steps
        self.logged_at = now
        self.diverged = metrics.pop("diverged")[:, -1]
        every, data = self.every, self.pack.experiment.data
        ends = sorted({*range((at // every + 1) * every, at + steps, every), at + steps})
        for run, logger in enumerate(loggers):
            for first, last in zip([at, *ends], ends):
                point = {k: float(v[run, first - at:last - at].mean()) for k, v in metrics.items()}
                if last == at + steps:
                    point |= {name: float(values[run]) for name, values in validation.items()}
                logger.write(last, {data.unit: last * data.per_step, **point})
        losses = next(v for k, v in metrics.items() if k.endswith("loss"))[:, -every:]
        finite = losses[np.isfinite(losses)]
        self.loss = float(np.mean(finite)) if finite.size else float("nan")
        e = self.pack.experiment
        text = f"{families.name(e.family)} N={words.count(counts(e, 0)['params_non_embedding'])}"
        self.runner.trained_flops += self.step_flops * steps
        self.runner.trained_flops_executed += self.step_executed * steps
        self.progress.update(self.step_executed * steps, f"{text} x{len(self.experiments)} loss {self.loss:.3f}")

    def finish(self, runs, state, seconds, span):
        """Evaluates a finished branch, and writes the parameters, the curve and, last, the record of each run."""
        found = self.runner.scores(self.program, state)
        diverged = arrays.fetch(state.diverged)
        self.save_parameters(runs, state, span)
        hosts.by_lead(lambda: self.record(runs, found, diverged, seconds, span))
        self.progress.update(self.runner.evaluation_work(self.pack.experiment) * len(runs))

    def save_parameters(self, runs, state, span):
        """Saves the evaluated parameters of each run into params/<run>/."""
        saves = []
        finished = hosts.by_lead(lambda: [self.runner.records.done(run.fingerprint) for run in runs])
        for index, run in enumerate(runs):  # every save is started before the first one is waited for
            if finished[index]:  # its parameters are there, and a kill now would leave it without
                continue
            saved = checkpoint.Checkpoints(self.runner.workdir / "params" / run.fingerprint)
            params = _item(state.ema or state.params, index)
            saved.save(span.steps, {"params": params}, {"experiment": experiments.to_dict(run.experiment)})
            if hosts.process_count() > 1:
                saved.wait()  # orbax confuses concurrent saves of several processes
            saves.append(saved)
        for saved in saves:
            saved.close()

    def record(self, runs, found, diverged, seconds, span):
        """Writes the curve and the record of each run."""
        runner = self.runner
        source, judge = runner.source(self.pack.experiment), runner.judge(self.pack.experiment)
        for index, run in enumerate(runs):
            if runner.records.done(run.fingerprint):
                continue
            curve, lost = self.curves.join(index, {"trunk": span.cooldown, _branch_name(span): span.steps})
            logs.write_curve(runner.workdir / "curves" / f"{run.fingerprint}.jsonl", curve)
            step, reason = int(diverged[index]), "not finite"
            scores = {name: float(v[index]) if step < 0 else None for name, v in found.items()}
            if step < 0:
                step, reason = self.broken(curve, scores)
            knobs = experiments.knobs(run.experiment)
            runner.records.write({
                "fingerprint": run.fingerprint, "role": run.role, "family": families.name(run.experiment.family),
                **counts(run.experiment, run.experiment.data.available(source)),
                **{path.rpartition(".")[2]: v for path, v in knobs.items() if path != run.experiment.data.length_knob},
                **scores, "evaluated": self.evaluated(),
                "diverged": step >= 0, "diverged_step": step if step >= 0 else None, "diverged_because": reason,
                **({"judge": judge.describe()} if judge is not None else {}),
                "curve": logs.curve_seal(curve, lost), "seconds": seconds / len(runs),
                "data_fingerprint": source.fingerprint,
                "experiment": experiments.to_dict(run.experiment), "versions": records.built_with(),
                "git_commit": records.git_commit(),
                "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")})

    def evaluated(self) -> int:
        """The number of units of the first evaluation set."""
        experiment = self.pack.experiment
        examples = next(iter(self.runner.evaluation(experiment).values()))
        return len(next(iter(examples.values()))) * experiment.data.per_example

    def broken(self, curve, scores) -> tuple[int, str | None]:
        """(step, reason) of a run whose training broke down although all its numbers are finite; else (-1, None)."""
        family = self.pack.experiment.family
        if not hasattr(family, "broken") or not curve:
            return -1, None
        names = [name for name in curve[-1] if not name.startswith(logs.VALIDATION)]
        columns = {name: np.array([point.get(name, np.nan) for point in curve]) for name in names}
        return family.broken(columns, scores) or (-1, None)


def _branch_name(span) -> str:
    return f"branch-{span.steps}"


def _item(tree, index):
    return jax.tree.map(lambda x: x[index], tree)
