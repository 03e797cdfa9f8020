"""Encoders of Python that tell the package of a function: pretrained on masked text, and on so many labels.

The functions are those of the standard library, which any machine has; the text of pretraining holds the evaluated
functions too, without their labels. Pretraining has Muon, at a rate that pilots found. Bits per byte of masked ones,
of width 32 on 524 thousand bytes: in batches of 4, Muon 3.08 (0.005), 2.95 (0.01) and 2.95 (0.02), AdamW 3.41 (0.002)
and 3.31 (0.004); in batches of 16, Muon 3.34 (0.01), 3.10 (0.02) and 3.10 (0.04), AdamW 3.86 (0.004) and 3.60
(0.008). On labels AdamW is as good as Muon: 1,024 labels from scratch give a loss of 2.164 (0.004) and 2.216 (0.008),
and 2.190 (0.02) by Muon; 256 labels from pretrained layers 2.180 (0.002) and 2.200 (0.004), and 2.177 (0.0025) by
Muon. A linear head has 2.202 (0.005), 2.185 (0.01), 2.172 (0.03) and 2.164 (0.1) on 1,024 labels.
"""

import functools

from scaling import experiment
from scaling.experiment import Experiment, RateRule, Start

TAKEN = ("embed", "layers", "norm")  # what a model of masked tokens and one of classes share
LENGTH, HEAD = 128, 16
RATES = {"scratch": 4e-3, "tuned": 2e-3, "probe": 1e-1}
PRETRAINING, RULE = 0.014, RateRule(seen=2**19, batch=4)  # the base rate and where it is meant for
LEAST_STEPS, BATCH, EVALUATED = 128, 8, 2048  # of runs on labels; 2048 texts have a standard error of one percent


def pretrained(width: int, tokens: int, seed: int = 0, layers: int = 2) -> Experiment:
    """An encoder that learns masked bytes of the standard library."""
    return RULE(_first("text", width, layers).replace({
        "data.batch": RULE.batch, "data.tokens": tokens, "data.evaluation_tokens": 65_536, "optim.name": "muon",
        "optim.warmup": 50, "optim.learning_rate": PRETRAINING, "seed": seed}))


def classifier(width: int, labels: int, epochs: int = 4, seed: int = 0, layers: int = 2,
               base: Experiment | None = None, trainable: str = "all") -> Experiment:
    """An encoder that sees each of so many labelled functions `epochs` times or, where these are few, trains for
    LEAST_STEPS steps.

    base: the pretrained encoder that it begins with. trainable: as in `optim.trainable`.
    """
    kind = "scratch" if base is None else "probe" if trainable == "head" else "tuned"
    run = _first("labelled", width, layers).replace({
        "data.batch": BATCH, "data.unique_examples": labels, "data.evaluation_examples": EVALUATED,
        "data.examples": max(LEAST_STEPS, labels * epochs // BATCH) * BATCH, "optim.warmup": 8,
        "optim.learning_rate": RATES[kind], "optim.trainable": trainable, "seed": seed})
    return run if base is None else run.replace({"start": Start(base, {f"model/{n}": f"model/{n}" for n in TAKEN})})


@functools.cache
def _first(kind: str, width: int, layers: int) -> Experiment:
    return experiment.from_config(experiment.config("masked", kind, **{
        "family.width": width, "family.layers": layers, "family.head_dim": HEAD, "data.length": LENGTH}))
