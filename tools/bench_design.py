"""What choosing runs by `laws.suggest` gains over a log-uniform grid and over random choice of equal cost.

    python -m tools.bench_design --seeds=100
    python -m tools.bench_design --seeds=20 --studies=chinchilla,farseer

Each study plants a surface, buys a small first grid, and spends three times its cost on more runs, chosen by
each of the strategies: `grid`, `random`, `suggest`, `batches` (suggest in three batches, refitted after each)
and `sparse` (suggest with no more runs than the grid has); `first` buys nothing. The law is fitted to all
runs, and the error of its answer to the question is counted over seeds. RMSE is of the logarithm of a loss or
a size (0.01 is 1%), or of an exponent itself. `over` is a strategy's RMSE over that of the suggested runs,
above 1 where suggesting wins, with its standard error (jackknife over seeds, which are paired). `theory` is
the standard error of least squares linearised at the planted parameters, which needs few seeds; `expected` is
what was promised when the runs were chosen (both root mean squares over seeds).
"""
from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pandas as pd

from scaling.laws import Runs, bootstrap
from scaling.laws.design import design
from scaling.laws.design.search import Information, natural, slopes
from scaling.laws.fitting.fit import Fit
from scaling.laws.fitting.search import fit
from scaling.laws.forms.catalogue import get_form
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
class Study:
    """A surface, the law fitted to it, what is asked of it, and the true answer in the target's own scale."""
    surface: Callable
    law: str
    target: design.Target
    truth: float
    levels: int = 3       # of the first grid, in N and in D
    noise: float = 0.005
    more: float = 3.0     # budget over the cost of the first grid
    below: float = design.BEYOND   # how far below the first grid candidates reach, and the rivals' runs
    planted: tuple[float, ...] = ()  # parameters of the law that are the surface's, where it has some
    loss: str = "huber_log"        # what the fit minimises, with a delta scaled to the noise
    sizes: tuple[float, float] = (5e7, 4e8)
    data: tuple[float, float] = (1e9, 8e9)


# farseer's constants as parameters of the form in docs/laws-forms.md: a_i = slope / power in units of MEDIUM parameters
MEDIUM = register_examples()["MEDIUM"]
SLOPES = {name: a * power * MEDIUM ** power for name, a, power in (
    ("beta", -0.124, 0.123), ("B", 88.01, -0.1), ("E", -0.021, 0.169))}
FARSEER = (np.exp(-0.091 + SLOPES["E"] / 0.169), np.exp(-5.287 - SLOPES["B"] / 0.1),
           np.exp(0.424 + SLOPES["beta"] / 0.123), SLOPES["beta"], 0.123, SLOPES["B"], -0.1, SLOPES["E"], 0.169)
FAR = {"N": 1.5e10, "D": 3e11}        # a thousand times the compute of the first grid's largest run
FARTHER = {"N": 2.5e10, "D": 1e12}
WIDE = {"sizes": (2e8, 1.6e9), "data": (4e9, 3.2e10), "noise": 0.002}


def best_size(compute: float) -> float:
    """log N* of the planted additive law at 6 N D = compute: Hoffmann et al. 2022, equation 4."""
    p = CHINCHILLA
    ratio = np.log(p["alpha"] * p["A"] / (p["beta"] * p["B"]))
    return (ratio + p["beta"] * np.log(compute / 6)) / (p["alpha"] + p["beta"])


STUDIES = {
    "chinchilla": Study(chinchilla, "chinchilla", design.loss_at(**FAR), np.log(chinchilla(**FAR)),
                        planted=tuple(CHINCHILLA.values())),
    "no_smaller": Study(chinchilla, "chinchilla", design.loss_at(**FAR), np.log(chinchilla(**FAR)),
                        planted=tuple(CHINCHILLA.values()), below=1.0),
    "best_size": Study(chinchilla, "chinchilla", design.best_size(1e22), best_size(1e22),
                       planted=tuple(CHINCHILLA.values())),
    "alpha": Study(chinchilla, "chinchilla", design.quantity("alpha"), CHINCHILLA["alpha"],
                   planted=tuple(CHINCHILLA.values())),
    "farseer": Study(farseer, "farseer", design.loss_at(**FARTHER), np.log(farseer(**FARTHER)), levels=6,
                     planted=FARSEER, loss="mse_log", **WIDE),
    "interaction": Study(farseer, "interaction", design.loss_at(**FARTHER), np.log(farseer(**FARTHER)),
                         **WIDE),
    "wrong_law": Study(farseer, "chinchilla", design.loss_at(**FARTHER), np.log(farseer(**FARTHER)), **WIDE),
}


def points(study: Study, levels: tuple[int, int], wide: bool = True) -> pd.DataFrame:
    """A log-uniform grid over the range of the candidates, or over that of the first grid, with costs."""
    below, above = (study.below, design.BEYOND) if wide else (1.0, 1.0)
    axes = [np.geomspace(low / below, high * above, count)
            for (low, high), count in zip((study.sizes, study.data), levels)]
    n, d = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    return pd.DataFrame({"N": n, "D": d, "cost": six_n_d(n, d)})


def lattice(study: Study) -> pd.DataFrame:
    """The candidates: steps of the square root of 2."""
    (low, high), (least, most) = study.sizes, study.data
    reach = study.below * design.BEYOND
    return points(study, tuple(round(2 * np.log2(x * reach)) + 1 for x in (high / low, most / least)))


def grid(study: Study, budget: float) -> pd.DataFrame:
    """The log-uniform grid over all candidates' range, less runs of over a quarter of the budget, that spends
    most."""
    found = []
    for levels in np.ndindex(12, 12):
        frame = points(study, (levels[0] + 2, levels[1] + 2))
        frame = frame[frame["cost"] <= budget / 4]
        if frame["cost"].sum() <= budget:
            found.append(frame)
    return max(found, key=lambda frame: frame["cost"].sum())


def random(study: Study, budget: float, rng) -> pd.DataFrame:
    """Candidates in random order, each that still fits the budget."""
    frame, taken, left = lattice(study), [], budget
    for i in rng.permutation(len(frame)):
        if frame["cost"][i] <= left:
            taken.append(i)
            left -= frame["cost"][i]
    return frame.loc[taken]


def fitted(study: Study, frame: pd.DataFrame) -> Fit:
    return fit(frame, study.law, loss=study.loss, delta="noise")


def theory(study: Study, more: pd.DataFrame) -> float:
    """Standard error of the answer after the first grid and `more`, by least squares linearised at the
    planted parameters, NaN where there are none: what RMSE comes to in many seeds."""
    if not study.planted:
        return np.nan
    first = points(study, (study.levels, study.levels), wide=False)
    runs = Runs.from_dataframe(pd.concat([first, more])[["N", "D"]])
    law, vectors = SimpleNamespace(form=get_form(study.law), runs=runs), np.array([study.planted])
    logs = runs.inputs(law.form)
    changes = natural(law.form, vectors, logs)
    each = slopes(lambda rows: np.log(law.form.predict(rows, logs)) / study.noise, vectors, changes)
    wanted = slopes(lambda rows: study.target.values(law, rows), vectors, changes)
    return float(np.exp(Information(each, np.ones(len(runs)), each[:, :0], wanted, None).before[0] / 2))


def error(study: Study, law: Fit) -> float:
    return float(study.target.values(law, law.vector[None])[0] - study.truth)


def contest(study: Study, seed: int, strategies=STRATEGIES) -> dict[str, float]:
    """{strategy: error of its answer} for one seed, and the standard errors promised, as "suggest
    expected"."""
    rng = np.random.default_rng([seed, 1])
    run = design.simulate(study.surface, noise=study.noise, seed=seed)
    first = points(study, (study.levels, study.levels), wide=False)
    first["loss"] = run(first)
    budget = study.more * first["cost"].sum()
    law = fitted(study, first)
    boot = bootstrap(law, draws=100, seed=seed)
    uniform, out = grid(study, budget), {"first": error(study, law), "first theory": theory(study, first[:0])}
    for strategy in strategies:
        if strategy == "batches":
            found = design.suggest(boot, lattice(study), budget, target=study.target, run=run, batches=3)
            out |= {strategy: error(study, found.fit), f"{strategy} expected": found.se_after,
                    f"{strategy} theory": theory(study, found.runs)}
            continue
        if strategy in ("sparse", "suggest"):
            found = design.suggest(boot, lattice(study), budget, target=study.target,
                                   most=len(uniform) if strategy == "sparse" else None)
            more, out[f"{strategy} expected"] = found.runs[["N", "D"]], found.se_after
        elif strategy in ("grid", "random"):
            more = uniform if strategy == "grid" else random(study, budget, rng)
        else:
            continue
        bought = pd.concat([first, more.assign(loss=run(more))], ignore_index=True)
        out |= {strategy: error(study, fitted(study, bought)), f"{strategy} theory": theory(study, more)}
    return out


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def ratio(other: np.ndarray, own: np.ndarray) -> tuple[float, float]:
    """RMSE of `other` over that of `own`, paired, with its jackknife standard error."""
    n, keep = len(own), ~np.eye(len(own), dtype=bool)
    left = np.array([rms(other[k]) / rms(own[k]) for k in keep])
    return rms(other) / rms(own), float(np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100, help="simulated studies of each kind")
    parser.add_argument("--studies", default=",".join(STUDIES), help="which, separated by commas")
    options = parser.parse_args()
    for name in options.studies.split(","):
        if name not in STUDIES:
            parser.error(f"no study {name!r}; there are {', '.join(STUDIES)}")
        study, start = STUDIES[name], time.perf_counter()
        rows = pd.DataFrame([contest(study, seed) for seed in range(options.seeds)])
        print(f"\n{name}: {study.surface.__name__} surface fitted by {study.law}, {study.target.name}; "
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
