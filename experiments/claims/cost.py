"""A better model costs ever more: each further bit takes more compute, time and energy than the last."""

import numpy as np
import pandas as pd

from experiments.claims import _recipes
from scaling.claims import Claim, Criterion, Finding, Line, Panel, Part, Trained, statistics
from scaling.results.metrics import find_metric

FLOPS = {"5m": (4e9, 1.6e10, 6.4e10, 2.56e11), "30m": (1e10, 4e10, 1.6e11, 6.4e11, 1.28e12),
         "2h": (4e10, 1.6e11, 6.4e11, 2.56e12, 5.12e12), "gpu": (1e12, 4e12, 1.6e13, 6.4e13, 2.56e14)}
# widths at each of these amounts of compute, so that N and D grow alike
WIDTHS = {"5m": {"transformer": (8, 16, 24, 32), "vae": (8, 12, 24, 32), "gan": (8, 8, 12, 24)},
          "30m": {"transformer": (16, 24, 32, 48, 56), "vae": (12, 16, 32, 48, 56), "gan": (8, 12, 16, 24, 32)},
          "2h": {"transformer": (24, 32, 48, 64, 80), "vae": (16, 24, 48, 64, 80), "gan": (12, 16, 24, 32, 48)},
          "gpu": {"transformer": (56, 80, 128, 256, 448), "vae": (48, 64, 96, 160, 256), "gan": (32, 48, 64, 96, 160)}}
SEEDS = 4
# Columns of records, in words. Seconds are those in which devices computed, so compilation does not count.
RESOURCES = {"flops": "FLOPs", "device_seconds": "seconds", "joules": "joules"}


def parts(budget):
    return {family: Part([_recipes.at_compute(family, width, flops, seed)
                          for flops, width in zip(FLOPS[budget], WIDTHS[budget][family], strict=True)
                          for seed in range(SEEDS)], metric) for family, metric in _recipes.METRICS.items()}


def analyse(name: str, part: Trained) -> Finding:
    runs, metric = part.runs.assign(budget=part.runs["flops"].rank(method="dense")), _recipes.METRICS[name]
    # runs of one size and amount of data have the same FLOPs
    counted = [column for column in RESOURCES if column in runs and (runs[column] > 0).all()]
    found = {RESOURCES[column].lower(): statistics.jackknife(
        runs, lambda some, column=column: exponent(some, metric, column), "seed") for column in counted}
    table = prices(runs, metric, "flops")
    noun = find_metric(metric).unit or find_metric(metric).label
    said = "The price is that of " + ("a bit" if find_metric(metric).unit else f"a {noun} that is smaller by one") + (
        f": {table['price'].iloc[0]:.1e} FLOPs at {table['flops'].iloc[0]:.0e} FLOPs, and {table['price'].iloc[-1]:.1e} at "
        f"{table['flops'].iloc[-1]:.0e}.")
    if "joules" not in counted:
        said += " The records hold no joules, since no counter of energy could be read."
    panel = Panel("FLOPs", f"price of a smaller {noun}, as multiples of the first", log_y=True, lines=[
        Line(RESOURCES[column], list(priced["flops"]), list(priced["price"] / priced["price"].iloc[0]))
        for column in counted if (priced := prices(runs, metric, column))["price"].gt(0).all()])
    return Finding(found, panel, said)


def prices(runs, metric, column) -> pd.DataFrame:
    """What a metric that falls by one costs between neighbouring budgets: `price` in the unit of `column`, at `flops`.

    Means over seeds are compared. A price is infinite where the metric did not fall, and it may be negative where the
    resource did not grow, as measured seconds of short runs may not.
    """
    means = runs.groupby("budget")[[metric, "flops"] + [column] * (column != "flops")].mean()
    gained = -np.diff(means[metric])
    with np.errstate(divide="ignore"):
        price = np.where(gained > 0, np.diff(means[column]) / np.where(gained > 0, gained, 1.0), np.inf)
    flops = means["flops"].to_numpy()
    return pd.DataFrame({"flops": np.sqrt(flops[1:] * flops[:-1]), "price": price})


def exponent(runs, metric, column) -> float:
    """The power of compute by which the price grows; NaN where it is not positive, infinite where it is infinite."""
    table = prices(runs, metric, column)
    if not (table["price"] > 0).all():
        return float("nan")
    if np.isinf(table["price"]).any():
        return float("inf")
    return float(np.polyfit(np.log(table["flops"]), np.log(table["price"]), 1)[0])


WHY = ("At 0 each bit costs as much as the last, and at 1 each doubling brings as many bits as the last. At a half, twice "
       "the compute makes the next bit 1.4 times as dear.")
CLAIM = Claim(
    id="cost", statement="A better model costs ever more: each further bit takes more compute, time and energy.",
    source="Kaplan et al. 2020, arXiv:2001.08361, equation 1.3 (loss against the least compute); prices in dollars by "
           "Karpathy 2026, nanochat",
    published={"": "loss ~ C^-0.050, so a price that grows as C^1.05; in dollars, the quality of GPT-2 fell from 43,000 in "
                   "2019 to 48 seven years later, by better recipes and chips"},
    rules={word.lower(): Criterion(f"the exponent in compute of the {word} that a further bit costs", low=0.5, why=WHY)
           for word in RESOURCES.values()},
    parts=parts, analyse=analyse, cost={"5m": "48 runs at four amounts of compute, from 4e9 to 3e11 FLOPs",
                                        "30m": "60 runs at five amounts of compute, from 1e10 to 1.3e12 FLOPs",
                                        "2h": "60 runs, from 4e10 to 5e12 FLOPs",
                                        "gpu": "60 runs, from 1e12 to 3e14 FLOPs"},
    more="Better recipes and chips make one quality cheaper, which is what the published prices in dollars show. They move "
         "the whole curve, and this claim is about its slope. Seconds of small models are mostly "
         "overhead, which grows more slowly than their FLOPs.")
