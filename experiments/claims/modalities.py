"""Captions and images in one model: each loss falls with size, captions tell more about images, and competition shrinks."""

import numpy as np
import pandas as pd

from experiments._ladders import MULTIMODAL
from scaling.claims import Claim, Criterion, Finding, Line, Panel, Part, Trained, statistics

SIZES = {"5m": ((12, 16, 24, 32), 8_000), "30m": ((12, 20, 32, 48), 32_000), "2h": ((12, 20, 32, 48, 64), 96_000),
         "gpu": ((24, 48, 96, 192, 384), 1_000_000)}  # widths, pairs
SEEDS = 3
ALONE = {"text": {"family.share": 1.0, "family.image_weight": 0.0},
         "image": {"family.share": 0.0, "family.text_weight": 0.0}}


def parts(budget):
    widths, pairs = SIZES[budget]
    config = MULTIMODAL.config(**{"data.evaluation_examples": 1024})
    runs = [MULTIMODAL.run(config, width, pairs, seed=seed) for width in widths for seed in range(SEEDS)]
    ends = [run for run in runs if run.family.width in (widths[0], widths[-1])]
    runs += [run.replace(fields) for run in ends for fields in ALONE.values()]
    return {"multimodal": Part(runs, "loss")}


def analyse(name: str, part: Trained) -> Finding:
    """Runs with both losses knew both modalities; those with one of them alone are what they are compared with."""
    del name
    runs = part.runs
    both = runs[runs["image_information"].notna()]
    log_size = np.log10(both["params_non_embedding"])
    found = {f"{name}_falls": statistics.slope(log_size, np.log(both[f"loss_{name}"])) for name in ALONE}
    found["information"] = statistics.slope(log_size, both["image_information"])
    gaps = pd.concat([competition(runs, both, name) for name in ALONE])
    wide = gaps.pivot_table(index=["modality", "seed"], columns="params_non_embedding", values="gap").dropna()
    change = (wide.iloc[:, -1] - wide.iloc[:, 0]).groupby("seed").mean()
    found["competition"] = statistics.mean(change.to_numpy())
    means = both.groupby("params_non_embedding")["image_information"].mean()
    sides = gaps.groupby(["modality", "params_non_embedding"])["gap"].mean().reset_index()
    said = "One model of both has " + ", ".join(
        f"{'a higher' if gap > 0 else 'a lower'} loss of {name}s by {abs(gap):.1%} at {size:,.0f} parameters"
        for name, size, gap in sides.itertuples(index=False)) + " than one of that modality alone that saw the same pairs."
    return Finding(found, Panel("parameters", "bits that a caption tells about its image",
                                [Line("image information", list(means.index), list(means))]), said)


def competition(runs, both, name: str) -> pd.DataFrame:
    """A row for each size and seed: the relative `gap` of the loss of a modality in the model of both over the model of
    that modality alone."""
    metric, keys = f"loss_{name}", ["params_non_embedding", "seed"]
    alone = runs[runs[metric].notna() & runs["image_information"].isna()].set_index(keys)[metric]
    gap = (np.log(both.set_index(keys)[metric]) - np.log(alone)).dropna()
    return gap.rename("gap").reset_index().assign(modality=name)


CLAIM = Claim(
    id="modalities",
    statement="In one model of captions and images both losses fall with size, captions tell more about images, and "
              "modalities compete less.",
    source="Aghajanyan et al. 2023, arXiv:2301.03728 (sections 4 and 5: a law of each pair of modalities with a term of "
           "competition that turns into synergy with size and data)",
    published={"": "speech and text cross from competition to synergy near 28 billion parameters and 45 billion tokens"},
    rules={"text_falls": Criterion("slope of the log loss of captions alone in log10 N", high=0.0,
                                   why="A law of N falls; captions are short, so that no smaller slope is asked for."),
           "image_falls": Criterion("slope of the log loss of images alone in log10 N", high=-0.01,
                                    why="A loss that falls by less than 1% for ten times the parameters is hardly a law."),
           "information": Criterion("bits by which the information of a caption about its image grows, for ten times the "
                                    "parameters", low=0.1,
                                    why="A caption that names one of ten digits has 3.3 bits to tell; a tenth of a bit is "
                                        "the least that such an evaluation set shows."),
           "competition": Criterion("relative loss of the model of both over that of one modality on the same pairs, at "
                                    "the largest size less that at the smallest, mean of both modalities", high=0.0,
                                    why="Competition that shrinks with size makes it negative.")},
    parts=parts, analyse=analyse,
    cost={"5m": "24 runs of up to 24 thousand parameters over the codes of one tokenizer (not timed)",
          "30m": "24 runs (not timed)", "2h": "27 runs (not timed)", "gpu": "27 runs of up to millions of parameters"},
    more="More sizes between the two at which models of one modality are trained; equal compute in place of equal pairs.")
