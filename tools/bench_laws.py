"""The speed of fits and the depth of their optima, beside the packages `chinchilla` and `vpnls`.

    python -m tools.bench_laws
    python -m tools.bench_laws --points runs.csv --where kept --draws 1000 4000 --forms chinchilla kaplan

The first table is one fit of E + A N^-alpha + B D^-beta to the same runs, on one thread, by every program, for
each objective that two of them share. All objectives are computed here, at the parameters that each program
reached; "above" is the distance to the lowest. x is a time over ours: above 1 is slower. The peers have no
bootstrap: a few resamples are timed and scaled to the number of draws, marked "~". Each program runs with its
documented defaults where it has them. `chinchilla` takes a grid of starts, here --starts of them in each of five
directions (its documentation uses 5, which takes minutes a fit).

The second table is the time of one fit and of the bootstraps for every form with at most six parameters, on
simulated runs. Without --points the runs are simulated like those that Besiroglu et al. 2024 recovered from
figure 4 of Hoffmann et al.: 240 runs of nine budgets, whose noise has heavy tails.

A peer that is not installed is left out with a sentence: pip install chinchilla vpnls (or, where the registry
lacks it, vpnls from github.com/Open-Athena/vpnls). Seconds are CPU seconds, so other programs on the machine
hardly disturb them.
"""

import argparse
import functools
import os
import tempfile
import time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy starts

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from scaling import laws  # noqa: E402
from tools._example_laws import register_examples  # noqa: E402

NAMES = ("E", "A", "B", "alpha", "beta")
BUDGETS = (6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21, 3e21)
RUNS, NOISE, DELTA = 240, 0.004, 1e-3
FEW = 3  # resamples that a peer is timed for
SURFACE = {"E": 1.82, "A": 480.0, "B": 2140.0, "alpha": 0.347, "beta": 0.367}
PLANTED = {  # parameters that the runs of each form are simulated from
    "power": {"A": 20, "alpha": 0.08}, "saturating_power": {"E": 1.7, "A": 40, "alpha": 0.2},
    "rising_power": {"E": 60, "A": 200, "alpha": 0.25},
    "shifted_power": {"E": 1.5, "A": 30, "alpha": 0.25, "d": 3e4},
    "m4": {"E": 0.5, "A": 3, "alpha": 1.5, "c": 0.4, "x0": 1e5},
    "bnsl": {"E": 0.5, "A": 8, "c0": 0.05, "c1": 0.3, "d1": 1e6, "f1": 0.3},
    "chinchilla": SURFACE, "tied_chinchilla": {"E": 1.8, "A": 480, "B": 2100, "alpha": 0.35},
    "overtraining": {"E": 1.8, "A": 800, "B": 1500, "eta": 0.17},
    "kaplan": {"A": 11.5, "alpha": 0.076, "beta": 0.095, "log_ratio": 5.9},
    "interaction": SURFACE | {"G": 1e5}, "experts": {"A": 30, "a": 0.07, "b": 0.05, "c": -0.002},
    "downstream": {"epsilon": 0.85, "k": 3, "gamma": 1},
    "sigmoid": {"floor": 0.2, "span": 0.6, "slope": 3, "middle": 3},
    "transfer": {"k": 0.5, "alpha": 0.18, "beta": 0.38},
}


def simulate(form: str, runs: int = RUNS, seed: int = 0) -> pd.DataFrame:
    """Runs of a planted law, with a column for each input of the form, and y. The noise is Student's t with 3
    degrees of freedom."""
    rng = np.random.default_rng(seed)
    law = laws.get_form(form)
    C = np.asarray(BUDGETS)[np.arange(runs) % len(BUDGETS)]
    N = np.sqrt(C / 120) * np.exp(rng.uniform(-1.6, 1.6, runs))
    D = C / (6 * N)
    values = {"x": np.exp(rng.uniform(*np.log([1e3, 1e9]), runs)), "N": N, "D": D, "C": C, "M": D / N,
              "L": rng.uniform(2, 4, runs), "experts": 2.0 ** rng.integers(0, 10, runs),
              "D_F": np.exp(rng.uniform(*np.log([1e6, 1e9]), runs))}
    logs = np.log(np.stack([values[name] for name in law.inputs]))
    vector = np.array([[PLANTED[form][name] for name in law.names]], float)
    y = law.predict(vector, logs)[0] * np.exp(NOISE * rng.standard_t(3, runs))
    return pd.DataFrame({name: values[name] for name in law.inputs} | {"y": y})


def timed(function, repeats: int = 1):
    """(result, CPU seconds of the fastest repeat)."""
    result, best = None, np.inf
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        best = min(best, time.process_time() - start)
    return result, best


def ours(runs, loss: str, draws):
    fitted, seconds = timed(lambda: laws.fit(runs, "chinchilla", loss=loss, delta=DELTA), 5)
    resampled = [timed(lambda n=n: laws.bootstrap(fitted, n, method="case"))[1] for n in draws]
    return "scaling", fitted.params, seconds, resampled


def peer(name: str, solve, N, D, y, draws):
    """The row of a peer. solve(N, D, y) -> {parameter: value}."""
    params, seconds = timed(lambda: solve(N, D, y))
    rng = np.random.default_rng(0)
    picks = [rng.integers(0, len(y), len(y)) for _ in range(FEW)]
    _, few = timed(lambda: [solve(N[i], D[i], y[i]) for i in picks])
    return name, params, seconds, [few / FEW * n for n in draws]


def chinchilla_solver(starts: int):
    import importlib.metadata

    from chinchilla import Chinchilla, _metrics
    ends = {"e": (0, 1), "a": (4, 8), "b": (4, 8), "alpha": (0.2, 0.5), "beta": (0.2, 0.5)}

    def solve(N, D, y):
        with tempfile.TemporaryDirectory() as folder:
            law = Chinchilla(folder, param_grid={k: np.linspace(*v, starts) for k, v in ends.items()},
                             loss_fn=lambda seen, said: _metrics.log_huber(seen, said, DELTA), log_level=50)
            law.visualizer.optim = lambda *args, **named: None  # the fit is timed without its figure
            law.database.df = pd.DataFrame({"C": 6 * N * D, "N": N, "D": D, "loss": y})
            law.fit(parallel=False)
            return {name: float(getattr(law, name)) for name in NAMES}
    return f"chinchilla {importlib.metadata.version('chinchilla')}, {starts ** 5} starts", solve


def vpnls_solvers(loss: str):
    import importlib.metadata

    from vpnls import api
    version = importlib.metadata.version("vpnls")

    def solver(**options):
        def solve(N, D, y):  # amplitudes are bounded, so units are millions and billions as in its documentation
            minimised = None if loss == "mse" else api.huber(DELTA)
            found = api.fit_vpnls(N / 1e6, D / 1e9, np.array(y), loss=minimised, **options)
            return {"E": found.E, "A": found.A * 1e6 ** found.alpha, "B": found.B * 1e9 ** found.beta,
                    "alpha": found.alpha, "beta": found.beta}
        return solve
    yield f"vpnls {version}, grid of 0.01", solver()
    yield f"vpnls {version}, scipy", solver(method="scipy")


def compare(runs, loss: str, solvers, draws) -> None:
    """Print the table of one objective: our fit and those of the peers."""
    N, D, y = runs.values("N"), runs.values("D"), runs.y
    mine = ours(runs, loss, draws)
    rows = [mine, *(peer(name, solve, N, D, y, draws) for name, solve in solvers)]
    form, objective = laws.get_form("chinchilla"), laws.fit(runs, "chinchilla", loss=loss, delta=DELTA).spec
    logs = np.log(np.stack([N, D]))

    def reached(params):
        vector = np.array([[params[name] for name in form.names]])
        return float(objective.value(objective.residuals(y, form.predict(vector, logs)[0]), 1.0))

    lowest = min(reached(params) for _, params, *_ in rows)
    print(f"\n{objective}, {len(y)} runs")
    heads = "".join(f"{f'{n} resamples':>17}{'x':>9}" for n in draws)
    print(f"  {'':<28}{'one fit':>10}{'x':>8}{'objective':>16}{'above':>10}{heads}")
    for name, params, seconds, resampled in rows:
        value = reached(params)
        times = "".join(f"{clock(t, name != 'scaling'):>17}{t / base:>9.3g}"
                        for t, base in zip(resampled, mine[3]))
        print(f"  {name:<28}{clock(seconds):>10}{seconds / mine[2]:>8.3g}{value:>16.9g}"
              f"{value / lowest - 1:>10.1e}{times}")


def clock(seconds: float, scaled: bool = False) -> str:
    digits = 2 if seconds < 100 else 0
    text = f"{1e3 * seconds:.1f} ms" if seconds < 0.1 else f"{seconds:.{digits}f} s"
    return f"~{text}" if scaled else text


def every_form(names, runs: int, draws) -> None:
    """Print the time of each form: one fit, and the bootstraps."""
    print(f"\nhuber_log, delta {DELTA:g}, {runs} simulated runs of each form")
    heads = "".join(f"{f'{n} resamples':>17}" for n in draws)
    print(f"  {'form':<18}{'parameters':>11}{'one fit':>11}{heads}")
    for name in names:
        data = laws.Runs.from_dataframe(simulate(name, runs), y="y")
        fitted, seconds = timed(functools.partial(laws.fit, data, name, delta=DELTA), 3)
        times = [timed(functools.partial(laws.bootstrap, fitted, n, method="case"))[1] for n in draws]
        shown = "".join(f"{clock(t):>17}" for t in times)
        print(f"  {name:<18}{len(fitted.form.free):>11}{clock(seconds):>11}{shown}", flush=True)


def main() -> None:
    register_examples()
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", help="a table of runs with N, D and loss; simulated without")
    parser.add_argument("--where", help="which of its rows")
    parser.add_argument("--draws", type=int, nargs="*", default=[1000, 4000], help="numbers of resamples to time")
    parser.add_argument("--forms", nargs="*", default=list(PLANTED), choices=list(PLANTED),
                        help="forms of the second table")
    parser.add_argument("--starts", type=int, default=2, help="starts of `chinchilla` in each direction")
    options = parser.parse_args()
    if options.points:
        runs = laws.Runs.from_csv(options.points, where=options.where)
    else:
        runs = laws.Runs.from_dataframe(simulate("chinchilla"), y="y")
    for loss, made in (("huber_log", lambda: [chinchilla_solver(options.starts)]),
                       ("mse", lambda: list(vpnls_solvers("mse"))),
                       ("huber", lambda: list(vpnls_solvers("huber")))):
        try:
            solvers = made()
        except ImportError as missing:
            solvers = []
            print(f"\n{missing.name} is not installed, so this table has our fits only: pip install "
                  f"{missing.name}")
        compare(runs, loss, solvers, options.draws)
    every_form(options.forms, len(runs), options.draws)
    left = [name for name, form in laws.FORMS.items() if len(form.free) <= 6 and name not in PLANTED]
    if left:
        print(f"\nnot timed, since PLANTED has no parameters for them: {', '.join(left)}")


if __name__ == "__main__":
    main()
