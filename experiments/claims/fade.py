"""A better optimiser's gain fades with size: Muon against AdamW."""

import dataclasses
import math

import numpy as np

from experiments.claims import _recipes
from scaling import laws
from scaling.claims import Claim, Criterion, Estimate, Finding, Line, Panel, Part, Trained, statistics

METRICS = {"transformer": "bits_per_byte", "vae": "bits_per_dim"}
# (width, tokens or images) of each rung, seeds; and the first seed, since some were seen under another rule
FIRST = {"5m": 0, "30m": 40, "2h": 50, "gpu": 60}
RUNGS = {"5m": {"transformer": (((16, 131_072), (24, 262_144), (32, 524_288), (48, 1_048_576)), 4),
                "vae": (((8, 4_096), (12, 8_192), (16, 16_384), (24, 24_576)), 4)},
         "30m": {"transformer": (((16, 262_144), (24, 524_288), (32, 1_048_576), (48, 2_097_152), (64, 4_194_304)), 4),
                 "vae": (((8, 8_192), (12, 16_384), (16, 32_768), (24, 65_536), (32, 131_072)), 4)},
         "2h": {"transformer": (((16, 262_144), (24, 524_288), (32, 1_048_576), (48, 2_097_152), (64, 4_194_304),
                                 (96, 8_388_608)), 5),
                "vae": (((8, 8_192), (12, 16_384), (16, 32_768), (24, 65_536), (32, 131_072), (48, 262_144)), 5)},
         "gpu": {"transformer": (((32, 1_048_576), (64, 4_194_304), (128, 12_582_912), (256, 25_165_824),
                                  (512, 50_331_648)), 5),
                 "vae": (((16, 32_768), (32, 131_072), (64, 524_288), (128, 1_048_576), (256, 2_097_152)), 5)}}
ADAMW = {"transformer": {"optim.name": "adamw", "optim.table_rate": 16.0}, "vae": {"optim.name": "adamw"}}
# AdamW's rate over Muon's at the smallest and at the largest rung, where configs/recipe_optimiser.py tuned it with seeds
# 900 and 901 and factors of 2.
FACTORS = {"transformer": (0.45, 0.6), "vae": (0.11, 0.35)}


def parts(budget):
    found = {}
    for family, (rungs, seeds) in RUNGS[budget].items():
        runs = []
        for width, amount in rungs:
            for seed in range(FIRST[budget], FIRST[budget] + seeds):
                muon = getattr(_recipes, family)(width, amount, seed)
                runs += [muon, muon.replace(ADAMW[family] | {"optim.learning_rate": _rate(muon, family, width, rungs)})]
        found[family] = Part(runs, METRICS[family])
    return found


def _rate(muon, family, width, rungs):
    """The rate of AdamW: that of Muon times a factor, which is a power of the width between the two that were tuned."""
    ends = np.log([rungs[0][0], rungs[-1][0]])
    factor = np.exp(np.interp(math.log(width), ends, np.log(FACTORS[family])))
    return float(f"{muon.optim.learning_rate * factor:.3g}")


def analyse(name: str, part: Trained) -> Finding:
    runs = part.runs.assign(loss=part.runs[METRICS[name]], rung=part.runs["params_total"])
    base, change = (laws.make_ladder(optimiser, METRICS[name], runs.loc[
        runs["optim.name"] == optimiser, ["rung", "flops", "loss", "seed"]]) for optimiser in ("adamw", "muon"))
    found = laws.speedup(base, change)
    slope, first = found.evidence.slope, found.evidence.first
    straight = found.evidence.fits and found.evidence.shaped
    said = f"{found.because} By the rule of docs/compare.md the gain {found.verdict}."
    if found.verdict == "cannot tell":
        said = found.because
    table = found.table
    trend = Estimate(slope.value, slope.low, slope.high, len(runs)) if straight else bent(table, len(runs))
    gain = Estimate(*np.exp([first.value, first.low, first.high]).tolist(), len(runs))
    lines = [Line("measured", *(list(table[column]) for column in ("flops", "speedup", "low", "high")))]
    if straight:
        lines.append(Line("line", list(table["flops"]), [math.exp(found.at(flops).value) for flops in table["flops"]],
                          dots=False))
    panel = Panel("FLOPs", "speed-up of Muon over AdamW", lines, log_y=True)
    return Finding({"trend": trend, "gain": gain}, panel, said)


def bent(table, runs: int) -> Estimate:
    """The slope of speed-ups that do not lie on a line, with an interval from their distances to it."""
    known = table[np.isfinite(table["speedup"])]
    if len(known) < 3:
        return Estimate(math.nan, math.nan, math.nan, runs, "Fewer than three rungs have a speed-up.")
    found = statistics.slope(np.log10(known["flops"]), np.log(known["speedup"]))
    return dataclasses.replace(found, runs=runs, note="The speed-ups do not lie on a line. The interval of the slope comes "
                                                      "from their distances to it.")


CLAIM = Claim(
    id="fade", statement="A better optimiser's gain fades with size.",
    source="Wen et al. 2025, arXiv:2509.02046: Muon over AdamW, both tuned at every size, from 0.1 to 1.2 billion "
           "parameters",
    published={"transformer": "speed-ups of 1.31, 1.23, 1.19 and 1.14; log -0.064 for each tenfold of compute",
               "vae": "none was published"},
    rules={"trend": Criterion("the change of the log speed-up for each tenfold of compute", high=0.0,
                              why="A gain fades where this is negative; the published one falls by 0.064."),
           "gain": Criterion("the speed-up at the smallest rung, by the line", low=1.0,
                             why="There must be a gain that can fade.")},
    parts=parts, analyse=analyse,
    cost={"5m": "32 runs of a Transformer on four rungs, 32 of a VAE", "30m": "40 runs of each, on five rungs",
          "2h": "60 runs of each, on six rungs", "gpu": "50 runs of each, on five rungs of up to 3 million parameters"},
    more="Muon's rates are those of the shared recipes. AdamW's are a multiple of them, which pilots with other seeds gave "
         "at the smallest and at the largest rung, a power of the width in between. Rates tuned at every rung would be "
         "stronger evidence, since a base with a poor rate shows a gain that is not there.")
