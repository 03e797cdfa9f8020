"""Diffusion models generate well before they memorise, and the time of memorising grows with the data."""

import math

import numpy as np
import pandas as pd

from experiments._ladders import DIFFUSION
from scaling.claims import Claim, Criterion, Finding, Line, Panel, Part, Trained, statistics

METRIC, BOUND = "fd_infinity_relative", "bits_per_dim"
COPIES = 0.05  # the share of samples that a model which memorises copies; one that copies nothing has 0.01
RISE = 0.1  # of the log bound on held-out images above its lowest, where a model has overfitted
NEAR = 0.9  # the part of the way to the lowest distance, in logarithms, at which a model generates well
WIDTH, SEEDS = {"5m": 32, "30m": 48, "2h": 64, "gpu": 192}, 3
AMOUNTS = {"5m": (16, 32, 64), "30m": (16, 32, 64, 128), "2h": (16, 32, 64, 128, 256),
           "gpu": (128, 256, 512, 1024, 2048, 4096)}  # different images n
FIRST, PASSES = 2048, 4096  # images seen by the shortest runs, and passes over the images of the longest
BATCH, RATE = 32, 0.004


def parts(budget):
    """Runs of one amount and seed share a trunk, since they differ only in how long they train at a constant rate."""
    runs = []
    for seed in range(SEEDS):
        config = DIFFUSION.config(**{
            "seed": seed, "data.batch": BATCH, "data.samples": 512, "data.evaluation_examples": 512,
            "optim.learning_rate": RATE, "optim.weight_decay": 0.0})
        base = DIFFUSION.of_width(config, WIDTH[budget])
        runs += [base.replace({"data.examples": seen, "data.unique_examples": amount})
                 for amount in AMOUNTS[budget] for seen in times(amount * PASSES)]
    return {"diffusion": Part(runs, METRIC)}


def times(most: float) -> list[int]:
    """FIRST and its doubles up to `most`."""
    return [FIRST * 2**power for power in range(int(math.log2(most / FIRST)) + 1)]


def crossing(seen, values, level: float) -> float:
    """Where a curve first reaches `level`, between two points by the logarithm of `seen`; NaN where it never does."""
    reached = np.flatnonzero(np.asarray(values) >= level)
    if not len(reached):
        return math.nan
    last = reached[0]
    if last == 0:
        return float(seen[0])
    share = (level - values[last - 1]) / (values[last] - values[last - 1])
    return float(seen[last - 1] * (seen[last] / seen[last - 1]) ** share)


def moments(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each amount n and seed: the images seen when samples are good, when a model has overfitted, and when it
    copies."""
    rows = []
    for (amount, seed), own in runs.groupby(["examples_unique", "seed"]):
        own = own.sort_values("examples_seen")
        seen, distance, bound = own["examples_seen"].to_numpy(float), np.log(own[METRIC]), np.log(own[BOUND])
        best = int(bound.argmin())
        fallen = (distance.iloc[0] - distance) / (distance.iloc[0] - distance.min())
        rows.append({"amount": amount, "seed": seed, "generates": crossing(seen, fallen.to_numpy(), NEAR),
                     "overfits": crossing(seen[best:], (bound - bound.min()).to_numpy()[best:], RISE),
                     "memorises": crossing(seen, own["memorised"].to_numpy(), COPIES)})
    return pd.DataFrame(rows)


def exponents(found: pd.DataFrame, moment: str) -> list[float]:
    """The exponent of a moment in n of each seed, NaN where some amount never reaches it."""
    table = np.log(found.pivot_table(index="seed", columns="amount", values=moment, dropna=False))
    return [float(np.polyfit(np.log(table.columns.to_numpy(float)), row, 1)[0]) if np.isfinite(row).all() else math.nan
            for row in table.to_numpy()]


NAMES = {"generates": "samples are good", "overfits": "the held-out bound rises", "memorises": "5% of samples are copies"}


def analyse(name: str, part: Trained) -> Finding:
    del name
    found = moments(part.runs)
    rules = {each: statistics.mean(exponents(found, each)) for each in CLAIM.rules}
    means = np.exp(np.log(found.set_index("amount")[list(NAMES)]).groupby("amount").mean())
    panel = Panel("different images n", "images seen", log_y=True, lines=[
        Line(said, list(means.index), list(means[each])) for each, said in NAMES.items()])
    moments_said = "; ".join(f"{said} after {', '.join(f'{value:,.0f}' for value in means[each])}"
                             for each, said in NAMES.items())
    factors = ", ".join(f"{each:.2g}" for each in means["memorises"] / means["generates"])
    said = (f"Images seen, where {', '.join(f'{n:,.0f}' for n in means.index)} are different: {moments_said}. From good "
            f"samples to copies it is a factor of {factors}.")
    return Finding(rules, panel, said)


CLAIM = Claim(
    id="window",
    statement="Diffusion models generate well before they memorise, and the time of memorising grows with the data.",
    source="Bonnaire et al. 2025, arXiv:2505.17638, abstract (tau_mem grows linearly with n, tau_gen is constant)",
    published={"diffusion": "memorises after a time ~ n^1, generates well after a time ~ n^0"},
    rules={"memorises": Criterion("the exponent in n of the images seen when 5% of samples are copies", 0.75, 1.25,
                                  why="Linear growth was published; a quarter either way separates it from the square and "
                                      "from the square root. A copy is nearer to a training image than all but 1% of new "
                                      "real images are."),
           "overfits": Criterion("the exponent in n of the images seen when the bound on held-out images has risen by a "
                                 "tenth", 0.75, 1.25, why="The same law by the loss, which needs no samples."),
           "generates": Criterion("the exponent in n of the images seen when samples are good", -0.25, 0.25,
                                  why="No growth was published. Samples are good when the log distance has come nine "
                                      "tenths of its way to its lowest.")},
    parts=parts, analyse=analyse,
    cost={"5m": "63 runs of 35 thousand parameters on 9 trunks", "30m": "90 runs of 71 thousand parameters on 12 trunks",
          "2h": "120 runs of 0.12 million parameters on 15 trunks", "gpu": "207 runs of a million parameters on 18 trunks"},
    more="Larger models memorise sooner, and those with fewer parameters than the images need never do.")
