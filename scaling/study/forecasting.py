"""The forecast stage of a study: a target is predicted on record before it is trained, and the prediction checked after."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import jax
import numpy as np
from etils import epath

from scaling import experiment as experiments
from scaling import laws
from scaling.devices.layouts import runs_at_once
from scaling.results import planned, records
from scaling.store import files
from scaling.study import recipe
from scaling.study.definition import Definition, with_seeds
from scaling.sweeps import runner as runners
from scaling.sweeps.plan import Plan
from scaling.training.counts import counts

if TYPE_CHECKING:
    import pandas as pd


class Forecasting:
    """The forecast of one workdir. `runner` trains the runs of the workdir and reads their records."""

    def __init__(self, workdir: epath.Path, runner: runners.Runner):
        self.workdir, self.path, self.runner = workdir, workdir / "forecast.json", runner

    def write(self, definition: Definition, fit, boot, cells: pd.DataFrame, data_column: str, say) -> dict:
        """Writes the forecast unless there is one, and returns its target as `plan` takes it.

        The target may be trained only after this. fit and boot: a law and its Bootstrap or Calibrated. cells: the tuned
        runs that `fit` was fitted to. data_column: D in the records. A forecast whose target had finished, or begun, before
        it was written is marked as late and never scored. Raises LawError where this command would train another run than
        the one that the forecast is about.
        """
        import pandas as pd

        if not self.path.exists():
            draft = counts(definition.targets(1e-3)[0], 0)  # N and D do not depend on the rate
            rule = recipe.choose_rate(cells, draft["params_non_embedding"], draft[data_column], data_column)
            rate = float(f"{rule.rate:.3g}")
            targets = definition.targets(rate)
            target = targets[0]
            if target.optim.learning_rate == rate:
                say(rule.sentence)
            names = self._names(self.plan_targets(targets), targets)
            source = self.runner.source(target)
            about = counts(target, target.data.available(source)) | {
                "fingerprint": names[0], "learning_rate": target.optim.learning_rate,
                "data_fingerprint": source.fingerprint, "experiment": experiments.to_dict(target)}
            about |= {"seeds": names} if names[1:] else {}
            begun, older = bool({*names} & {*self.runner.held()}), self._forked_from()
            tables = [table for table in map(records.load_records, [self.workdir, *older]) if len(table)]
            finished = pd.concat(tables).drop_duplicates("fingerprint")
            try:
                laws.forecast.write(self.path, fit, boot, about, self._hashes(cells["fingerprints"].explode()),
                                    finished=finished, begun=begun, late="mark", older=older)
            except laws.LawError:
                if not self.path.exists():
                    raise  # with a file, another process on this workdir was first, and its forecast counts
        written = laws.forecast.read(self.path)
        self._compare_target(written)
        low, high = written["interval"]
        ratio = f", at {written['compute_ratio']:.1f} times the compute" if written["compute_ratio"] else ""
        seeds = planned.target_names(written["target"])
        say(f"forecast: {written['metric']} {written['predicted']:.4f}, {written['level']:.0%} interval "
            f"[{low:.4f}, {high:.4f}]{ratio}{f', for the mean of {len(seeds)} seeds' if seeds[1:] else ''}; in {self.path}")
        if parts := written.get("parts"):
            say(f"forecast, {laws.describe_parts(parts)}")
        if naive := written.get("naive"):
            say(f"forecast without the law: {', '.join(f'{name} {value:.4f}' for name, value in naive.items())}")
        for sentence in laws.forecast.verify(self.path).sentences:
            say(f"note: {sentence}")
        named = ("experiment", "fingerprint", "seeds")
        return {name: value for name, value in written["target"].items() if name in named}

    def plan_targets(self, targets: list[experiments.Experiment], named=()) -> Plan:
        """The plan that trains the target with each of its seeds, side by side where there are several devices."""
        first, mesh = targets[0], self.runner.options.mesh
        together = runs_at_once(jax.device_count(), mesh, first.layout) if targets[1:] else 1
        return self.runner.plan(targets, min(together, len(targets)), "target", named=named)

    def plan(self, target: dict) -> Plan:
        """The plan that trains the target of the forecast, under the name that it was registered with where that can be."""
        names = planned.target_names(target)
        return self.plan_targets(with_seeds(experiments.from_dict(target["experiment"]), len(names)), named=names)

    def _names(self, plan: Plan, targets: list[experiments.Experiment]) -> list[str]:
        """The names of the targets, in their order."""
        named = {run.experiment: run.fingerprint for run in plan.runs}
        return [named[target] for target in targets]

    def check(self, say) -> None:
        """Compares the forecast with the result of its target, and says the verdict or why there is none.

        Raises LawError where the forecast cannot be scored because it, its data or its runs have changed.
        """
        written = laws.forecast.read(self.path)
        self._compare_target(written)
        if late := written.get("registered_late"):
            say(f"no verdict: the forecast was registered late, so that it is no forecast: {late['reason']}")
            return
        names, metric = planned.target_names(written["target"]), written["metric"]
        for name in names:
            if not self.runner.records.done(name):
                raise laws.LawError(f"{self.path} cannot be checked: the record of its target {name} in records/ is gone "
                                    "or damaged; run the command again, which trains the target again")
        found = [self.runner.records.read(name) for name in names]
        if lost := [record for record in found if record["diverged"]]:
            seed = f" with seed {lost[0]['seed']}" if names[1:] else ""
            say(f"the target{seed} diverged at step {lost[0]['diverged_step']}: the forecast cannot be checked")
            return
        problems = laws.forecast.verify(self.path).problems
        if problems and laws.forecast.score_path(self.path).exists():  # it was scored, and something changed since
            say(f"no verdict: {' '.join(problems)}")
            return
        if any(metric not in record for record in found):
            raise laws.LawError(f"{self.path} forecasts {metric}, which the record of its target does not have: the metric "
                                "of the study has changed; write it as it was, or choose another --workdir")
        hashes = self._hashes(written["records"], written.get("records_without") or ())
        values = [record[metric] for record in found]
        if values[1:]:
            say(f"the target reached {', '.join(f'{value:.4f}' for value in values)}, by seed; their mean counts")
        say(laws.forecast.check(self.path, float(np.mean(values)), hashes)["verdict"])

    def _compare_target(self, written) -> None:
        """Raises LawError if the target of the forecast has another name now, so that it could never be checked."""
        target = experiments.from_dict(written["target"]["experiment"])
        wanted = written["target"]["fingerprint"]
        now = self._names(self.plan(written["target"]), [target])[0]
        if now == wanted:
            return
        before, data = written["target"].get("data_fingerprint"), self.runner.source(target).fingerprint
        if before is None:  # a forecast of an older version; its fitted runs have the same data
            held = [self.runner.records.read(name) for name in written["records"] if self.runner.records.finished(name)]
            before = next((record["data_fingerprint"] for record in held if "data_fingerprint" in record), data)
        why = (f"the data {target.data.name} have changed since (fingerprint {before}, now {data})" if before != data
               else "the code or the settings that name a run have changed since")
        undo = "restore the data" if before != data else "go back to the version that wrote it"
        raise laws.LawError(f"{os.fspath(self.path)} is a forecast of the run {wanted}, and this command would train "
                            f"{now} instead: {why}; {undo}, or choose another --workdir for a study of its own")

    def _forked_from(self) -> list[epath.Path]:
        """The workdirs that this one was forked from, as far as they are still there: their targets have finished too."""
        found, at = [], self.workdir
        while (path := at / "study.json").exists() and (name := files.read_json(path).get("forked_from")):
            at = epath.Path(name)
            if at in found or not at.is_dir():
                break
            found.append(at)
        return found

    def _hashes(self, fingerprints: Iterable[str], *without) -> dict[str, str]:
        """The hashes of finished runs, as the forecast has them that hashed all fields but `without`."""
        done = [f for f in fingerprints if self.runner.records.finished(f)]
        return laws.record_hashes((self.runner.records.read(f) for f in done), *without)
