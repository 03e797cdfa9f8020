"""The learning rate and the weight decay of runs by a rule in their amount of data and batch, so that one rate serves all.

The best rate falls with the horizon and grows with the batch:

    rate = base rate * (D / D0)^horizon * (batch / batch0)^batch_power * (width / width0)^width_power

with a horizon of -0.32 (Bjorck et al. 2409.19913, AdamW) to -0.28 in publications, and 1/2 for the batch, the rule of Adam
and other normalised updates (Malladi et al. 2205.10287). It holds below the critical batch size
(`results.rates.critical_batch`). AdamW averages its updates over about 1 / (rate weight_decay) steps; a timescale that is a
fixed share of the run serves other lengths, rates and sizes (Wang & Aitchison 2405.13698). The parametrisation carries the
rate over widths; a power of the width is for what a pilot shows beyond that.

The rule sets the fields of the experiments. Records, curves and names of runs therefore hold the peak rate and the decay
that were in force, and runs of different lengths, whose rates differ, do not share a trunk.
"""

import dataclasses
from collections.abc import Iterable

from scaling.experiment.experiment import Experiment
from scaling.experiment.sweep import chain
from scaling.fields import ConfigError

HORIZON, BATCH_POWER = -0.3, 0.5
DIGITS = 3  # of rates and decays, so that records stay legible


@dataclasses.dataclass(frozen=True)
class RateRule:
    """The rule for runs whose learning rates are written for `seen` units of data (tokens or examples) and for batches of
    `batch` examples, and with a `width_power` for models of `width`.

    With a `timescale` above 0, weight decay is set to 1 / (timescale steps rate): the share of a run over which updates are
    averaged.
    """

    seen: float
    batch: float
    horizon: float = HORIZON
    batch_power: float = BATCH_POWER
    timescale: float = 0.0
    width: int = 0
    width_power: float = 0.0

    def __post_init__(self):
        for name, least in (("seen", 1), ("batch", 1)):
            if not getattr(self, name) >= least:
                raise ConfigError(f"a rule with {name}={getattr(self, name)} has no base; write the {name} of the runs "
                                  "that the learning rates are meant for")
        if self.width_power and not self.width >= 1:
            raise ConfigError(f"a rule with width_power={self.width_power} and width={self.width} has no base; write the "
                              "width of the models that the learning rates are meant for")
        if not self.timescale >= 0:
            raise ConfigError(f"a rule with timescale={self.timescale} decays by a negative number; write a share of the "
                              "run such as 0.2, or 0 for optim.weight_decay as it is")

    def factor(self, seen: float, batch: float) -> float:
        """What the rate is multiplied by for a run on `seen` units of data in batches of `batch` examples."""
        return (seen / self.seen) ** self.horizon * (batch / self.batch) ** self.batch_power

    def __call__(self, experiment: Experiment) -> Experiment:
        """The experiment with its rate, and with a timescale its decay, by the rule."""
        data = experiment.data
        factor = self.factor(data.seen, data.batch)
        if self.width_power:
            factor *= (experiment.family.width / self.width) ** self.width_power
        rate = _rounded(experiment.optim.learning_rate * factor)
        changes = {"optim.learning_rate": rate}
        if self.timescale:
            changes["optim.weight_decay"] = _rounded(1 / (self.timescale * data.steps * rate))
        return experiment.replace(changes)


def by_rule(sweep: Iterable[Experiment], rule: RateRule) -> list[Experiment]:
    """A sweep whose learning rates are meant for the base of the rule, as it is at the lengths and batches of its runs:

        by_rule(grid(base, {"data.tokens": [2**18, 2**21], "optim.learning_rate": [4e-3, 8e-3]}), RateRule(2**18, 16))
    """
    return chain([rule(e) for e in sweep])


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
