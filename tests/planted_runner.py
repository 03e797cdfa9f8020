"""A runner that writes planted results in place of training, and can be killed after any number of runs."""

import dataclasses

import numpy as np

from scaling.experiment import to_dict
from scaling.sweeps.runner import Runner, TrainingOptions
from scaling.training.counts import counts

METRIC = "bits_per_byte"


class Killed(Exception):
    """Stands for kill -9."""


@dataclasses.dataclass
class Bar:
    """A progress bar that keeps what it prints and how much work it was told of."""
    said: list = dataclasses.field(default_factory=list)
    total: float = 0.0

    def update(self, amount=0.0, text=None):
        pass

    def print(self, message):
        self.said.append(message)

    def extend(self, amount):
        self.total += amount


class PlantedRunner(Runner):
    """The loss of a run is a Chinchilla surface times a parabola in log learning rate about `best(N, D)`.

    A `surface(N, D, rate)` takes its place where there is one. Rates above `diverges` diverge. `left` is how many runs are
    finished before the process is killed; None is all.
    """

    best = staticmethod(lambda n, d: 6e-3)
    diverges, left, surface = float("inf"), None, None

    def __init__(self, workdir, options=None):
        super().__init__(workdir, options or TrainingOptions())
        self.trained = []  # runs that this process finished

    def run(self, plan, progress, then=None):
        for run in plan.runs:
            if not self.records.done(run.fingerprint):
                if self.left is not None and len(self.trained) >= self.left:
                    raise Killed
                self.records.write(self.record(run))
                self.trained.append(run)

    def record(self, run):
        e = run.experiment
        made, rate = counts(e, e.data.available(self.source(e))), e.optim.learning_rate
        n, d = made["params_non_embedding"], made["tokens_seen"]
        loss = (1 + 20 * n ** -0.3 + 60 * d ** -0.5) * (1 + 0.05 * np.log(rate / self.best(n, d)) ** 2)
        loss *= np.exp(0.0005 * np.sin(n + 3 * d + 7 * e.seed))
        loss = self.surface(n, d, rate) if self.surface is not None else loss
        bad = rate > self.diverges
        return {"fingerprint": run.fingerprint, "role": run.role, "family": "transformer", **made, "learning_rate": rate,
                "weight_decay": e.optim.weight_decay, "seed": e.seed, METRIC: None if bad else float(loss), "diverged": bad,
                "diverged_step": 3 if bad else None, "seconds": 1.0, "data_fingerprint": self.content(e),
                "experiment": to_dict(e), "versions": {"python": "3"}, "git_commit": None,
                "finished": "2100-01-01T00:00:00+00:00"}
