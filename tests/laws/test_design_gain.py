"""Runs chosen by `suggest` pay: they beat a log-uniform grid and random choice of equal cost."""
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from scaling.laws import bootstrap, get_form, suggest
from scaling.laws.design.design import simulate
from scaling.laws.design.search import Information, natural, slopes
from tools import bench_design as bench


@pytest.mark.parametrize("name", ["chinchilla", "no_smaller"])
def test_suggested_runs_forecast_better_than_a_grid_and_than_chance_of_equal_cost(name):
    """The standard errors are those of least squares at the planted law, so a few seeds are enough. Runs are chosen
    from noisy first fits. Standard errors scatter by less than 1% between seeds (random choice by 10%). The grid has
    1.6 and 1.4 times the standard error of the suggested runs, and random choice 1.9 and 2.1 times. So 1.3 leaves
    room for another search, but not for one that does not work. `tools/bench_design.py` prints the errors of fits
    over many seeds."""
    contest, found = bench.CONTESTS[name], []
    first = bench.points(contest, (contest.levels, contest.levels), wide=False)
    budget = contest.more * first["cost"].sum()
    for seed in range(4):
        run = simulate(contest.surface, noise=contest.noise, seed=seed)
        drawn = bootstrap(bench.fitted(contest, first.assign(loss=run(first))), draws=64, seed=seed)
        suggested = suggest(drawn, bench.candidates(contest), budget, target=contest.target)
        chance = bench.random_runs(contest, budget, np.random.default_rng(seed))
        found.append([bench.theory(contest, more) for more in (suggested.runs, chance)] + [suggested.se_after])
    own, chance, promised = map(bench.rms, zip(*found))
    uniform = bench.theory(contest, bench.uniform_grid(contest, budget))
    assert uniform > 1.3 * own and chance > 1.3 * own
    assert own / 1.5 < promised < 1.5 * own  # the design promises what theory gives


def test_on_the_farseer_surface_too():
    """A law of nine parameters. Its fits take too long for a test, so the design uses draws that are wrong by 3% in
    every parameter. Measured: 1.33 times the standard error for the grid, 2.1 for random choice. A design at the
    planted law itself gains 1%."""
    contest, form = bench.CONTESTS["farseer"], get_form("farseer")
    first = bench.points(contest, (contest.levels, contest.levels), wide=False)
    budget = contest.more * first["cost"].sum()
    frame = bench.candidates(contest)
    frame = frame[frame["cost"] <= budget].reset_index(drop=True)
    planted = np.array(contest.planted)
    draws = planted * (1 + 0.03 * np.random.default_rng(0).standard_normal((16, len(planted))))
    logs = np.log(pd.concat([first, frame])[["N", "D"]].to_numpy().T)
    changes = natural(form, draws, logs[:, :len(first)])
    each = slopes(lambda rows: np.log(form.predict(rows, logs)) / contest.noise, draws, changes)
    wanted = slopes(lambda rows: contest.target.values(SimpleNamespace(form=form), rows), draws, changes)
    cost = frame["cost"].to_numpy()
    found = Information(each[:, :len(first)], np.ones(len(first)), each[:, len(first):], wanted,
                        lambda masks: masks @ cost)
    own = bench.theory(contest, frame.iloc[found.search(budget)])
    chosen = [bench.random_runs(contest, budget, np.random.default_rng(seed)) for seed in range(4)]
    chance = bench.rms([bench.theory(contest, runs) for runs in chosen])
    uniform = bench.theory(contest, bench.uniform_grid(contest, budget))
    assert uniform > 1.2 * own and chance > 1.5 * own
