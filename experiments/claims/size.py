"""The loss falls as a power of the number of parameters."""

import numpy as np

from experiments.claims import _recipes
from scaling.claims import Claim, Criterion, Finding, Line, Panel, Part, Trained, statistics

SIZES = {"5m": ((8, 16, 32, 64), 500_000, 3), "30m": ((8, 16, 24, 32, 48, 64, 96), 2_000_000, 3)}


def parts(budget):
    widths, tokens, seeds = SIZES[budget]
    runs = [_recipes.transformer(width, tokens, seed) for width in widths for seed in range(seeds)]
    return {"transformer": Part(runs, "bits_per_byte")}


def analyse(name: str, part: Trained) -> Finding:
    runs, metric = part.runs, "bits_per_byte"
    size, loss = np.log(runs["params_non_embedding"]), np.log(runs[metric])
    falls = statistics.slope(size, -loss)
    means = runs.groupby("params_non_embedding")[metric].mean()
    line = np.exp(np.log(means).mean() - falls.value * (np.log(means.index) - np.log(means.index).to_numpy().mean()))
    sizes = list(means.index)
    panel = Panel("parameters", "bits per byte", log_y=True, lines=[
        Line("measured", sizes, list(means)), Line(f"N^{-falls.value:.3f}", sizes, list(line), dots=False)])
    return Finding({"exponent": falls}, panel)


CLAIM = Claim(
    id="size", statement="The loss falls as a power of the number of parameters.",
    source="Kaplan et al. 2020, arXiv:2001.08361, equation 1.1",
    published={"transformer": "N^-0.076"},
    rules={"exponent": Criterion("the exponent by which the loss falls in N", low=0.02,
                            why="0.02 is a quarter of what was published; less would be no trend that anyone could use.")},
    parts=parts, analyse=analyse, cost={"5m": "12 runs", "30m": "21 runs"})
