"""A workdir as something to add runs to: the config, the runs trained so far, and the family's ladder of sizes."""

import dataclasses
import functools

import numpy as np
from etils import epath
from ml_collections import config_dict

from scaling import cost as costs
from scaling import experiment as experiments
from scaling import families, laws
from scaling.experiment import Experiment
from scaling.fields import ConfigError
from scaling.laws.design.grid import trunks
from scaling.results import planned, records
from scaling.store import files
from scaling.study.configs import held_parameters
from scaling.training.counts import step_flops

FINER = 2 ** 0.5        # between neighbouring sizes, and amounts of data, that may be bought
NEAR = 1.05             # a size or an amount within this factor of an existing one is the same


@dataclasses.dataclass(frozen=True)
class Rung:
    """A size of the family: its parameters, and the training FLOPs of one token or example."""
    family: families.Family
    params: int
    flops: float


class Workspace:
    """The runs that a workdir holds and its config; `runs` is None while nothing was trained.

    config and module: the config and its Python module. Without them the config is read from the workdir's
    study.json. law: the law to fit; by default the study's. `unfinished` are the runs that the study of the
    workdir plans and has not finished. Raises ConfigError where there is no config, or where the workdir holds
    runs of another family.
    """

    def __init__(self, workdir, config=None, module=None, law: str | None = None):
        self.workdir, self.module = epath.Path(workdir).expanduser(), module
        self.config = config or self._recorded()
        self.base = experiments.from_config(self.config)
        self.metric, self.unit, self.law = self.config.metric, self.base.data.unit, law or self._law()
        self.fix = held_parameters(self.config.get("fix", ""))
        self.data = f"{self.unit}_seen"
        held, runs = records.Records(self.workdir), planned.planned_runs(self.workdir)
        known = [name for name in held.fingerprints() if runs is None or name in runs]  # the others are of other studies
        found = [held.read(name) for name in known if held.done(name)]
        self.unfinished = sorted((runs or set()) - {r["fingerprint"] for r in found} - {*planned.forecast_targets(workdir)})
        self.records = {r["fingerprint"]: r for r in found if r["role"] == "sweep"}
        self.bought = {name: self._experiment(record) for name, record in self.records.items()}
        if self.base.start is not None or any(e.start is not None for e in self.bought.values()):
            raise ConfigError(f"{workdir} is of runs that begin with other runs, for which no config can be proposed: add "
                              "sizes and amounts of data to the sweep of its own config")
        others = {families.name(e.family) for e in self.bought.values()} - {families.name(self.base.family)}
        if others:
            raise ConfigError(
                f"{workdir} holds runs of the family {', '.join(others)}, and the config is of "
                f"{families.name(self.base.family)}: name the config of these runs with --config")
        self.runs = laws.Runs.from_workdir(self.workdir, self.metric) if self.bought else None

    def _law(self) -> str:
        """The law of the config or, under a rule that chooses one, the one that it chose. Additive before it did."""
        rule = self.config.law in laws.RULES
        return laws.settings_of_study(self.workdir).get("law", "chinchilla") if rule else self.config.law

    def _recorded(self) -> config_dict.ConfigDict:
        path = self.workdir / "study.json"
        config = files.read_json(path).get("config") if path.exists() else None
        if not config:
            raise ConfigError(f"{self.workdir} holds no study, so its config is unknown; name it, such as "
                              "--config=configs/quickstart.py")
        return config_dict.ConfigDict(as_tuples(config))

    def _experiment(self, record) -> Experiment:
        try:
            return experiments.from_dict(record["experiment"])
        except (KeyError, TypeError) as error:
            raise records.RecordError(f"the record {record['fingerprint']} does not say what its experiment "
                                      f"was ({error}), so no config can name it") from None

    def rung(self, family) -> Rung:
        e = self.base.replace({"family": family})
        params = int(costs.param_count(family)["non_embedding"])
        return Rung(family, params, step_flops(e) / e.data.per_step)

    def ladder(self, low: float, high: float, keep=()) -> list[Rung]:
        """Sizes from low to high parameters by the family's ladder, ascending, and the families in `keep`."""
        rungs = [self.rung(family) for family in keep]
        lowest = type(self.base.family).sizes()[0]
        steps = np.arange(np.log(max(low, lowest)), np.log(high) + 1e-9, np.log(FINER))
        for size in np.exp(steps):
            family = experiments.family_at(self.config, float(f"{size:.3g}"))
            n = costs.param_count(family)["non_embedding"]
            if all(abs(np.log(n / rung.params)) > np.log(NEAR) for rung in rungs):
                rungs.append(self.rung(family))
        return sorted(rungs, key=lambda rung: rung.params)

    def rung_near(self, params: float) -> Rung:
        """The size of the ladder that is nearest to a number of parameters."""
        return self.rung(experiments.family_at(self.config, params))

    def whole_steps(self, amount: float) -> int:
        """The amount of data of the nearest whole number of steps, at least one."""
        each = self.base.data.per_step
        return max(1, round(amount / each)) * each

    def run(self, family, amount: float, rate: float, **changes) -> Experiment:
        """The experiment of a family on an amount of data at a learning rate."""
        return self.base.replace({"family": family, self.base.data.length_knob: self.whole_steps(amount),
                                  "optim.learning_rate": rate, **changes})

    @functools.cached_property
    def together(self):
        """The cost of runs that share a trunk (see `laws.suggest`), or None if the schedule has no cooldown."""
        optim = self.base.optim
        return trunks(optim.cooldown) if optim.schedule == "wsd" and optim.cooldown > 0 else None

    def forecast_target(self) -> Experiment | None:
        """The target of the forecast in the workdir, else that of the config, else None."""
        path = self.workdir / "forecast.json"
        if path.exists():
            written = laws.forecast.read(path)["target"].get("experiment")
            return written and experiments.from_dict(written)
        target = getattr(self.module, "target", None)
        return target and target(self.config, self.base.optim.learning_rate)

    def available(self) -> float:
        """The amount of unique data, as far as runs tell that repeated it; else infinite."""
        frame = self.runs.frame
        unique = frame[f"{self.unit}_unique"]
        repeated = frame[self.data] > unique
        return float(unique.max()) if repeated.any() else np.inf

    def best_run(self, params: float, amount: float) -> Experiment | None:
        """The best run of a size and an amount of data, None if there is none."""
        frame = self.runs.frame
        near = np.abs(np.log(frame[self.data] / amount)) < np.log(NEAR)
        there = frame[(frame["params_non_embedding"] == params) & near]
        return None if there.empty else self.bought[there["fingerprint"].iloc[0]]


def as_tuples(value):
    """`value` with its lists as tuples: JSON has no tuples, and configs have no lists."""
    if isinstance(value, dict):
        return {name: as_tuples(v) for name, v in value.items()}
    return tuple(map(as_tuples, value)) if isinstance(value, (list, tuple)) else value
