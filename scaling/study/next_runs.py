"""What experiments.plan stands on: a workdir as something to add runs to, and the plan of what to add."""

import dataclasses
import functools

import numpy as np
import pandas as pd
from etils import epath
from ml_collections import config_dict

from scaling import cost as costs
from scaling import experiment as experiments
from scaling import families, laws
from scaling.fields import ConfigError
from scaling.laws.design import design
from scaling.laws.runs import Runs
from scaling.results import records
from scaling.store import files
from scaling.study import next_config, recipe
from scaling.sweeps.plan import make_plan
from scaling.training.counts import step_flops

FINER = 2 ** 0.5        # between neighbouring candidates of size and of data
ABOVE = 4.0             # how far candidates reach above the runs there are; below the smallest, laws bend
NEAR = 1.05             # a candidate this near to a level there is, is that level
SPACING = 1.6           # between neighbouring learning rates, where only one was ever tried
LEAST_STEPS = 32        # of the shortest run in a first grid


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the flags ask about."""
    params: float | None = None
    data: float | None = None
    compute: float | None = None
    quantity: str | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    text: str                 # for the terminal, and for the docstring of the config
    new: list                 # experiments to add
    target: object = None     # the experiment that is forecast, at any learning rate


@dataclasses.dataclass(frozen=True)
class Rung:
    """A size of the family: its parameters, and the FLOPs that a unit of data costs in training."""
    family: object
    params: int
    flops: float


class Study:
    """What a workdir holds, or a config says of one that is still empty. `runs` is None where nothing was
    trained."""

    def __init__(self, workdir, config=None, module=None, law=None):
        self.workdir, self.module = epath.Path(workdir).expanduser(), module
        self.config = config or self._recorded()
        self.base = experiments.from_config(self.config)
        self.metric, self.unit, self.law = self.config.metric, self.base.data.unit, law or self.config.law
        self.data = f"{self.unit}_seen"
        held = records.Records(self.workdir)
        found = [held.read(name) for name in held.fingerprints() if held.done(name)]
        self.records = {r["fingerprint"]: r for r in found if r["role"] == "sweep"}
        self.bought = {name: self._experiment(record) for name, record in self.records.items()}
        others = {families.name(e.family) for e in self.bought.values()} - {families.name(self.base.family)}
        if others:
            raise ConfigError(
                f"{workdir} holds runs of the family {', '.join(others)}, and the config is of "
                f"{families.name(self.base.family)}: name the config they came from")
        self.runs = Runs.from_workdir(self.workdir, self.metric) if self.bought else None

    def _recorded(self):
        path = self.workdir / "study.json"
        config = files.read_json(path).get("config") if path.exists() else None
        if not config:
            raise ConfigError(
                f"{self.workdir} holds no finished study that says what it is; name its config, such as "
                "--config=configs/quickstart.py")
        return config_dict.ConfigDict(next_config.tuples(config))

    def _experiment(self, record):
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
        """Sizes from low to high by the family's ladder, ascending, with those of the families `keep` as they
        are."""
        rungs = [self.rung(family) for family in keep]
        lowest = type(self.base.family).sizes()[0]
        steps = np.arange(np.log(max(low, lowest)), np.log(high) + 1e-9, np.log(FINER))
        for size in np.exp(steps):
            family = experiments.family_at(self.config, float(f"{size:.3g}"))
            n = costs.param_count(family)["non_embedding"]
            if all(abs(np.log(n / rung.params)) > np.log(NEAR) for rung in rungs):
                rungs.append(self.rung(family))
        return sorted(rungs, key=lambda rung: rung.params)

    def nearest(self, params: float) -> Rung:
        return self.rung(experiments.family_at(self.config, params))

    def units(self, amount: float) -> int:
        """The whole number of steps nearest to an amount of data."""
        each = self.base.data.per_step
        return max(1, round(amount / each)) * each

    def run(self, family, amount, rate, **changes):
        return self.base.replace({"family": family, self.base.data.length_knob: self.units(amount),
                                  "optim.learning_rate": rate, **changes})

    @functools.cached_property
    def together(self):
        """How runs of one size share a trunk, if the schedule has a cooldown."""
        optim = self.base.optim
        return design.trunks(optim.cooldown) if optim.schedule == "wsd" and optim.cooldown > 0 else None

    def forecast_target(self):
        """The experiment of the forecast that the workdir holds, else the config's, else None."""
        path = self.workdir / "forecast.json"
        if path.exists():
            written = laws.forecast.read(path)["target"].get("experiment")
            return written and experiments.from_dict(written)
        target = getattr(self.module, "target", None)
        return target and target(self.config, self.base.optim.learning_rate)


def following(study: Study, budget: float, asked: Asked, rates: int, seeds: int, most: int | None) -> Plan:
    """The runs to add to a study that has some."""
    law = laws.fit(study.runs, study.law, delta="noise", weights="seeds")
    boot = laws.bootstrap(law)
    target, experiment, notes = _target(study, law, asked)
    table = _candidates(study, budget, rates)
    rungs = {rung.params: rung for rung in table.pop("rung")}
    found = design.suggest(boot, table, budget, target=target, together=study.together, seeds=seeds,
                           most=most)
    new, lines = [], []
    for n, rows in found.runs.groupby("N"):
        old = {d: _best(study, n, d) for d in rows["D"]}
        repeats = rows[[old[d] is not None for d in rows["D"]]]
        new += [e for d, again in repeats.groupby("D") for e in _again(study, old[d], len(again))]
        rows = rows.drop(repeats.index)
        if rows.empty:
            continue
        amounts = rows["D"].to_numpy()
        centre = recipe.learning_rate(study.runs.frame, n, np.exp(np.log(amounts).mean()), study.data)
        chosen = _around(centre, _spacing(study), rates)
        lines.append(f"  N = {n:,.0f}: learning rate {', '.join(f'{rate:g}' for rate in chosen)}")
        new += [study.run(rungs[n].family, d, rate, seed=study.base.seed + int(seed))
                for rate in chosen for d, seed in zip(amounts, rows["seed"])]
    text = "\n".join([str(found), *lines, *notes, _bill(new)])
    return Plan(text, new, experiment)


def first(study: Study, budget: float, asked: Asked, rates: int | None) -> Plan:
    """The first runs of a study, and the run that its forecast is to be checked by."""
    if asked.compute or asked.quantity:
        raise ConfigError(
            f"{study.workdir} holds no runs yet, so there is no law to ask about; a first grid is planned "
            "for --target_params and --target_data, or for the largest run it can pay")
    tried = [study.base.optim.learning_rate]
    if "learning_rates" in study.config:  # as the studies of configs/ call those they try at every size
        tried = list(study.config.learning_rates)
    if rates:
        tried = _around(float(np.exp(np.log(tried).mean())), _gap(tried), rates)
    each = study.base.data.per_step
    rungs = study.ladder(0.0, max(2 * type(study.base.family).sizes()[0], (budget / 100) ** 0.5))
    sizes, price = np.array([rung.params for rung in rungs], float), np.array([rung.flops for rung in rungs])

    def cost(n, d):
        return np.exp(np.interp(np.log(n), np.log(sizes), np.log(price))) * d

    def together(frame, masks):
        shared = study.together or (lambda frame, masks: masks @ frame["cost"].to_numpy())
        return len(tried) * shared(frame, masks)

    target = None
    if asked.params:
        nearest = np.abs(np.log(sizes / asked.params)).argmin()
        target = {"N": float(sizes[nearest]), "D": float(study.units(asked.data))}
    least = max(LEAST_STEPS, 2 * study.base.optim.warmup) * each
    grid = design.first_grid(budget, target=target, sizes=sizes, data=(least, np.inf), cost=cost,
                             together=together)
    by_size = {rung.params: rung for rung in rungs}
    new = [study.run(by_size[n].family, d, rate)
           for n, rows in grid.runs.groupby("N") for rate in tried for d in rows["D"]]
    held = study.run(by_size[grid.held_out["N"]].family, grid.held_out["D"], tried[0])
    named = ", ".join(f"{rate:g}" for rate in tried)
    return Plan("\n".join([str(grid), f"  each with learning rate {named}", _bill(new)]), new, held)


def _target(study: Study, law, asked: Asked):
    """(what the design is to make certain, the experiment that is forecast, notes)."""
    cost = laws.counted(study.runs)
    held, notes = study.forecast_target(), []
    if asked.quantity == "best_size":
        return design.best_size(asked.compute, cost), held, notes
    if asked.quantity:
        return design.quantity(asked.quantity), held, notes
    if asked.params or asked.compute:
        point = {"N": asked.params, "D": asked.data}
        if asked.compute:
            best = laws.frontier(law, asked.compute, cost).iloc[0]
            point = {"N": best["params"], "D": best["data"]}
        wanted = study.run(study.nearest(point["N"]).family, point["D"], study.base.optim.learning_rate)
        if (study.workdir / "forecast.json").exists():
            notes.append("  note: the workdir holds a forecast, which is never rewritten; to forecast this "
                         "target too, copy its records/ to a new workdir and run the config there")
        else:
            held = wanted
        goal = design.best_loss(asked.compute, cost) if asked.compute else design.loss_at(**point)
        return goal, held, notes
    if held is None:
        raise ConfigError("what are the runs to tell? Name --target_params and --target_data, "
                                      "--target_compute or --quantity, or a --config with a target")
    return design.loss_at(N=float(study.rung(held.family).params), D=float(held.data.seen)), held, notes


def _candidates(study: Study, budget: float, rates: int):
    """A DataFrame of N, D, cost and rung: sizes and amounts of data around and among those there are."""
    frame = study.runs.frame
    there = {e.family: None for name, e in study.bought.items() if name in set(frame["fingerprint"])}
    sizes, seen = frame["params_non_embedding"], np.sort(frame[study.data].unique())
    rungs = study.ladder(sizes.min(), sizes.max() * ABOVE, list(there))
    amounts = [*seen]
    for amount in np.exp(np.arange(np.log(seen[0]), np.log(seen[-1] * ABOVE) + 1e-9, np.log(FINER))):
        if all(abs(np.log(amount / other)) > np.log(NEAR) for other in amounts):
            amounts.append(study.units(amount))
    most = _available(study)
    amounts = [amount for amount in sorted(set(amounts)) if amount in seen or amount <= most]
    rows = [(rung.params, amount, rates * rung.flops * amount, rung) for rung in rungs for amount in amounts]
    return pd.DataFrame(rows, columns=["N", "D", "cost", "rung"])


def _available(study: Study) -> float:
    """How much different data there is, as far as runs that saw more than that tell."""
    frame = study.runs.frame
    unique = frame[f"{study.unit}_unique"]
    repeated = frame[study.data] > unique
    return float(unique.max()) if repeated.any() else np.inf


def _best(study: Study, n: float, d: float):
    """The experiment of the best run that there is at a point, None where there is none."""
    frame = study.runs.frame
    near = np.abs(np.log(frame[study.data] / d)) < np.log(NEAR)
    there = frame[(frame["params_non_embedding"] == n) & near]
    return None if there.empty else study.bought[there["fingerprint"].iloc[0]]


def _again(study: Study, best, count: int) -> list:
    """`best` with `count` seeds that it has not had."""
    used = max(e.seed for e in study.bought.values() if e.replace({"seed": best.seed}) == best)
    return [best.replace({"seed": used + 1 + i}) for i in range(count)]


def _around(centre: float, spacing: float, count: int) -> list[float]:
    return [float(f"{centre * spacing ** (i - (count - 1) / 2):.3g}") for i in range(count)]


def _spacing(study: Study) -> float:
    return _gap([e.optim.learning_rate for e in study.bought.values()])


def _gap(rates) -> float:
    """The usual factor between neighbouring learning rates."""
    steps = np.diff(np.log(sorted(set(rates))))
    return float(np.exp(np.median(steps))) if len(steps) else SPACING


def _bill(new) -> str:
    plan = make_plan(new, lambda e: "", 1)
    return f"{len(plan.runs)} new runs, {plan.flops():.3g} FLOPs as counted, trunks shared"
