"""The exponent in the number of parameters is the data's: about 4 over the dimension of the data."""

import math

import numpy as np
import pandas as pd

from experiments.claims import _recipes
from scaling.claims import Claim, Criterion, Estimate, Finding, Line, Panel, Part, Trained, statistics
from scaling.data.glyphs.render import RANGES

# The factors of one letter that are switched on one after another, so that images fill a surface of so many dimensions.
FACTORS = ("shift_x", "shift_y", "rotation", "size", "shear", "stroke", "contrast", "ground")
PIXELS = 256
METRIC = "bits_per_dim"
DIMENSIONS = (1, 2, 4, 8)
SIZES = {"5m": ((8, 16, 32), 2**14, 3), "30m": ((8, 12, 24, 48), 2**16, 3), "2h": ((8, 16, 32, 64), 2**17, 4),
         "gpu": ((16, 32, 64, 128, 256), 2**21, 5)}  # widths, images, seeds


def letter_with(dimension: int) -> str:
    """The name of images of this many dimensions."""
    return f"glyphs/letters:{','.join(FACTORS[:dimension])}"


def parts(budget):
    widths, images, seeds = SIZES[budget]
    return {"vae": Part([_recipes.vae(width, images, seed, data=letter_with(dimension)) for dimension in DIMENSIONS
                         for width in widths for seed in range(seeds)], METRIC)}


def factor_bits(dimension: int) -> float:
    """The entropy of the first factors, in bits per pixel: at least that of the images that follow from them."""
    bits = 0.0
    for name in FACTORS[:dimension]:
        if name == "ground":  # is uniform up to what the contrast leaves
            least, most = (255 * limit // 4096 for limit in RANGES["contrast"])
            bits += float(np.log2(256 - np.arange(least, most + 1)).mean())
        else:
            bits += math.log2(RANGES[name][1] - RANGES[name][0] + 1)
    return bits / PIXELS


def tabulate(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run: seed, dimension, parameters N, and the loss beyond the entropy of the factors."""
    dimension = runs["data.name"].map({letter_with(dimension): dimension for dimension in DIMENSIONS})
    return pd.DataFrame({"seed": runs["seed"], "dimension": dimension, "size": runs["params_non_embedding"],
                         "loss": runs[METRIC] - dimension.map(factor_bits)})


def exponents(table: pd.DataFrame) -> pd.DataFrame:
    """The exponent by which the loss falls in N, at least 0.001: a row for each seed, a column for each dimension."""
    found = {(seed, dimension): -np.polyfit(np.log(each["size"]), np.log(each["loss"].clip(1e-6)), 1)[0]
             for (seed, dimension), each in table.groupby(["seed", "dimension"])}
    return pd.Series(found).clip(1e-3).unstack()


def analyse(name: str, part: Trained) -> Finding:
    del name
    table = tabulate(part.runs)
    found = exponents(table)
    logs = np.log(found)
    fall = [-np.polyfit(np.log(found.columns.to_numpy(float)), row, 1)[0] for row in logs.to_numpy()]
    product = statistics.mean((logs + np.log(found.columns.to_numpy(float))).mean(axis=1))
    product = Estimate(*(float(np.exp(bound)) for bound in (product.value, product.low, product.high)), len(table))
    means = found.mean()
    dimensions = [int(dimension) for dimension in means.index]
    panel = Panel("dimensions of the data d", "exponent of the loss in N", log_y=True, lines=[
        Line("measured", dimensions, list(means), list(found.min()), list(found.max())),
        Line("4/d", dimensions, [4 / dimension for dimension in dimensions], dots=False)])
    said = ("Images of one letter of which d factors vary; the loss is counted beyond the entropy of the factors, which is "
            "at least that of the images, so that exponents are rather too large. They are "
            f"{', '.join(f'{value:.3f} at d = {each}' for each, value in zip(dimensions, means))}.")
    return Finding({"falls": statistics.mean(fall), "product": product}, panel, said)


CLAIM = Claim(
    id="dimension", statement="The exponent in N is the data's: about 4 over their dimension.",
    source="Sharma & Kaplan 2020, arXiv:2004.10802, abstract (students of teachers with few features)",
    published={"": "N^-(4/d)"},
    rules={"falls": Criterion("the power k for which the exponent in N falls as d^-k", 0.5, 1.5,
                              why="The claim is 1, and 0 would be an exponent that does not know the data."),
           "product": Criterion("the exponent in N times the dimension d, in the geometric mean over d", 2.0, 8.0,
                                why="The claim is 4; within a factor of two it would still be of use.")},
    parts=parts, analyse=analyse,
    cost={"5m": "36 runs of 6 to 60 thousand parameters", "30m": "48 runs of 6 to 130 thousand parameters",
          "2h": "64 runs of 6 to 220 thousand parameters", "gpu": "100 runs of 18 thousand to 3 million parameters"},
    more="Longer runs: the theory is about models that have learnt all that their parameters allow, and a short run stops "
         "before. The exponent at one dimension, 4, takes data and steps without end to see.")
