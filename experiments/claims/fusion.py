"""Early fusion of raw patches writes captions of images as well as late fusion over codes, and better in small models.

Late fusion reads the codes of a tokenizer that was trained on its own and stays as it is. Early fusion reads the pixels of
each patch by a linear map. The nats of codes and of pixels differ in kind, so that the captions of images decide: their
bytes are the same in both. The source's models only write text, and so what is drawn is told beside and decides nothing.
"""

import math

import numpy as np
import pandas as pd

from experiments._ladders import MULTIMODAL
from experiments.claims import _scores
from scaling import cost
from scaling.claims import Claim, Criterion, Finding, Line, Panel, Part, Trained, statistics
from scaling.families._pairs import written

# widths, pairs of a model of codes, images of the tokenizer, samples of each run
SIZES = {"5m": ((16, 32), 7_000, 12_000, 512), "30m": ((16, 24, 32, 48), 32_000, 32_000, 1024),
         "2h": ((16, 24, 32, 48, 64), 96_000, 64_000, 1024), "gpu": ((32, 64, 128, 256), 500_000, 250_000, 1024)}
SEEDS = 4
EARLY, LATE = "patches", "codes"
KIND = "family.images"
NAME = math.log(10)  # nats of one of ten names that are equally likely
CAPTIONS = 1024  # of the evaluation set, whose bytes are counted


def parts(budget):
    widths, pairs, tokenized, samples = SIZES[budget]
    shared = {"data.evaluation_examples": CAPTIONS, "data.samples": samples}
    configs = {kind: MULTIMODAL.config(**shared, **{KIND: kind}) for kind in (LATE, EARLY)}
    configs[LATE].tokenizer_amount = tokenized
    runs = []
    for number, width in enumerate(widths):
        each = {kind: _pair_flops(MULTIMODAL.run(config, width, pairs)) for kind, config in configs.items()}
        for seed in range(number * SEEDS, (number + 1) * SEEDS):  # a seed belongs to one width
            runs += [MULTIMODAL.run(config, width, pairs * each[LATE] / each[kind], seed=seed)
                     for kind, config in configs.items()]
    return {"multimodal": Part(runs, "loss_text_given_image")}


def _pair_flops(run) -> float:
    """The FLOPs of one pair in training, those of the tokenizer that makes its codes included."""
    return cost.train_flops(run.family, run.data.batch) / run.data.per_step


def analyse(name: str, part: Trained) -> Finding:
    del name
    run = _scores.restored(part)[0]
    captions = run.source.evaluation(run.source.splits[0], CAPTIONS)["caption"]
    return judge(part.runs, float(np.asarray(written(captions)).sum(-1).mean()))


def judge(runs: pd.DataFrame, tokens: float) -> Finding:
    """The finding, from records of the runs and the number of tokens of a caption, its end included."""
    runs = runs.assign(nats=runs["loss_text_given_image"] * tokens, place=runs["seed"] // SEEDS)
    excess = statistics.paired(runs, "nats", KIND, LATE, EARLY, ["seed"], log=False)
    sides = runs.pivot_table(index=["place", "seed"], columns=KIND, values="nats")
    gaps = (sides[EARLY] - sides[LATE]).dropna().rename("gap").reset_index()
    table = gaps.assign(again=gaps["seed"] % SEEDS).pivot(index="again", columns="place", values="gap")
    change = (table.iloc[:, 0] - table.iloc[:, -1]).dropna()
    last = runs[runs["place"] == runs["place"].max()]
    told = {kind: statistics.mean(last.loc[last[KIND] == kind, "text_information"].to_numpy()) for kind in (EARLY, LATE)}
    best = max(told.values(), key=lambda found: found.value)
    lines = []
    for kind, label in ((EARLY, "early fusion, of patches"), (LATE, "late fusion, over codes")):
        means = runs[runs[KIND] == kind].groupby("place")[["flops", "nats"]].mean()
        lines.append(Line(label, list(means["flops"]), list(means["nats"])))
    return Finding({"captions": excess, "small": statistics.mean(change.to_numpy()), "read": best},
                   Panel("FLOPs", "nats of a caption given its image", lines), _drawn(last))


def _drawn(last) -> str:
    """What the largest models draw of captions, as a sentence for the page; nothing where no samples were judged."""
    metrics = ["fd_infinity_relative", "agreement"]
    if not set(metrics) <= set(last):
        return ""
    means = last.groupby(KIND)[metrics].mean()
    said = [f"{means.loc[kind, 'agreement']:.0%} of the images that the largest models of {kind} draw agree with their "
            f"captions, at a relative FD of {means.loc[kind, 'fd_infinity_relative']:.3g}" for kind in (EARLY, LATE)]
    return "Beside the rule, " + ", and ".join(said) + "."


CLAIM = Claim(
    id="fusion",
    statement="Early fusion of raw patches writes captions of images as well as late fusion over codes at equal compute, "
              "and better in small models.",
    source="Shukor et al. 2025, arXiv:2504.07951 (abstract: no inherent advantage of late fusion, and early fusion is "
           "stronger at lower parameter counts)",
    published={"": "early fusion as good or slightly better at equal compute, with its advantage at the smaller sizes"},
    rules={"captions": Criterion("nats of a caption given its image, of early fusion over late fusion at equal compute, "
                                 "mean of all sizes", high=0.1 * NAME,
                                 why="One of ten names has 2.30 nats; one that loses a tenth of a name is not as good."),
           "small": Criterion("that excess at the smallest size less that at the largest, in nats", high=0.0,
                              why="The claim is about the sign: early fusion stands better the smaller the model."),
           "read": Criterion("bits that an image tells about its caption, in the largest models of the better kind", 0.5,
                             why="One of ten names has 3.3 bits. Where no model reads images, both kinds are as good, and "
                                 "nothing is compared.")},
    parts=parts, analyse=analyse,
    cost={"5m": "16 runs of two sizes, half of them over the codes of one tokenizer, 6.6e11 FLOPs (not timed)",
          "30m": "32 runs of four sizes, half of them over the codes of one tokenizer (not timed)",
          "2h": "40 runs of five sizes, half of them over the codes of one tokenizer (not timed)",
          "gpu": "32 runs of four sizes, of up to 1.6 million parameters, half of them over codes (not timed)"},
    more="FLOPs include those by which the tokenizer makes codes, and not its training, which late fusion has for free. "
         "The source trains the encoder of late fusion along. All runs have the rate that a pilot on codes gave; models of "
         "patches had none (configs/multimodal.py:patches-rates is theirs). One tokenizer serves all runs over codes, so "
         "that the intervals know nothing of others. More seeds narrow them: if the excess of a pair scatters by 0.2 nats, "
         "its mean over 8 pairs is known to 0.13, and the change between two sizes of 4 pairs each to 0.33.")
