"""One pack on its way from nothing, or from its last checkpoint, to the records of its runs."""

import datetime
import time

import jax
import jax.numpy as jnp
import numpy as np

from scaling import experiment as experiments
from scaling import families
from scaling.devices import exits, hosts, sharding
from scaling.figures import words
from scaling.results import logs, records
from scaling.store import checkpoint
from scaling.sweeps.plan import Pack
from scaling.training.counts import counts, step_flops, step_flops_executed
from scaling.training.step import TRUNK

CALL_SECONDS = 0.5  # how long one call of a program should take: often enough for the bar, rarely enough for the host


class PackTraining:
    """One pack on its way: the trunk, and one branch after another off it."""

    def __init__(self, runner, pack: Pack):
        self.runner, self.pack, self.options, self.progress = runner, pack, runner.options, runner.progress
        self.program = runner.program(pack)
        runner.judge(pack.experiment)  # so that what is wrong with it is said before anything is trained
        self.experiments = [trunk.runs[-1].experiment for trunk in pack.trunks]
        self.step_flops = step_flops(pack.experiment) * len(pack.trunks)
        self.step_executed = step_flops_executed(pack.experiment) * len(pack.trunks)
        self.directory = runner.workdir / "checkpoints" / pack.name
        self.every = min(self.options.log_every, self.program.steps_per_call)
        self.pace = None  # seconds a step
        self.read_at = None  # when metrics were last read

    def go(self):
        state, seconds = None, 0.0
        for index, span in enumerate(self.pack.trunks[0].spans):
            runs = [trunk.runs[index] for trunk in self.pack.trunks]
            state, seconds = self.segment("trunk", state, seconds, TRUNK, span.cooldown)
            if not self.runner.done(runs):
                branch = jax.tree.map(jnp.copy, state)
                branch, took = self.segment(f"branch-{span.steps}", branch, seconds, span, span.steps)
                self.finish(runs, branch, took, span)
            else:
                self.progress.update(self.step_executed * (span.steps - span.cooldown))
        for name in ["trunk"] + [f"branch-{span.steps}" for span in self.pack.trunks[0].spans]:
            self.checkpoints(name).clear()

    def checkpoints(self, name):
        return checkpoint.Checkpoints(self.directory / name, self.options.keep_checkpoints, self.options.keep_best)

    def segment(self, name, state, seconds, span, stop):
        """The state at step `stop`, and the seconds spent until then; goes on from a checkpoint if there is one."""
        saved = self.checkpoints(name)
        at = 0 if state is None else int(sharding.fetch(state.step)[0])
        latest = saved.latest()
        if latest is not None and latest > at:
            state, meta = saved.restore(latest, self.program.abstract)
            seconds, latest = meta["seconds"], meta["step"]  # the one before, where the latest is torn
            self.progress.update(self.step_executed * (latest - at))
            at = latest
        elif state is None:
            state = self.program.init(self.experiments)
        self.diverged = sharding.fetch(state.diverged)  # this segment's own: a branch that diverged leaves its trunk whole
        writers = self.writers(name, at)
        spans = [span] * len(self.experiments)
        start = saved_at = time.monotonic()
        unread = None
        while at < stop and (self.diverged < 0).any():
            steps = hosts.agree(self.steps(at, stop))
            state, metrics = self.program.advance(state, self.experiments, spans, steps)
            if unread is not None:  # the device is busy with the next call while the host reads the last
                self.read(writers, *unread)
            unread, at = (at, steps, metrics), at + steps
            stopping = hosts.any_of(exits.asked())
            due = hosts.agree(time.monotonic() - saved_at > self.options.checkpoint_seconds)
            if at < stop and (stopping or due):
                self.read(writers, *unread)  # else the lines of a call before the checkpoint would die with a killed process
                unread = None
                meta = {"seconds": seconds + time.monotonic() - start,
                        "experiments": [experiments.to_dict(e) for e in self.experiments]}
                saved.save(at, state, meta, score=self.loss if np.isfinite(self.loss) else None)
                saved_at = time.monotonic()
                if stopping:
                    self.close(saved, writers)
                    raise exits.Preempted
        if unread is not None:
            self.read(writers, *unread)
        self.close(saved, writers)
        return state, seconds + time.monotonic() - start

    def close(self, saved, writers):
        for writer in writers:
            writer.close()
        saved.close()

    def steps(self, at, stop) -> int:
        """Steps of the next call: about CALL_SECONDS of work, ending where a point of the curve does, so that a curve
        does not depend on how fast the machine was or when it was interrupted."""
        every = self.every
        wanted = every if self.pace is None else int(CALL_SECONDS / self.pace)
        wanted = max(every, min(wanted, self.program.steps_per_call))
        return min(stop, (at + wanted) // every * every) - at

    def writers(self, name, at):
        if not hosts.lead():
            return []
        # a point is named after the last step it covers, so that of step `at` stays when going on from there
        return [logs.Logger(self.runner.workdir, _log_name(name, trunk), self.options.writers, at + 1, directory="logs",
                            config=experiments.to_dict(trunk.runs[-1].experiment)) for trunk in self.pack.trunks]

    def read(self, writers, at, steps, metrics):
        """Logs a call's metrics, each point the mean over the steps up to the next multiple of `log_every`."""
        metrics = {k: np.asarray(v)[:, :steps] for k, v in metrics.items()}
        now = time.monotonic()
        if self.read_at is not None:
            self.pace = (now - self.read_at) / steps
        self.read_at = now
        self.diverged = metrics.pop("diverged")[:, -1]
        every, data = self.every, self.pack.experiment.data
        ends = sorted({*range((at // every + 1) * every, at + steps, every), at + steps})
        for run, writer in enumerate(writers):
            for first, last in zip([at, *ends], ends):
                point = {k: float(v[run, first - at:last - at].mean()) for k, v in metrics.items()}
                writer.write(last, {data.unit: last * data.per_step, **point})
        losses = next(v for k, v in metrics.items() if k.endswith("loss"))[:, -every:]
        self.loss = float(np.mean(losses[np.isfinite(losses)])) if np.isfinite(losses).any() else float("nan")
        e = self.pack.experiment
        text = f"{families.name(e.family)} N={words.count(counts(e, 0)['params_non_embedding'])}"
        self.runner.trained_flops += self.step_flops * steps
        self.runner.trained_flops_executed += self.step_executed * steps
        self.progress.update(self.step_executed * steps, f"{text} x{len(self.experiments)} loss {self.loss:.3f}")

    def finish(self, runs, state, seconds, span):
        """Evaluates, and writes curve, parameters and, last, the record of each run of a finished branch."""
        runner, found = self.runner, {}
        for index, (split, batches) in enumerate(runner.evaluation(self.pack.experiment).items()):
            suffix = f"_{split}" if index else ""  # the first split is what laws are fitted to
            found |= {name + suffix: v for name, v in self.program.evaluate(state, batches).items()}
        judge = runner.judge(self.pack.experiment)
        if judge is not None:  # alike in every process
            conditions = next(iter(runner.evaluation(self.pack.experiment).values()))
            samples = self.program.sample(state, conditions, self.pack.experiment.data.samples)
            judged = hosts.by_lead(lambda: [{k: float(v) for k, v in judge(one).items()} for one in samples])
            found |= {name: np.array([one[name] for one in judged]) for name in judged[0]}
        diverged = sharding.fetch(state.diverged)
        kept = [checkpoint.Checkpoints(runner.workdir / "params" / run.fingerprint) for run in runs]
        for i, run in enumerate(runs):  # all are on their way before the first is waited for
            kept[i].save(span.steps, {"params": jax.tree.map(lambda x: x[i], state.ema or state.params)},
                         {"experiment": experiments.to_dict(run.experiment)})
            if hosts.count() > 1:
                kept[i].wait()  # orbax mixes up saves of several processes that are under way at a time
        for one in kept:
            one.close()
        hosts.by_lead(lambda: self.record(runs, found, diverged, seconds, span))
        self.progress.update(self.runner.evaluation_work(self.pack.experiment) * len(runs))

    def record(self, runs, found, diverged, seconds, span):
        runner, source, judge = self.runner, *(f(self.pack.experiment) for f in (self.runner.source, self.runner.judge))
        for i, (run, trunk) in enumerate(zip(runs, self.pack.trunks, strict=True)):
            if runner.records.done(run.fingerprint):
                continue
            bad = int(diverged[i])
            folder = runner.workdir / "logs"
            curve = [p for p in logs.read_curve(folder / f"{_log_name('trunk', trunk)}.jsonl") if p["step"] <= span.cooldown]
            curve += logs.read_curve(folder / f"{_log_name(f'branch-{span.steps}', trunk)}.jsonl")
            logs.write_curve(runner.workdir / "curves" / f"{run.fingerprint}.jsonl", curve)
            values = experiments.knobs(run.experiment)
            scores = {name: None if bad >= 0 else float(v[i]) for name, v in found.items()}
            bad, reason = (bad, "not finite") if bad >= 0 else self.broken(curve, scores)
            runner.records.write({
                "fingerprint": run.fingerprint, "role": run.role, "family": families.name(run.experiment.family),
                **counts(run.experiment, run.experiment.data.available(source)),
                **{path.rpartition(".")[2]: v for path, v in values.items() if path != run.experiment.data.length_knob},
                **scores,
                "diverged": bad >= 0, "diverged_step": bad if bad >= 0 else None, "diverged_because": reason,
                **({"judge": judge.describe()} if judge is not None else {}),
                "seconds": seconds / len(runs), "data_fingerprint": source.fingerprint,
                "experiment": experiments.to_dict(run.experiment), "versions": records.versions(),
                "git_commit": records.git_commit(),
                "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")})

    def broken(self, curve, scores) -> tuple[int, str | None]:
        """The step at which, and why, a run's training broke down although all its numbers are finite; or -1."""
        family = self.pack.experiment.family
        if not hasattr(family, "broken") or not curve:
            return -1, None
        columns = {name: np.array([point.get(name, np.nan) for point in curve]) for name in curve[-1]}
        return family.broken(columns, scores) or (-1, None)


def _log_name(segment, trunk):
    return f"{trunk.runs[-1].fingerprint}-{segment}"
