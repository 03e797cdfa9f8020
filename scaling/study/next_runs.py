"""Proposals of runs to train next: runs to add to a study, or the first runs of a new one."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from scaling import families, laws
from scaling.experiment import Experiment
from scaling.fields import ConfigError
from scaling.laws.design.targets import Target
from scaling.study import recipe
from scaling.study.workspace import FINER, NEAR, Workspace
from scaling.sweeps.plan import make_plan

ABOVE = 4.0             # candidates reach this many times above the runs there are; below the smallest, laws bend
SPACING = 1.6           # factor between neighbouring learning rates, where only one was ever tried
LEAST_STEPS = 32        # steps of the shortest run in a first grid


@dataclasses.dataclass(frozen=True)
class Goal:
    """The number that the new runs are to make more certain.

    It is the loss of a run of `params` parameters on `data` tokens or examples, the loss of the best model for
    `compute` FLOPs (with quantity="best_size": its size), or the parameter `quantity` of the law. With no field
    set, it is the loss of the study's forecast.
    """
    params: float | None = None
    data: float | None = None
    compute: float | None = None
    quantity: str | None = None


@dataclasses.dataclass(frozen=True)
class Proposal:
    """text: for the terminal and the docstring of the config. found: the same as JSON values. new: the experiments to add.
    target: the experiment whose loss is forecast, at any learning rate."""
    text: str
    found: dict
    new: list[Experiment]
    target: Experiment | None = None


def propose_next(space: Workspace, budget: float, goal: Goal, rates: int = 1, seeds: int = 1,
                 most: int | None = None) -> Proposal:
    """The runs to add to a workspace that has some, within `budget` FLOPs.

    rates: learning rates at each new size. seeds: the most runs at one size and amount of data, with those
    already trained. most: the most new sizes and amounts of data. Raises LawError where the budget buys nothing.
    """
    law = laws.fit(space.runs, space.law, fix=space.fix, delta="noise", weights="seeds")
    boot = laws.bootstrap(law)
    target, experiment, notes = _target(space, law, goal)
    table = _candidates(space, rates)
    rungs = {rung.params: rung for rung in table.pop("rung")}
    found = laws.suggest(boot, table, budget, target=target, together=space.together, seeds=seeds, most=most)
    spacing = _typical_factor([e.optim.learning_rate for e in space.bought.values()])
    new, lines, rates_of = [], [], {}
    for n, rows in found.runs.groupby("N"):
        old = {d: space.best_run(n, d) for d in rows["D"]}
        repeated = np.array([old[d] is not None for d in rows["D"]])
        for d, again in rows[repeated].groupby("D"):
            new += _new_seeds(space, old[d], len(again))
        rows = rows[~repeated]
        if rows.empty:
            continue
        amounts = rows["D"].to_numpy()
        if families.is_solved(rungs[n].family):
            chosen = [space.base.optim.learning_rate]  # which nothing reads
        else:
            centre = recipe.learning_rate(space.runs.frame, n, np.exp(np.log(amounts).mean()), space.data)
            chosen = rates_of[f"{n:.0f}"] = _around(centre, spacing, rates)
            lines.append(f"  N = {n:,.0f}: learning rate {', '.join(f'{rate:g}' for rate in chosen)}")
        new += [space.run(rungs[n].family, d, rate, seed=space.base.seed + int(seed))
                for rate in chosen for d, seed in zip(amounts, rows["seed"])]
    text = "\n".join([str(found), *lines, *notes, _bill(new)])
    said = found.to_json()
    return Proposal(text, said | {"learning_rates": rates_of, "notes": [*said["notes"], *map(str.strip, notes)]}, new,
                    experiment)


def propose_first(space: Workspace, budget: float, goal: Goal, rates: int | None = None) -> Proposal:
    """The first runs of a workspace, and the run that will check their forecast, within `budget` FLOPs.

    rates: learning rates at each size; by default those of the config. Raises ConfigError for a goal that needs
    a law, and LawError where the budget pays for no grid.
    """
    if goal.compute or goal.quantity:
        raise ConfigError(
            f"{space.workdir} holds no runs yet, so there is no law to ask about: a first grid is planned for "
            "--target_params and --target_data, or for the largest run that the budget pays for")
    tried = [space.base.optim.learning_rate]
    if "learning_rates" in space.config:  # the studies of configs/ try these at every size
        tried = list(space.config.learning_rates)
    if rates:
        tried = _around(float(np.exp(np.log(tried).mean())), _typical_factor(tried), rates)
    each = space.base.data.per_step
    rungs = space.ladder(0.0, max(2 * type(space.base.family).sizes()[0], (budget / 100) ** 0.5))
    sizes, price = np.array([rung.params for rung in rungs], float), np.array([rung.flops for rung in rungs])

    def cost(n, d):
        return np.exp(np.interp(np.log(n), np.log(sizes), np.log(price))) * d

    def together(frame, masks):
        if space.together:
            return len(tried) * space.together(frame, masks)
        return len(tried) * (masks @ frame["cost"].to_numpy())

    target = None
    if goal.params:
        near = np.abs(np.log(sizes / goal.params)).argmin()
        target = {"N": float(sizes[near]), "D": float(space.whole_steps(goal.data))}
    least = max(LEAST_STEPS, 2 * space.base.optim.warmup) * each
    grid = laws.first_grid(budget, target=target, sizes=sizes, data=(least, np.inf), cost=cost, together=together)
    by_size = {rung.params: rung for rung in rungs}
    new = [space.run(by_size[n].family, d, rate)
           for n, rows in grid.runs.groupby("N") for rate in tried for d in rows["D"]]
    held = space.run(by_size[grid.held_out["N"]].family, grid.held_out["D"], tried[0])
    named = ", ".join(f"{rate:g}" for rate in tried)
    rates_of = {f"{n:.0f}": tried for n in sorted(set(grid.runs["N"]))}
    text = "\n".join([str(grid), f"  each with learning rate {named}", _bill(new)])
    return Proposal(text, grid.to_json() | {"learning_rates": rates_of}, new, held)


def _target(space: Workspace, law: laws.Fit, goal: Goal) -> tuple[Target, Experiment | None, list[str]]:
    """(the target of the design, the experiment that is forecast, notes)."""
    cost = laws.counted(space.runs)
    held, notes = space.forecast_target(), []
    if goal.quantity == "best_size":
        return laws.best_size(goal.compute, cost), held, notes
    if goal.quantity:
        return laws.quantity(goal.quantity), held, notes
    if goal.params or goal.compute:
        point = {"N": goal.params, "D": goal.data}
        if goal.compute:
            best = laws.frontier(law, goal.compute, cost).iloc[0]
            point = {"N": best["params"], "D": best["data"]}
        wanted = space.run(space.rung_near(point["N"]).family, point["D"], space.base.optim.learning_rate)
        if (space.workdir / "forecast.json").exists():
            notes.append("  note: the workdir holds a forecast, which is never rewritten; to forecast this "
                         "target too, copy its records/ to a new workdir and run the config there")
        else:
            held = wanted
        target = laws.best_loss(goal.compute, cost) if goal.compute else laws.loss_at(**point)
        return target, held, notes
    if held is None:
        raise ConfigError("the new runs have no goal: name --target_params and --target_data, --target_compute or "
                          "--quantity, or a --config with a target")
    return laws.loss_at(N=float(space.rung(held.family).params), D=float(held.data.seen)), held, notes


def _candidates(space: Workspace, rates: int) -> pd.DataFrame:
    """N, D, cost and rung of sizes and amounts of data among and around those there are."""
    frame = space.runs.frame
    used = set(frame["fingerprint"])
    there = dict.fromkeys(e.family for name, e in space.bought.items() if name in used)
    sizes, seen = frame["params_non_embedding"], np.sort(frame[space.data].unique())
    rungs = space.ladder(sizes.min(), sizes.max() * ABOVE, list(there))
    amounts = [*seen]
    for amount in np.exp(np.arange(np.log(seen[0]), np.log(seen[-1] * ABOVE) + 1e-9, np.log(FINER))):
        if all(abs(np.log(amount / other)) > np.log(NEAR) for other in amounts):
            amounts.append(space.whole_steps(amount))
    most = space.available()
    amounts = [amount for amount in sorted(set(amounts)) if amount in seen or amount <= most]
    rows = [(rung.params, amount, rates * rung.flops * amount, rung) for rung in rungs for amount in amounts]
    return pd.DataFrame(rows, columns=["N", "D", "cost", "rung"])


def _new_seeds(space: Workspace, best: Experiment, count: int) -> list[Experiment]:
    """The experiment `best` with `count` seeds that it has not had."""
    used = max(e.seed for e in space.bought.values() if e.replace({"seed": best.seed}) == best)
    return [best.replace({"seed": used + 1 + i}) for i in range(count)]


def _around(centre: float, spacing: float, count: int) -> list[float]:
    return [float(f"{centre * spacing ** (i - (count - 1) / 2):.3g}") for i in range(count)]


def _typical_factor(rates: Sequence[float]) -> float:
    """The median factor between neighbouring learning rates."""
    steps = np.diff(np.log(sorted(set(rates))))
    return float(np.exp(np.median(steps))) if len(steps) else SPACING


def _bill(new: list[Experiment]) -> str:
    plan = make_plan(new, lambda e: "", 1)
    return f"{len(plan.runs)} new runs, {plan.flops():.3g} FLOPs as counted, trunks shared"
