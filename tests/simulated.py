"""Simulated tables of runs with planted laws."""
import numpy as np
import pandas as pd

PLANTED = {"chinchilla": {"E": 1.0, "A": 25.0, "B": 150.0, "alpha": 0.3, "beta": 0.35},
           "saturating_power": {"E": 1.0, "A": 30.0, "alpha": 0.25}, "power": {"A": 12.0, "alpha": 0.12}}


def planted(form, n, repeats=1):
    """(table of inputs, true losses): a grid over a factor 50 in N and 32 in D, or five orders of magnitude in x."""
    truth = PLANTED[form]
    if form == "chinchilla":
        side = round(n ** 0.5)
        N, D = (v.ravel() for v in np.meshgrid(np.geomspace(1e4, 5e5, side), np.geomspace(1e6, 3.2e7, side)))
        table = pd.DataFrame({"N": N, "D": D})
        mean = truth["E"] + truth["A"] * N ** -truth["alpha"] + truth["B"] * D ** -truth["beta"]
    else:
        x = np.geomspace(1e3, 1e8, n)
        table, mean = pd.DataFrame({"x": x}), truth.get("E", 0.0) + truth["A"] * x ** -truth["alpha"]
    return pd.concat([table] * repeats, ignore_index=True), np.tile(mean, repeats)


def clustered(form, groups, members, rng, noise=0.005):
    """A table of `members` runs at each of `groups` points, which share 80% of the variance of their errors."""
    table, mean = planted(form, groups, members)
    label = np.tile(np.arange(len(mean) // members), members)
    shared, own = rng.standard_normal(label.max() + 1)[label], rng.standard_normal(len(mean))
    error = np.sqrt(0.8) * shared + np.sqrt(0.2) * own
    return table.assign(loss=mean * np.exp(noise * error), group=label)


def noisy(form, n, noise=0.005, tail=None):
    """make(rng) -> a table of `planted` runs with normal noise in log loss, or Student's t noise of `tail` degrees."""
    def make(rng):
        table, mean = planted(form, n)
        error = rng.standard_normal(len(mean)) if tail is None else rng.standard_t(tail, len(mean))
        return table.assign(loss=mean * np.exp(noise * error))
    return make
