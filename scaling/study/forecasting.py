"""The forecast stage of a study: a target is predicted on record before it is trained, and the prediction checked after."""

from collections.abc import Callable, Iterable

import pandas as pd
from etils import epath

from scaling import experiment as experiments
from scaling import laws
from scaling.study import recipe
from scaling.sweeps import runner as runners
from scaling.training.counts import counts


class Forecasting:
    """The forecast of one workdir. `runner` trains the runs of the workdir and reads their records."""

    def __init__(self, workdir: epath.Path, runner: runners.Runner):
        self.path, self.runner = workdir / "forecast.json", runner

    def write(self, make_target: Callable[[float], experiments.Experiment], fit, boot, cells: pd.DataFrame,
              data_column: str, say) -> dict:
        """Writes the forecast unless there is one, and returns its target's experiment as a dict.

        The target may be trained only after this. make_target: the target from its learning rate. cells: the tuned runs
        that `fit` was fitted to. data_column: D in the records.
        """
        if not self.path.exists():
            draft = counts(make_target(1e-3), 0)  # N and D do not depend on the rate
            rate = recipe.learning_rate(cells, draft["params_non_embedding"], draft[data_column], data_column)
            target = make_target(float(f"{rate:.3g}"))
            run = self.runner.plan([target], 1, "target").runs[0]
            about = counts(target, target.data.available(self.runner.source(target))) | {
                "fingerprint": run.fingerprint, "learning_rate": target.optim.learning_rate,
                "experiment": experiments.to_dict(target)}
            try:
                laws.forecast.write(self.path, fit, boot, about, self._hashes(cells["fingerprints"].explode()))
            except laws.LawError:
                if not self.path.exists():
                    raise  # with a file, another process on this workdir was first, and its forecast counts
        written = laws.forecast.read(self.path)
        low, high = written["interval"]
        say(f"forecast: {written['metric']} {written['predicted']:.4f}, {written['level']:.0%} interval "
            f"[{low:.4f}, {high:.4f}], at {written['compute_ratio']:.1f} times the compute; in {self.path}")
        return written["target"]["experiment"]

    def check(self, say) -> None:
        """Compares the forecast with the result of its target."""
        written = laws.forecast.read(self.path)
        record = self.runner.records.read(written["target"]["fingerprint"])
        if record["diverged"]:
            say(f"the target diverged at step {record['diverged_step']}: the forecast cannot be checked")
            return
        result = laws.forecast.check(self.path, record[written["metric"]], self._hashes(written["records"]))
        say(f"observed: {result['observed']:.4f}, error {result['relative_error']:+.2%}, "
            f"{'inside' if result['inside'] else 'outside'} the interval")

    def _hashes(self, fingerprints: Iterable[str]) -> dict[str, str]:
        done = [f for f in fingerprints if self.runner.records.done(f)]
        return laws.record_hashes(self.runner.records.read(f) for f in done)
