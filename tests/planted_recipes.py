"""Two recipes on one ladder, simulated: the truth of the speed-up is known at every rung and at the target."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from scaling.laws.recipes.ladder import Ladder, make_ladder


class Planted(NamedTuple):
    """first: the speed-up at the smallest rung. decade: the factor by which a tenfold of compute multiplies it. noise: the
    relative standard deviation of the loss of a run, of whose variance runs of one seed share the part `shared`."""
    first: float = 1.3
    decade: float = 1.0
    seeds: int = 3
    rungs: int = 5
    noise: float = 0.003
    shared: float = 0.8
    paired: bool = True
    cost: float = 1.0     # FLOPs of the change over those of the base at each rung

    @property
    def flops(self):
        return np.geomspace(1e15, 1e17, self.rungs)

    def speedup(self, flops):
        return self.first * self.decade ** np.log10(np.asarray(flops) / self.cost / 1e15)


def loss(flops):
    """The planted law of the base."""
    return 1.2 + 20 * np.asarray(flops) ** -0.09


def table(plan: Planted, rng) -> pd.DataFrame:
    """The runs of both recipes, with the columns recipe, flops, loss, seed and rung."""
    rows = []
    for rung, flops in enumerate(plan.flops):
        for seed in range(plan.seeds):
            luck = rng.standard_normal()
            for recipe, spent in (("base", flops), ("change", flops * plan.cost)):
                value = loss(spent if recipe == "base" else spent * plan.speedup(spent))
                own = np.sqrt(plan.shared) * luck + np.sqrt(1 - plan.shared) * rng.standard_normal()
                rows.append((recipe, spent, float(value * np.exp(plan.noise * own)), seed, rung))
    return pd.DataFrame(rows, columns=["recipe", "flops", "loss", "seed", "rung"])


def ladders(plan: Planted, rng) -> tuple[Ladder, Ladder]:
    runs = table(plan, rng)
    base, change = (make_ladder(name, "loss", runs[runs["recipe"] == name].drop(columns="recipe"), plan.paired)
                    for name in ("base", "change"))
    return base, change
