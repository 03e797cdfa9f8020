"""Pretraining saves labels: a few labels are worth many times as many without it, and the more in larger models."""

import math

import numpy as np

from experiments.claims import _encoders
from scaling import laws
from scaling.claims import Claim, Criterion, Estimate, Finding, Line, Panel, Part, Trained, statistics

# widths, bytes of pretraining, labels of the pretrained runs, labels of those from scratch, seeds
SIZES = {"5m": ((16, 24, 32), 1_048_576, (64, 256), (64, 256, 1024, 2048), 3),
         "30m": ((16, 24, 40, 64), 4_194_304, (64, 256, 1024), (64, 256, 1024, 4096, 16_384), 4),
         "2h": ((16, 32, 64, 96), 8_388_608, (64, 256, 1024), (64, 256, 1024, 4096, 16_384), 5),
         "gpu": ((32, 64, 128, 256), 25_165_824, (64, 256, 1024), (64, 256, 1024, 4096, 16_384), 8)}
N, START = "params_non_embedding", "start.fingerprint"


def parts(budget):
    widths, tokens, tuned, scratch, seeds = SIZES[budget]
    runs = []
    for width in widths:
        for seed in range(seeds):
            base = _encoders.pretrained(width, tokens, seed)
            runs += [_encoders.classifier(width, labels, seed=seed, base=base) for labels in tuned]
            runs += [_encoders.classifier(width, labels, seed=seed) for labels in scratch]
    return {"labels": Part(runs, "loss")}


def analyse(name: str, part: Trained) -> Finding:
    del name
    runs = part.runs.assign(labels=part.runs["examples_unique"], error=1 - part.runs["accuracy"],
                            tuned=part.runs[START].notna())
    return judge(runs)


def worth(runs):
    """What pretraining is worth, from the means over seeds: the table of `laws.effective_data`, with labels for D, and
    `least`, whether D_E is only known to be at least the most labels from scratch.

    Errors rather than losses are compared, because the loss of a run that knows its few labels by heart says little.
    """
    sides = [laws.Runs.from_dataframe(runs[runs["tuned"] == side], "error", params=N, data="labels")
             for side in (False, True)]
    found = laws.effective_data(*sides)
    scratch = runs[~runs["tuned"]].groupby([N, "labels"])["error"].mean()
    best = found["N"].map(scratch.groupby(N).min())
    most, fewest = (runs.loc[~runs["tuned"], "labels"].agg(end) for end in ("max", "min"))
    ends = np.where(found["loss"] < best, most, fewest)  # outside of what the runs from scratch reach
    whole = found["D_E"].where(found["D_E"].notna(), ends)
    return found.assign(D_E=whole, D_T=whole - found["D_F"], least=found["loss"] < best)


def judge(runs) -> Finding:
    """runs: a row for each run on labels, with N, its labels, whether it was tuned, its error and its seed."""
    table = worth(runs)
    few = table["D_F"].min()
    top = table[(table["N"] == table["N"].max()) & (table["D_F"] == few)].iloc[0]
    logs = statistics.jackknife(runs, lambda some: math.log(times(worth(some))), "seed")
    note = "The error is lower than any from scratch, so the number is a lower bound." if top["least"] else ""
    factor = Estimate(math.exp(logs.value), *(math.inf if top["least"] and end is logs.high else math.exp(end)
                                              for end in (logs.low, logs.high)), len(runs), note)
    estimates = {"times": factor}
    if table["least"].any() or (table["D_T"] <= 0).any():
        said = "Some runs are better than all from scratch, or not better than their own labels: no exponent is fitted."
        estimates["size"] = Estimate(math.nan, math.nan, math.nan, len(runs), said)
    else:
        estimates["size"] = statistics.jackknife(runs, lambda some: exponents(worth(some))["N"], "seed")
        found = exponents(table)
        said = (f"The labels that pretraining is worth grow as D_F^{found['D_F']:.2f} N^{found['N']:.2f}, where the source "
                "has exponents of 0.18 and 0.38.")
    lines = [Line(f"{n:,.0f}", list(own["D_F"]), list(own["D_E"] / own["D_F"])) for n, own in table.groupby("N")]
    said += f" {top['D_F']:.0f} labels are worth {times(table):.1f} times as many in the largest model."
    return Finding(estimates, Panel("labels", "times as many labels from scratch", lines, log_y=True, labels="N"), said)


def times(table) -> float:
    """How many times as many labels the fewest are worth in the largest model."""
    top = table[table["N"] == table["N"].max()].sort_values("D_F").iloc[0]
    return float(top["D_E"] / top["D_F"])


def exponents(table) -> dict[str, float]:
    """{"D_F" and "N": exponents} of D_T = k D_F^a N^b, by least squares of logarithms; NaN unless all D_T are positive."""
    if not (table["D_T"] > 0).all():
        return {"D_F": math.nan, "N": math.nan}
    design = np.stack([np.ones(len(table)), np.log(table["D_F"]), np.log(table["N"])], 1)
    found = np.linalg.lstsq(design, np.log(table["D_T"]), rcond=None)[0]
    return {"D_F": float(found[1]), "N": float(found[2])}


CLAIM = Claim(
    id="pretraining",
    statement="Pretraining saves labels: a few are worth ten times as many and more, and more in larger models.",
    source="Howard & Ruder 2018, arXiv:1801.06146 (ULMFiT), abstract and section 5.1; Hernandez et al. 2021, "
           "arXiv:2102.01293, equation 1.2",
    published={"labels": "100 labels are worth 10 to 20 times as many, and 50 to 100 times with "
                         "more text; D_T = k D_F^0.18 N^0.38"},
    rules={"times": Criterion("how many times as many labels from scratch the fewest labels are worth in the largest model",
                              low=10.0, why="Ten times is the least that was published."),
           "size": Criterion("the exponent in N of the labels that pretraining adds", low=0.0,
                             why="The published exponent is 0.38; larger models should gain more.")},
    parts=parts, analyse=analyse,
    cost={"5m": "54 runs on 64 to 2048 labels; 18 begin with 9 encoders of 6 to 25 thousand parameters",
          "30m": "128 runs on 64 to 16,384 labels; 48 begin with 16 encoders of 6 to 100 thousand parameters, not timed",
          "2h": "160 runs on 64 to 16,384 labels; 60 begin with 20 encoders of 6 to 220 thousand parameters, not timed",
          "gpu": "256 runs on 64 to 16,384 labels; 96 begin with 32 encoders of up to 1.6 million parameters, not timed"},
    more="More text, other text than that of the evaluated functions, and larger encoders. Runs from scratch and those "
         "that are pretrained have one learning rate each.")
