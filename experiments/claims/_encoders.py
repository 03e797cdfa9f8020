"""Encoders of Python that tell the package of a function: pretrained on masked text, and on so many labels.

As in configs/pretrain.py, whose learning rates they have. The functions are those of the standard library, which any
machine has; the text of pretraining holds the evaluated functions too, without their labels.
"""

import functools

from scaling import experiment
from scaling.experiment import Experiment, Start

TAKEN = ("embed", "layers", "norm")  # what a model of masked tokens and one of classes share
LENGTH, HEAD = 128, 16
RATES = {"pretraining": 4e-3, "scratch": 4e-3, "tuned": 2e-3, "probe": 1e-2}
LEAST_STEPS, BATCH, EVALUATED = 128, 8, 2048  # of runs on labels; 2048 texts have a standard error of one percent


def pretrained(width: int, tokens: int, seed: int = 0, layers: int = 2) -> Experiment:
    """An encoder that learns masked bytes of the standard library."""
    return _first("text", width, layers).replace({
        "data.batch": 16, "data.tokens": tokens, "data.evaluation_tokens": 65_536, "optim.warmup": 50,
        "optim.learning_rate": RATES["pretraining"], "seed": seed})


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
