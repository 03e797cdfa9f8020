"""The exponent in the number of parameters is the data's: about 4 over the dimension of the data."""

import math

import numpy as np
import pandas as pd

from experiments.claims import _recipes
from scaling.claims import Claim, Criterion, Finding, Line, Panel, Part, Trained, statistics
from scaling.data.glyphs.render import RANGES

# The factors of one letter that are switched on one after another, so that images fill a surface of so many dimensions.
FACTORS = ("shift_x", "shift_y", "rotation", "size", "shear", "stroke", "contrast", "ground")
PIXELS = 256
METRICS = {"vae": "bits_per_dim", "transformer": "excess"}
# dimensions, widths, images or tokens, seeds. A chain of d + 1 hidden states has beliefs of d dimensions.
SIZES = {"5m": {"vae": ((1, 2, 4, 8), (8, 16, 32), 2**14, 3), "transformer": ((1, 3, 9), (8, 16, 32), 2**20, 3)},
         "30m": {"vae": ((1, 2, 4, 8), (8, 12, 24, 48), 2**16, 3),
                 "transformer": ((1, 2, 4, 8, 16), (8, 16, 32), 2**22, 4)}}


def data_of(family: str, dimension: int) -> str:
    """The name of the data of this many dimensions."""
    return f"glyphs/letters:{','.join(FACTORS[:dimension])}" if family == "vae" else f"hmm:{dimension + 1}"


def parts(budget):
    return {name: Part([getattr(_recipes, name)(width, amount, seed, data=data_of(name, dimension))
                        for dimension in dimensions for width in widths for seed in range(seeds)], METRICS[name])
            for name, (dimensions, widths, amount, seeds) in SIZES[budget].items()}


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


def tabulate(name: str, runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run: seed, dimension, parameters N, and the loss beyond the entropy of the data."""
    by_name = {data_of(name, dimension): dimension for dimension in range(1, 65 if name != "vae" else len(FACTORS) + 1)}
    dimension = runs["data.name"].map(by_name)
    known = dimension.map(factor_bits) if name == "vae" else 0.0
    return pd.DataFrame({"seed": runs["seed"], "dimension": dimension, "size": runs["params_non_embedding"],
                         "loss": runs[METRICS[name]] - known})


def exponents(table: pd.DataFrame) -> pd.DataFrame:
    """The exponent by which the loss falls in N, at least 0.001: a row for each seed, a column for each dimension."""
    found = {(seed, dimension): -np.polyfit(np.log(each["size"]), np.log(each["loss"].clip(1e-6)), 1)[0]
             for (seed, dimension), each in table.groupby(["seed", "dimension"])}
    return pd.Series(found).clip(1e-3).unstack()


def analyse(name: str, part: Trained) -> Finding:
    table = tabulate(name, part.runs)
    found = exponents(table)
    logs = np.log(found)
    fall = [-np.polyfit(np.log(found.columns.to_numpy(float)), row, 1)[0] for row in logs.to_numpy()]
    product = statistics.mean((logs + np.log(found.columns.to_numpy(float))).mean(axis=1))
    product = type(product)(*(float(np.exp(bound)) for bound in (product.value, product.low, product.high)), len(table))
    means = found.mean()
    dimensions = [int(dimension) for dimension in means.index]
    panel = Panel("dimensions of the data d", "exponent of the loss in N", log_y=True, lines=[
        Line("measured", dimensions, list(means), list(found.min()), list(found.max())),
        Line("4/d", dimensions, [4 / dimension for dimension in dimensions], dots=False)])
    what = ("Images of one letter of which d factors vary; the loss is counted beyond the entropy of the factors, which is "
            "at least that of the images." if name == "vae" else
            "Tokens of a hidden Markov chain of d + 1 states, whose beliefs fill d dimensions; the loss is counted beyond "
            "the entropy of the tokens, which is known.")
    said = f"{what} Exponents: {', '.join(f'{value:.3f} at d = {each}' for each, value in zip(dimensions, means))}."
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
    cost={"5m": "36 runs of a VAE of 6 to 60 thousand parameters, 27 runs of a Transformer of 1 to 12 thousand",
          "30m": "48 runs of a VAE of 6 to 130 thousand parameters, 60 runs of a Transformer of 1 to 12 thousand"},
    more="Longer runs: the theory is about models that have learnt all that their parameters allow, and a short run stops "
         "before. The exponent at one dimension, 4, takes data and steps without end to see.")
