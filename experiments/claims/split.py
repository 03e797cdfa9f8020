"""Compute has a best split between size and data, and the valley around it is flat."""

import dataclasses

import numpy as np

from experiments.claims import _recipes
from scaling import laws
from scaling.claims import Claim, Criterion, Estimate, Finding, Line, Panel, Part, Trained
from scaling.results.metrics import find_metric

SEEN = {"transformer": "tokens_seen", "vae": "examples_seen", "gan": "examples_seen"}
# FLOPs and widths of each slice; seeds
SLICES = {
    "5m": {"transformer": (((2e10, (8, 16, 24, 32)), (6e10, (16, 24, 32, 48)), (1.8e11, (16, 24, 32, 48, 64))), 2),
           "vae": (((3e9, (8, 12, 16, 24)), (9e9, (8, 12, 16, 24, 32)), (2.7e10, (12, 16, 24, 32, 48))), 3),
           "gan": (((8e9, (4, 8, 12, 16)), (2e10, (4, 8, 12, 16, 24)), (5e10, (8, 12, 16, 24))), 4)},
    "30m": {"transformer": (((3e10, (8, 16, 24, 32)), (1e11, (16, 24, 32, 48)), (3e11, (24, 32, 40, 56, 80)),
                             (1e12, (32, 40, 56, 80, 112))), 3),
            "vae": (((6e9, (8, 12, 16, 24)), (2e10, (8, 12, 16, 24, 32)), (6e10, (12, 16, 24, 32, 48)),
                     (2e11, (16, 24, 32, 48, 64))), 4),
            "gan": (((1e10, (4, 8, 12, 16)), (3e10, (8, 12, 16, 24)), (9e10, (8, 12, 16, 24, 32)),
                     (2.7e11, (12, 16, 24, 32, 48))), 6)},
    "2h": {"transformer": (((1e11, (16, 24, 32, 48)), (4e11, (24, 32, 48, 64, 80)), (1.6e12, (32, 48, 64, 96, 128)),
                            (6.4e12, (48, 64, 96, 128, 176))), 3),
           "vae": (((2e10, (8, 12, 16, 24, 32)), (8e10, (12, 16, 24, 32, 48)), (3.2e11, (16, 24, 32, 48, 64)),
                    (1.3e12, (24, 32, 48, 64, 96))), 4),
           "gan": (((3e10, (8, 12, 16, 24)), (1.2e11, (8, 12, 16, 24, 32)), (5e11, (12, 16, 24, 32, 48)),
                    (2e12, (16, 24, 32, 48, 64))), 8)},
    "gpu": {"transformer": (((3e11, (24, 32, 40, 56, 80)), (3e12, (48, 64, 96, 128, 176)),
                             (3e13, (96, 128, 192, 256, 352)), (1e14, (160, 224, 288, 384, 512))), 4),
            "vae": (((2e11, (16, 24, 32, 48, 64)), (2e12, (24, 32, 48, 64, 112)), (2e13, (48, 64, 96, 128, 192)),
                     (2e14, (96, 128, 176, 256, 352))), 4),
            "gan": (((1e11, (8, 12, 16, 24, 32)), (1e12, (16, 24, 32, 48, 64)), (1e13, (24, 32, 48, 64, 96)),
                     (1e14, (48, 64, 96, 128, 192))), 8)}}


def parts(budget):
    return {family: Part([_recipes.at_compute(family, width, flops, seed)
                          for flops, widths in slices for width in widths for seed in range(seeds)],
                         _recipes.METRICS[family])
            for family, (slices, seeds) in SLICES[budget].items()}


def analyse(name: str, part: Trained) -> Finding:
    metric, valley_rule = _recipes.METRICS[name], "distance" if name == "gan" else "valley"
    points = laws.Runs.from_dataframe(part.runs, metric, params="params_non_embedding", data=SEEN[name], compute="flops")
    try:
        found = laws.isoflop(points, tolerance=0.2)
    except laws.LawError as error:
        none = Estimate(np.nan, np.nan, np.nan, len(part.runs), f"The slices have no optimum that could be read: {error}.")
        return Finding({"exponent": none, valley_rule: dataclasses.replace(none, note="")})
    low, high = found.interval("a")
    rises = [_doubled(found, row) for row in range(len(found.table)) if found.table.used[row]]
    lines = []
    for budget, slice_ in part.runs.assign(budget=_budgets(part.runs, found)).groupby("budget"):
        means = slice_.groupby("params_non_embedding")[metric].mean()
        lines.append(Line(f"{budget:.0e} FLOPs", list(means.index), list(means)))
    said = (f"The best D grows as C^{found.b:.2f}, 90% [{found.interval('b')[0]:.2f}, {found.interval('b')[1]:.2f}]. "
            "N counts no tables of tokens.")
    valley = Estimate(float(np.mean(rises)), min(rises), max(rises), len(part.runs),
                      "The interval of the valley is the range over the slices.")
    return Finding({"exponent": Estimate(found.a, low, high, len(part.runs)), valley_rule: valley},
                   Panel("parameters", find_metric(metric).label, lines, log_y=name == "gan"), said)


def _budgets(runs, found):
    """The budget of the slice that each run belongs to: the nearest one."""
    budgets = found.table["flops"].to_numpy()
    return budgets[np.abs(np.log(runs["flops"].to_numpy()[:, None] / budgets)).argmin(1)]


def _doubled(found, row) -> float:
    """The rise of the log loss where N is twice or half the best, by the curve of a slice."""
    sizes, losses = found.curve(row)
    best = int(np.argmin(losses))
    rises = [np.interp(np.log(sizes[best] * factor), np.log(sizes), np.log(losses)) - np.log(losses[best])
             for factor in (0.5, 2.0)]
    return float(max(rises))


CLAIM = Claim(
    id="split", statement="Compute has a best split between size and data, and the valley around it is flat.",
    source="Hoffmann et al. 2022, arXiv:2203.15556, table 2, approach 2 (N* ~ C^0.49, D* ~ C^0.51)",
    published={"transformer": "N* ~ C^0.49; nanochat C^0.54 or C^0.37 by two counts", "vae": "none was published",
               "gan": "none was published"},
    rules={"exponent": Criterion("the exponent of the best N in compute", 0.4, 0.6,
                                 why="Equal shares within a tenth. Kaplan's exponent, 0.73, lies outside."),
           "valley": Criterion("the rise of log loss at twice or half of the best N", high=0.02,
                               why="Two percent of the loss is about what half of the compute costs at this scale."),
           "distance": Criterion("the rise of the log Fréchet distance at twice or half of the best N", high=0.3,
                                 why="Half of the compute costs 0.32, where the distance falls as C^-0.456 (GAT, "
                                     "arXiv:2509.24935).")},
    parts=parts, analyse=analyse,
    cost={"5m": "26 runs of a Transformer in three slices, 42 of a VAE, and 52 of a GAN: half an hour of one core",
          "30m": "54 runs of a Transformer in four slices, 76 of a VAE, and 108 of a GAN",
          "2h": "57 runs, 80, and 152", "gpu": "80 runs, 80, and 160"},
    more="More slices, over a wider range of compute, would narrow the exponent. At such sizes it depends on how "
         "parameters are counted, since tables of tokens are half of all.")
