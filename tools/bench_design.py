"""The gain of choosing runs by `laws.suggest` over a log-uniform grid and over random choice of equal cost.

    python -m tools.bench_design --seeds=100
    python -m tools.bench_design --seeds=20 --studies=chinchilla,farseer

Each contest plants a surface, buys a small first grid, and spends three times its cost on more runs. A strategy
chooses these runs: `grid`, `random`, `suggest`, `batches` (suggest in three batches, with a refit after each) or
`sparse` (suggest with at most as many runs as the grid); `first` buys nothing. The law is then fitted to all
runs, and the error of its answer is measured over seeds.

RMSE is that of the logarithm of a loss or a size (0.01 is 1%), or of an exponent itself. `over` is a strategy's
RMSE over that of the suggested runs, above 1 where suggesting wins, with its standard error (jackknife over
seeds, which are paired). `theory` is the standard error of least squares linearised at the planted parameters,
which needs few seeds. `expected` is the standard error that the design promised. Both are root mean squares over
seeds.
"""
from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pandas as pd

from scaling import laws
from scaling.laws.design.candidates import BEYOND
from scaling.laws.design.design import simulate
from scaling.laws.design.search import Information, natural, slopes
from scaling.laws.design.targets import Target
from scaling.laws.optimum.counts import six_n_d
from tools._example_laws import register_examples

# Besiroglu et al. 2024 (arXiv:2404.10102), table 1
CHINCHILLA = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
STRATEGIES = ("first", "random", "grid", "sparse", "suggest", "batches")


def chinchilla(N, D):
    p = CHINCHILLA
    return p["E"] + p["A"] * N ** -p["alpha"] + p["B"] * D ** -p["beta"]


def farseer(N, D):
    """A surface of the kind of Li et al. 2025 (arXiv:2506.10972): the exponent of D falls with N."""
    return (np.exp(-0.021 * N ** 0.169 - 0.091)
            + np.exp(88.01 * N ** -0.1 - 5.287) * D ** -np.exp(-0.124 * N ** 0.123 + 0.424))


@dataclass(frozen=True)
class Contest:
    """A surface, the law fitted to it, the target, and the true answer in the target's own scale."""
    surface: Callable
    law: str
    target: Target
    truth: float
    levels: int = 3       # of the first grid, in N and in D
    noise: float = 0.005
    more: float = 3.0     # budget over the cost of the first grid
    below: float = BEYOND            # how far the runs of all strategies reach below the first grid
    planted: tuple[float, ...] = ()  # parameters of the law that make the surface, if the law can
    loss: str = "huber_log"          # the objective of the fit, with a delta scaled to the noise
    sizes: tuple[float, float] = (5e7, 4e8)
    data: tuple[float, float] = (1e9, 8e9)


# The constants of `farseer` as parameters of the form in docs/laws-forms.md, which `main` registers: a_i = slope / power,
# in units of MEDIUM parameters.
MEDIUM = 1e8
SLOPES = {name: a * power * MEDIUM ** power for name, a, power in (
    ("beta", -0.124, 0.123), ("B", 88.01, -0.1), ("E", -0.021, 0.169))}
FARSEER = (np.exp(-0.091 + SLOPES["E"] / 0.169), np.exp(-5.287 - SLOPES["B"] / 0.1),
           np.exp(0.424 + SLOPES["beta"] / 0.123), SLOPES["beta"], 0.123, SLOPES["B"], -0.1, SLOPES["E"], 0.169)
FAR = {"N": 1.5e10, "D": 3e11}        # a thousand times the compute of the first grid's largest run
FARTHER = {"N": 2.5e10, "D": 1e12}
WIDE = {"sizes": (2e8, 1.6e9), "data": (4e9, 3.2e10), "noise": 0.002}


def true_best_size(compute: float) -> float:
    """log N* of the planted additive law at 6 N D = compute: Hoffmann et al. 2022, equation 4."""
    p = CHINCHILLA
    ratio = np.log(p["alpha"] * p["A"] / (p["beta"] * p["B"]))
    return (ratio + p["beta"] * np.log(compute / 6)) / (p["alpha"] + p["beta"])


CONTESTS = {
    "chinchilla": Contest(chinchilla, "chinchilla", laws.loss_at(**FAR), np.log(chinchilla(**FAR)),
                        planted=tuple(CHINCHILLA.values())),
    "no_smaller": Contest(chinchilla, "chinchilla", laws.loss_at(**FAR), np.log(chinchilla(**FAR)),
                        planted=tuple(CHINCHILLA.values()), below=1.0),
    "best_size": Contest(chinchilla, "chinchilla", laws.best_size(1e22), true_best_size(1e22),
                       planted=tuple(CHINCHILLA.values())),
    "alpha": Contest(chinchilla, "chinchilla", laws.quantity("alpha"), CHINCHILLA["alpha"],
                   planted=tuple(CHINCHILLA.values())),
    "farseer": Contest(farseer, "farseer", laws.loss_at(**FARTHER), np.log(farseer(**FARTHER)), levels=6,
                     planted=FARSEER, loss="mse_log", **WIDE),
    "interaction": Contest(farseer, "interaction", laws.loss_at(**FARTHER), np.log(farseer(**FARTHER)),
                         **WIDE),
    "wrong_law": Contest(farseer, "chinchilla", laws.loss_at(**FARTHER), np.log(farseer(**FARTHER)), **WIDE),
}


def points(contest: Contest, levels: tuple[int, int], wide: bool = True) -> pd.DataFrame:
    """A log-uniform grid with costs, over the range of the candidates, or (not wide) of the first grid."""
    below, above = (contest.below, BEYOND) if wide else (1.0, 1.0)
    axes = [np.geomspace(low / below, high * above, count)
            for (low, high), count in zip((contest.sizes, contest.data), levels)]
    n, d = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    return pd.DataFrame({"N": n, "D": d, "cost": six_n_d(n, d)})


def candidates(contest: Contest) -> pd.DataFrame:
    """The candidates, in steps of the square root of 2."""
    reach = contest.below * BEYOND
    sizes, amounts = (round(2 * np.log2(high / low * reach)) + 1 for low, high in (contest.sizes, contest.data))
    return points(contest, (sizes, amounts))


def uniform_grid(contest: Contest, budget: float) -> pd.DataFrame:
    """The log-uniform grid over the range of the candidates that spends most of the budget. Runs that cost more
    than a quarter of it are left out."""
    found = []
    for levels in np.ndindex(12, 12):
        frame = points(contest, (levels[0] + 2, levels[1] + 2))
        frame = frame[frame["cost"] <= budget / 4]
        if frame["cost"].sum() <= budget:
            found.append(frame)
    return max(found, key=lambda frame: frame["cost"].sum())


def random_runs(contest: Contest, budget: float, rng) -> pd.DataFrame:
    """Candidates in random order; each is taken if it still fits the budget."""
    frame, taken, left = candidates(contest), [], budget
    for i in rng.permutation(len(frame)):
        if frame["cost"][i] <= left:
            taken.append(i)
            left -= frame["cost"][i]
    return frame.loc[taken]


def fitted(contest: Contest, frame: pd.DataFrame) -> laws.Fit:
    return laws.fit(frame, contest.law, loss=contest.loss, delta="noise")


def theory(contest: Contest, more: pd.DataFrame) -> float:
    """The standard error of the answer after the first grid and `more`, by least squares linearised at the planted
    parameters; NaN where there are none. The RMSE of many seeds comes close to it."""
    if not contest.planted:
        return np.nan
    first = points(contest, (contest.levels, contest.levels), wide=False)
    runs = laws.Runs.from_dataframe(pd.concat([first, more])[["N", "D"]])
    law, vectors = SimpleNamespace(form=laws.get_form(contest.law), runs=runs), np.array([contest.planted])
    logs = runs.inputs(law.form)
    changes = natural(law.form, vectors, logs)
    each = slopes(lambda rows: np.log(law.form.predict(rows, logs)) / contest.noise, vectors, changes)
    wanted = slopes(lambda rows: contest.target.values(law, rows), vectors, changes)
    found = Information(each, np.ones(len(runs)), each[:, :0], wanted, together=lambda masks: np.zeros(len(masks)))
    return float(np.exp(found.before[0] / 2))


def answer_error(contest: Contest, law: laws.Fit) -> float:
    return float(contest.target.values(law, law.vector[None])[0] - contest.truth)


def compete(contest: Contest, seed: int) -> dict[str, float]:
    """{strategy: error of its answer} for one seed, with "<strategy> theory" and "<strategy> expected"."""
    rng = np.random.default_rng([seed, 1])
    run = simulate(contest.surface, noise=contest.noise, seed=seed)
    first = points(contest, (contest.levels, contest.levels), wide=False)
    first["loss"] = run(first)
    budget = contest.more * first["cost"].sum()
    law = fitted(contest, first)
    boot = laws.bootstrap(law, draws=100, seed=seed)
    uniform = uniform_grid(contest, budget)
    out = {"first": answer_error(contest, law), "first theory": theory(contest, first[:0])}

    def buy(strategy: str, more: pd.DataFrame) -> None:
        bought = pd.concat([first, more.assign(loss=run(more))], ignore_index=True)
        out[strategy], out[f"{strategy} theory"] = answer_error(contest, fitted(contest, bought)), theory(contest, more)

    buy("random", random_runs(contest, budget, rng))
    buy("grid", uniform)
    for strategy, most in (("sparse", len(uniform)), ("suggest", None)):
        found = laws.suggest(boot, candidates(contest), budget, target=contest.target, most=most)
        out[f"{strategy} expected"] = found.se_after
        buy(strategy, found.runs[["N", "D"]])
    found = laws.suggest(boot, candidates(contest), budget, target=contest.target, run=run, batches=3)
    out["batches"], out["batches expected"] = answer_error(contest, found.fit), found.se_after
    out["batches theory"] = theory(contest, found.runs)
    return out


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def ratio(other: np.ndarray, own: np.ndarray) -> tuple[float, float]:
    """(RMSE of `other` over that of `own`, its jackknife standard error over the paired seeds)."""
    n, keep = len(own), ~np.eye(len(own), dtype=bool)
    left = np.array([rms(other[k]) / rms(own[k]) for k in keep])
    return rms(other) / rms(own), float(np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum()))


def main() -> None:
    register_examples()
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100, help="seeds of each contest")
    parser.add_argument("--studies", default=",".join(CONTESTS), help="contests, separated by commas")
    options = parser.parse_args()
    for name in options.studies.split(","):
        if name not in CONTESTS:
            parser.error(f"no contest {name!r}; there are {', '.join(CONTESTS)}")
        contest, start = CONTESTS[name], time.perf_counter()
        rows = pd.DataFrame([compete(contest, seed) for seed in range(options.seeds)])
        print(f"\n{name}: {contest.surface.__name__} surface fitted by {contest.law}, {contest.target.name}; "
              f"{options.seeds} seeds, {(time.perf_counter() - start) / options.seeds:.1f} s each")
        heads = ("RMSE", "median", "bias", "theory", "expected")
        print(" ".join([f"{'strategy':>10}", *(f"{head:>9}" for head in heads),
                        f"{'over suggest':>16} {'over batches':>16}"]))
        for strategy in STRATEGIES:
            e = rows[strategy].to_numpy()
            known = [rms(rows.get(f"{strategy} {what}", np.nan)) for what in ("theory", "expected")]
            cells = [f"{rms(e):9.4f}", f"{np.median(np.abs(e)):9.4f}", f"{e.mean():+9.4f}",
                     *(f"{value:9.4f}" if np.isfinite(value) else " " * 9 for value in known)]
            cells += ["{:8.2f} +- {:4.2f}".format(*ratio(e, rows[own].to_numpy()))
                      for own in ("suggest", "batches") if own in rows]
            print(f"{strategy:>10} {' '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
