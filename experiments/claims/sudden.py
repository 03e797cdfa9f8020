"""Abilities appear suddenly while the loss is smooth: the same runs, by a threshold metric and by continuous ones."""

import numpy as np

from experiments.claims import _recipes, _scores
from scaling.claims import Claim, Criterion, Finding, Line, Panel, Part, Trained, statistics

SPAN, DIFFERENT = 16, 8  # bytes that must all be right; so many of them differ, which leaves out runs of spaces and lines
# (width, tokens) of each rung, about four times the compute of the one before; seeds;
# first seed: runs of earlier ones were seen, those of 0 to 2 under another rule, and those of 20 to 23 at the first budget
RUNGS = {"5m": (((8, 65_536), (16, 131_072), (24, 262_144), (40, 524_288), (64, 1_048_576)), 4, 20),
         "30m": (((8, 65_536), (16, 131_072), (24, 262_144), (40, 524_288), (64, 1_048_576), (112, 2_621_440)), 10, 40),
         "2h": (((8, 65_536), (16, 131_072), (24, 262_144), (40, 524_288), (64, 1_048_576), (112, 2_621_440),
                 (176, 6_291_456)), 10, 60),
         "gpu": (((16, 131_072), (32, 524_288), (64, 2_097_152), (128, 8_388_608), (256, 16_777_216), (512, 33_554_432)),
                 10, 80)}
TOKENS = 131_072  # that are evaluated


def parts(budget):
    rungs, seeds, first = RUNGS[budget]
    runs = [_recipes.transformer(width, tokens, first + seed) for width, tokens in rungs for seed in range(seeds)]
    return {"transformer": Part(runs, "bits_per_byte")}


def analyse(name: str, part: Trained) -> Finding:
    del name
    rows = [measure(run) for run in _scores.restored(part)]
    return judge(part.runs.assign(**{key: [row[key] for row in rows] for key in rows[0]}))


def measure(run) -> dict[str, float]:
    """The share of spans of SPAN bytes that greedy decoding would copy exactly, and the mean accuracy of a byte.

    Greedy decoding gives a span exactly where each of its bytes is the likeliest one after the true bytes before it.
    """
    tokens = _scores.held_out(run, TOKENS)
    right = _scores.token_scores(run, tokens)[1]
    return {"exact": exact_share(right, tokens[:, 1:], SPAN, DIFFERENT), "accuracy": float(right.mean())}


def exact_share(right, tokens, span: int, different: int) -> float:
    """Of all spans of so many neighbours in `tokens`, integer [n, S], with that many `different` ones: the share that is
    true throughout in `right`, bool [n, S]."""
    spans = [np.lib.stride_tricks.sliding_window_view(array, span, axis=1) for array in (right, tokens)]
    counted = 1 + (np.diff(np.sort(spans[1]), axis=-1) != 0).sum(-1) >= different
    return float(spans[0].all(-1)[counted].mean())


def judge(runs) -> Finding:
    """runs: the records, with `exact` and `accuracy`."""
    runs = runs.assign(gain=-runs["bits_per_byte"])
    estimates = {rule: statistics.jackknife(runs, lambda ladders, key=key: late(ladders, key), "seed")
                 for rule, key in (("threshold", "exact"), ("continuous", "gain"))}
    means = runs.groupby("flops")[["exact", "accuracy", "gain"]].mean()
    scaled = (means - means.iloc[0]) / (means.iloc[-1] - means.iloc[0])
    names = {"exact": f"{SPAN} bytes right", "accuracy": "one byte right", "gain": "bits per byte"}
    panel = Panel("FLOPs", "share of the whole improvement", [Line(named, list(means.index), list(scaled[key]))
                                                              for key, named in names.items()])
    first, last = means.iloc[0], means.iloc[-1]
    said = (f"Of the smallest and the largest model, {SPAN} bytes in a row are right {first['exact']:.2%} and "
            f"{last['exact']:.2%} of the time, one byte {first['accuracy']:.0%} and {last['accuracy']:.0%}, and the loss "
            f"is {-first['gain']:.2f} and {-last['gain']:.2f} bits per byte.")
    return Finding(estimates, panel, said)


def late(runs, key: str) -> float:
    """The share of a number's whole change that comes in the upper half of the ladder, by the logarithm of compute."""
    means = runs.groupby("flops")[key].mean()
    at = np.log(means.index.to_numpy())
    middle = np.interp((at[0] + at[-1]) / 2, at, means.to_numpy())
    return float((means.iloc[-1] - middle) / (means.iloc[-1] - means.iloc[0]))


CLAIM = Claim(
    id="sudden", statement="Abilities appear suddenly under a threshold metric, while the loss of the same runs is smooth.",
    source="Wei et al. 2022, arXiv:2206.07682; Schaeffer et al. 2023, arXiv:2304.15004: the metric makes the suddenness",
    published={"transformer": "92% of the sudden abilities of BIG-Bench are under two metrics, one of them exact match"},
    rules={"threshold": Criterion("the share of the rise of exact matches that comes in the upper half of the ladder",
                                  low=2 / 3, why="A straight line in log compute has one half. Twice as much in the upper "
                                                 "half as in the lower one looks sudden."),
           "continuous": Criterion("the share of the fall of the loss that comes in the upper half", high=0.6,
                                   why="A smooth fall has about one half, and 0.6 leaves room for a bend.")},
    parts=parts, analyse=analyse, cost={"5m": "20 runs on five rungs of compute", "30m": "60 runs on six rungs of compute",
                                      "2h": "70 runs on seven rungs", "gpu": "60 runs on six rungs of sixteen times"},
    more="An earlier rule, with spans of spaces among the others and a mean over seeds, left the exact matches undecided: "
         f"0.65 [0.03, 1.27]. Longer spans than {SPAN} bytes look more sudden, and shorter ones less: exact matches are a "
         "product of many probabilities, each of which grows smoothly.")
