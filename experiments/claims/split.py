"""Compute has a best split between size and data, and the valley around it is flat."""

import numpy as np

from experiments.claims import _recipes
from scaling import cost, laws
from scaling.claims import Claim, Criterion, Estimate, Finding, Line, Panel, Part, Trained
from scaling.results.metrics import find_metric

METRIC = "bits_per_byte"
# FLOPs of each slice, the width in its middle, seeds
SLICES = {"5m": ((2e10, 16), (6e10, 24), (1.8e11, 32)), "30m": ((3e10, 16), (1e11, 24), (3e11, 40), (1e12, 56))}
STEPS, SEEDS = (-2, -1, 0, 1, 2), {"5m": 2, "30m": 3}


def parts(budget):
    runs = []
    for flops, middle in SLICES[budget]:
        widths = sorted({max(8, 8 * round(middle * 1.4**step / 8)) for step in STEPS})
        runs += [_at_compute(width, flops, seed) for width in widths for seed in range(SEEDS[budget])]
    return {"transformer": Part(runs, METRIC)}


def _at_compute(width, flops, seed):
    """A run of about this compute: its tokens follow from the FLOPs of one."""
    one = _recipes.transformer(width, 2**18, seed)
    return _recipes.transformer(width, flops / (cost.train_flops(one.family, one.data.batch) / one.data.per_step), seed)


def analyse(name: str, part: Trained) -> Finding:
    del name
    points = laws.Runs.from_dataframe(part.runs, METRIC, params="params_non_embedding", data="tokens_seen", compute="flops")
    found = laws.isoflop(points, tolerance=0.2)
    low, high = found.interval("a")
    valley = [_doubled(found, row) for row in range(len(found.table)) if found.table.used[row]]
    lines = []
    for budget, slice_ in part.runs.assign(budget=_budgets(part.runs, found)).groupby("budget"):
        means = slice_.groupby("params_non_embedding")[METRIC].mean()
        lines.append(Line(f"{budget:.0e} FLOPs", list(means.index), list(means)))
    said = (f"The best D grows as C^{found.b:.2f}, 90% [{found.interval('b')[0]:.2f}, {found.interval('b')[1]:.2f}]. "
            "N counts no tables of tokens.")
    return Finding({"exponent": Estimate(found.a, low, high, len(part.runs)),
                    "valley": Estimate(float(np.mean(valley)), min(valley), max(valley), len(part.runs),
                                       "The interval of the valley is the range over the slices.")},
                   Panel("parameters", find_metric(METRIC).label, lines), said)


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
    published={"transformer": "N* ~ C^0.49; nanochat C^0.54 or C^0.37 by two counts"},
    rules={"exponent": Criterion("the exponent of the best N in compute", 0.4, 0.6,
                                 why="Equal shares within a tenth. Kaplan's exponent, 0.73, lies outside."),
           "valley": Criterion("the rise of log loss at twice or half of the best N", high=0.02,
                               why="Two percent of the loss is about what half of the compute costs at this scale.")},
    parts=parts, analyse=analyse, cost={"5m": "30 runs in three slices", "30m": "60 runs in four slices"},
    more="More slices, over a wider range of compute, would narrow the exponent. At such sizes it depends on how "
         "parameters are counted, since tables of tokens are half of all.")
